"""Data in: files, tables of other packages, extracts, connectors in Python, syncs, rebuilds."""

import datetime
import pathlib
import sys
import threading
import time
import traceback

import duckdb
import pandas
import polars
import pyarrow
import pytest

import agnes

from .conftest import DATA

ORDERS = {"id": [1, 2, 3], "status": ["paid", "open", None], "amount": [9.5, 20.0, 0.25]}


def tables_of(db):
    return sorted(name for name, in db.sql("SHOW TABLES").fetchall())


def test_files_become_tables(db):
    report = db.ingest("aviation", DATA / "aviation")
    assert {t["table"]: t["rows"] for t in report["tables"]} == {"airports": 3376, "flights": 2000}
    assert sorted(report["registered"]) == ["airports", "flights"]
    heard = []
    report = db.rebuild(progress=lambda what, done, total: heard.append((what, done, total)))
    assert report["published"] and sorted(report["created"]) == ["airports", "flights"]
    assert heard and all(done <= total for _, done, total in heard)
    assert tables_of(db) == ["airports", "flights"]
    publication = db.publication()
    assert publication["tables"] == 2 and publication["at"].tzinfo == datetime.timezone.utc
    # Nothing has changed.
    assert db.rebuild()["published"] is False


def test_options_of_files_are_those_of_the_connector(db, tmp_path):
    file = tmp_path / "codes.csv"
    file.write_text("code;name\n01;one\n")
    db.ingest("codes", file, delimiter=";")
    db.rebuild()
    assert db.sql("FROM codes").fetchall() == [("01", "one")]
    with pytest.raises(agnes.InvalidError, match="delimter"):
        db.ingest("codes", file, delimter=";")
    with pytest.raises(agnes.NotFoundError) as raised:
        db.ingest("codes", tmp_path / "missing.csv")
    assert isinstance(raised.value, LookupError) and raised.value.code == "NotFound"
    assert "missing.csv" in raised.value.context["path"]


@pytest.mark.parametrize(
    "make",
    [
        pyarrow.table,
        polars.DataFrame,
        pandas.DataFrame,
        lambda data: pyarrow.table(data).to_batches()[0],
        lambda data: duckdb.from_arrow(pyarrow.table(data)),
    ],
    ids=["pyarrow", "polars", "pandas", "batch", "duckdb"],
)
def test_tables_of_every_package_come_in(db, make):
    report = db.ingest("shop", {"orders": make(ORDERS)})
    assert [(t["table"], t["status"], t["rows"]) for t in report["tables"]] == [
        ("orders", "created", 3)
    ]
    db.rebuild()
    rows = db.sql("SELECT * FROM orders ORDER BY id").fetchall()
    assert rows == [(1, "paid", 9.5), (2, "open", 20.0), (3, None, 0.25)]


def test_what_has_no_rows_is_refused(db):
    with pytest.raises(agnes.InvalidError, match="a `dict` has no rows.*pyarrow"):
        db.ingest("shop", {"orders": ORDERS})
    with pytest.raises(agnes.InvalidError, match="options are for files"):
        db.ingest("shop", {"orders": pyarrow.table(ORDERS)}, delimiter=";")
    with pytest.raises(ValueError, match="no letter"):
        db.ingest("shop", {"or'ders": pyarrow.table(ORDERS)})


def test_a_writer_publishes_at_the_end_of_its_block_or_nothing(db):
    with db.extract_writer("crm") as extract:
        extract.table("orders", pyarrow.table(ORDERS), description="one row for each order")
        extract.shard("visits", "2026-01", pyarrow.table({"n": [1, 2]}))
        extract.shard("visits", "2026-02", pyarrow.table({"n": [3]}))
        extract.table_from_sql("numbers", "SELECT range AS n FROM range(5)")
    assert db.check("crm") == {
        "source": "crm",
        "tables": ["numbers", "orders", "visits"],
        "findings": [],
    }
    assert agnes.check(db.path / "extracts" / "crm")["tables"] == ["numbers", "orders", "visits"]
    with pytest.raises(ZeroDivisionError):
        with db.extract_writer("crm") as extract:
            extract.table("other", pyarrow.table(ORDERS))
            1 / 0
    assert db.check("crm")["tables"] == ["numbers", "orders", "visits"]
    with db.extract_writer("crm", mode="partial") as extract:
        extract.remove("numbers")
    assert db.check("crm")["tables"] == ["orders", "visits"]
    with pytest.raises(agnes.InvalidError, match="finished"):
        extract.table("late", pyarrow.table(ORDERS))
    with pytest.raises(agnes.ConflictError):
        with agnes.ExtractWriter(db.path / "extracts" / "twice") as extract:
            extract.table("a", pyarrow.table(ORDERS))
            extract.table("a", pyarrow.table(ORDERS))
    with pytest.raises(agnes.InvalidError, match="`replace` or `partial`"):
        db.extract_writer("crm", mode="some")


def test_a_stream_that_fails_leaves_the_extract_as_it_was(db):
    def batches():
        yield pyarrow.record_batch({"n": [1]})
        raise RuntimeError("the source has gone away")

    schema = pyarrow.schema({"n": pyarrow.int64()})
    reader = pyarrow.RecordBatchReader.from_batches(schema, batches())
    with pytest.raises(agnes.InvalidError, match="the source has gone away"):
        db.ingest("shop", {"orders": reader})
    assert not (db.path / "extracts" / "shop").exists()


def test_a_writer_writes_one_table_after_the_other(db):
    def batches(extract):
        extract.table("inner", pyarrow.table(ORDERS))
        yield pyarrow.record_batch({"n": [1]})

    schema = pyarrow.schema({"n": pyarrow.int64()})
    with db.extract_writer("shop") as extract:
        reader = pyarrow.RecordBatchReader.from_batches(schema, batches(extract))
        with pytest.raises(agnes.InvalidError, match="one after the other"):
            extract.table("outer", reader)
        extract.table("after", pyarrow.table(ORDERS))
    assert db.check("shop")["tables"] == ["after"]


class Weather:
    """A connector of a configuration."""

    jobs = []

    def __init__(self, config):
        self.days = config["days"]

    def extract(self, job):
        Weather.jobs.append(job)
        if self.days < 0:
            raise ValueError("there are no days below zero")
        rows = pyarrow.table({"day": range(self.days), "at": [job.now] * self.days})
        job.writer.table("forecast", rows, description="what comes")


def of_config(path, days):
    config = {"sources": {"meteo": {"connector": "weather", "config": {"days": days}}}}
    return agnes.open(path, config=config, connectors={"weather": Weather})


def test_a_connector_in_python_runs_in_a_sync(tmp_path):
    with of_config(tmp_path, 3) as db:
        report = db.sync()
        assert report["sources"][0]["tables"] == [
            {"table": "forecast", "rows": 3, "status": "created"}
        ]
        assert report["rebuild"]["created"] == ["forecast"]
        assert db.sql("SELECT max(day) FROM forecast").fetchone() == (2,)
        job = Weather.jobs[-1]
        assert job.source == "meteo" and job.tables is None and job.now.tzinfo is not None
        assert db.sync("meteo")["sources"][0]["tables"][0]["status"] == "replaced"
        with pytest.raises(agnes.NotFoundError):
            db.sync("other")
    with of_config(tmp_path, -1) as db:
        failed = db.sync(all=True)["sources"][0]
        assert failed["status"] == "failed"
        assert "ValueError" in failed["error"]["message"]
        # What it had brought before stays.
        assert db.sql("SELECT count(*) FROM forecast").fetchone() == (3,)


def test_a_connector_in_python_runs_by_itself(db):
    db.ingest("meteo", Weather({"days": 2}))
    db.rebuild()
    assert db.sql("SELECT count(*) FROM forecast").fetchone() == (2,)
    with pytest.raises(agnes.ContractError, match="`ValueError`: there are no days") as raised:
        db.ingest("meteo", Weather({"days": -1}))
    assert isinstance(raised.value.__cause__, ValueError)

    class Polite:
        def extract(self, job):
            raise agnes.UnavailableError("the source sleeps", {"source": "meteo"})

    with pytest.raises(agnes.UnavailableError, match="the source sleeps") as raised:
        db.ingest("meteo", Polite())
    assert raised.value.retryable


def test_what_ends_a_program_isnt_kept_from_it(db):
    class Interrupted:
        def extract(self, job):
            raise KeyboardInterrupt

    class Own(agnes.LimitError):
        pass

    class Limited:
        def extract(self, job):
            raise Own("too much", {"source": "meteo", "colour": "blue"})

    with pytest.raises(KeyboardInterrupt):
        db.ingest("meteo", Interrupted())
    with pytest.raises(Own) as raised:
        db.ingest("meteo", Limited())
    assert raised.value.context["colour"] == "blue"


def test_what_has_no_end_or_no_meaning_is_refused(tmp_path):
    endless = {}
    endless["query"] = endless
    for wrong in (endless, {"query": {"time_seconds": float("nan")}}, {"query": {1, 2}}):
        with pytest.raises(agnes.InvalidError):
            agnes.open(tmp_path, config=wrong)
    with pytest.raises(agnes.NotFoundError, match="typo.yaml"):
        agnes.open(tmp_path, config=tmp_path / "typo.yaml")
    with agnes.open(tmp_path) as db:
        with pytest.raises(agnes.InvalidError, match="no table"):
            db.ingest("shop", {"orders": pyarrow.array([1, 2])})
        with pytest.raises(agnes.InvalidError, match="not both"):
            db.sync("shop", all=True)


def test_a_vault_that_fails_is_heard(tmp_path):
    class Vault(dict):
        def __getitem__(self, name):
            raise OSError("the vault is sealed")

    config = {"query": {"time_seconds": "${SECONDS}"}}
    with pytest.raises(agnes.ContractError, match="sealed") as raised:
        agnes.open(tmp_path, config=config, secrets=Vault())
    assert isinstance(raised.value.__cause__, OSError)
    with pytest.raises(agnes.InvalidError, match="`SECONDS` is no string"):
        agnes.open(tmp_path, config=config, secrets={"SECONDS": 5})
    # Nor is one that fails later taken for a variable that isn't set.
    with agnes.open(tmp_path, secrets=Vault()) as db:
        with pytest.raises(agnes.UnavailableError, match="can't be had") as raised:
            db.as_token("anything")
        assert "sealed" not in str(raised.value)
        assert isinstance(raised.value.__cause__, OSError)

    class Waiting(dict):
        def __getitem__(self, name):
            raise KeyboardInterrupt

    with agnes.open(tmp_path, secrets=Waiting()) as db, pytest.raises(KeyboardInterrupt):
        db.as_token("anything")


def test_a_connector_keeps_no_writer(db):
    begun = threading.Event()
    caller = threading.get_ident()
    kept = []

    class Late:
        def __arrow_c_stream__(self, requested_schema=None):
            batch = pyarrow.record_batch({"id": [1]})

            def batches():
                begun.set()
                # Until the connector's code has ended.
                while any(frame.f_code.co_name == "extract" for frame, _ in frames()):
                    time.sleep(0.01)
                yield batch

            reader = pyarrow.RecordBatchReader.from_batches(batch.schema, batches())
            return reader.__arrow_c_stream__(requested_schema)

    def frames():
        return traceback.walk_stack(sys._current_frames()[caller])

    class Hasty:
        def extract(self, job):
            kept.append(job.writer)
            self.thread = threading.Thread(target=job.writer.table, args=("late", Late()))
            self.thread.start()
            begun.wait()

    connector = Hasty()
    # What its thread has begun is written before the extract is finished.
    assert [table["table"] for table in db.ingest("shop", connector)["tables"]] == ["late"]
    connector.thread.join()
    with pytest.raises(agnes.InvalidError, match="is finished"):
        kept[0].finish()


def test_what_progress_raises_comes_out_of_the_call(db):
    def progress(what, done, total):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        db.ingest("aviation", DATA / "aviation", progress=progress)


def test_a_provider_in_python_knows_of_remote_tables(tmp_path):
    def provider(table):
        if table["source_table"] == "broken":
            raise OSError("the warehouse is closed")
        if table["source_table"] == "unknown":
            return None
        return {"rows": 1_000_000, "size_bytes": 64_000_000, "known_columns": ["id"]}

    with agnes.open(tmp_path, metadata_providers={"dwh": provider}) as db:
        for name in ("orders", "broken", "unknown"):
            db.register(name, "dwh", query_mode="remote", bucket="sales", source_table=name)
        report = db.refresh_metadata()
        counts = (report["succeeded"], report["no_data"], report["failed"])
        assert report["total"] == 3 and counts == (1, 1, 1)
        assert report["started_at"].tzinfo is not None
        rows = {row["table_id"]: row for row in db.metadata_status()["tables"]}
        assert rows["orders"]["rows"] == 1_000_000 and rows["orders"]["freshness"] == "fresh"
        assert rows["orders"]["refreshed_at"].tzinfo == datetime.timezone.utc
        assert "the warehouse is closed" in rows["broken"]["error_msg"]
        assert db.refresh_metadata("orders")["status"] == "ok"


def test_the_configuration_may_be_a_file_with_variables(tmp_path):
    instance = tmp_path / "config" / "instance.yaml"
    instance.parent.mkdir()
    (instance.parent / "orders.csv").write_text("id\n1\n")
    instance.write_text(
        "sources:\n  shop:\n    connector: files\n    config: {paths: ['${FILE}']}\n"
        "query: {time_seconds: 5}\nqury: {}\n"
    )
    with pytest.warns(UserWarning, match="did you mean `query`"):
        db = agnes.open(tmp_path / "data", config=instance, secrets={"FILE": "orders.csv"})
    with db:
        assert db.plan_sync()["sources"][0]["source"] == "shop"
        db.sync()
        assert tables_of(db) == ["orders"]
    with pytest.raises(agnes.InvalidError, match="time_seconds"):
        agnes.open(tmp_path / "data", config={"query": {"time_seconds": "soon"}})


def test_a_folder_is_had_by_one_process_until_it_is_closed(tmp_path):
    db = agnes.open(str(tmp_path / "data"))
    db.ingest("shop", {"orders": pyarrow.table(ORDERS)})
    db.rebuild()
    session, rows = db.session(), db.sql("FROM orders")
    assert pathlib.Path(db.path).is_absolute()
    db.close()
    db.close()
    for call in (db.users, session.tables, rows.fetchall, lambda: db.sql("SELECT 1")):
        with pytest.raises(agnes.InvalidError, match="closed"):
            call()
    assert "closed" in repr(db) and "closed" in repr(session)
    with agnes.open(tmp_path / "data") as again:
        assert len(again.sql("FROM orders").fetchall()) == 3

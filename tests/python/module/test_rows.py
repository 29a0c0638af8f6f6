"""Rows out: for every package, as they come, ended by Ctrl-C; and what is wrong with a statement."""

import datetime
import decimal
import os
import signal
import subprocess
import sys
import threading
import time

import duckdb
import pandas
import polars
import pyarrow
import pytest

import agnes

from .conftest import ADA


def test_the_same_rows_for_every_package(published):
    rows = published.sql("SELECT iata, latitude FROM airports ORDER BY iata LIMIT 3")
    assert rows.columns == ["iata", "latitude"] and rows.types == ["VARCHAR", "DOUBLE"]
    listed = rows.fetchall()
    assert listed[0] == ("00M", 31.95376472)
    assert rows.truncated is False
    assert rows.fetchone() == listed[0]
    for frame in (rows.to_polars(), polars.DataFrame(rows)):
        assert isinstance(frame, polars.DataFrame) and frame.rows() == listed
    for table in (rows.to_arrow(), pyarrow.table(rows)):
        assert table.column("iata").to_pylist() == [row[0] for row in listed]
    frame = rows.to_pandas()
    assert isinstance(frame, pandas.DataFrame) and frame["latitude"].tolist() == [
        row[1] for row in listed
    ]
    assert duckdb.sql("SELECT * FROM rows ORDER BY iata").fetchall() == listed
    assert pyarrow.schema(rows).names == ["iata", "latitude"]


def test_values_are_pythons_own(db):
    row = db.sql(
        """SELECT true, 1::TINYINT, -2::BIGINT, 18446744073709551615::UBIGINT, 170141183460469231731687303715884105727::HUGEINT,
        1.5::FLOAT, 2.5, 3.25::DECIMAL(5, 2), 'é', '\\xAA'::BLOB, DATE '2026-02-03', TIME '04:05:06.789',
        TIMESTAMP '2026-02-03 04:05:06.789', TIMESTAMPTZ '2026-02-03 04:05:06+02', [1, NULL], {'a': 1, 'b': ['x']},
        MAP {'k': 1}, NULL, INTERVAL 3 DAY, 'f47ac10b-58cc-4372-a567-0e02b2c3d479'::UUID,
        'b'::ENUM('a', 'b')"""
    ).fetchone()
    utc = datetime.timezone.utc
    assert row[:18] == (
        True,
        1,
        -2,
        2**64 - 1,
        2**127 - 1,
        1.5,
        decimal.Decimal("2.5"),
        decimal.Decimal("3.25"),
        "é",
        b"\xaa",
        datetime.date(2026, 2, 3),
        datetime.time(4, 5, 6, 789000),
        datetime.datetime(2026, 2, 3, 4, 5, 6, 789000),
        datetime.datetime(2026, 2, 3, 2, 5, 6, tzinfo=utc),
        [1, None],
        {"a": 1, "b": ["x"]},
        {"k": 1},
        None,
    )
    assert "3" in row[18] and row[19:] == ("f47ac10b-58cc-4372-a567-0e02b2c3d479", "b")
    kinds = db.sql("SELECT 1::BIGINT, uuid(), [1], {'a': 1::UTINYINT}, MAP {'k': 1}, TIME '01:02:03', ''::BLOB")
    assert kinds.types == [
        "BIGINT", "UUID", "INTEGER[]", "STRUCT(a UTINYINT)", "MAP(VARCHAR, INTEGER)", "TIME", "BLOB",
    ]
    # What Python's own types can't hold is a text.
    for sql, text in {
        "DATE '10000-01-01'": "+10000-01-01",
        "TIMESTAMPTZ '12000-01-01 00:00:00+00'": "+12000-01-01T00:00:00Z",
        "'infinity'::TIMESTAMP": "infinity",
        "'-infinity'::TIMESTAMPTZ": "-infinity",
        "'infinity'::DATE": "infinity",
        "TIME '24:00:00'": "24:00:00",
        "MAP {TIME '24:00:00': 1}": {"24:00:00": 1},
        "TIMESTAMP_NS '2026-02-03 04:05:06.123456789'": "2026-02-03T04:05:06.123456789",
    }.items():
        rows = db.sql(f"SELECT {sql}")
        assert rows.fetchone() == (text,)
        assert "ERROR" not in rows._repr_html_()


def test_parameters_are_bound(db):
    now = datetime.datetime(2026, 2, 3, 4, 5, 6, 7, tzinfo=datetime.timezone.utc)
    given = [None, True, 2**62, 1.5, "'; DROP TABLE x", b"\x00", now]
    rows = db.sql("SELECT ?, ?, ?, ?, ?, ?, ?", given).fetchall()
    assert rows == [(*given[:-1], now.replace(tzinfo=None))]
    assert db.sql("SELECT $1 + $1", parameters=(21,)).fetchone() == (42,)
    with pytest.raises(agnes.InvalidError, match="1 parameters"):
        db.sql("SELECT ?")
    # What comes out goes in again.
    for value in (now.replace(tzinfo=None), datetime.date(2026, 2, 3), "é", 1.5):
        kind = type(value).__name__
        given = {"datetime": "TIMESTAMP", "date": "DATE", "str": "VARCHAR", "float": "DOUBLE"}[kind]
        row = db.sql(f"SELECT ?::{given}", [value]).fetchone()
        assert row == (value,) and db.sql(f"SELECT $1::{given} = $1", list(row)).fetchone()[0]
    for wrong in (1j, 2**63, "\ud800"):
        with pytest.raises(agnes.InvalidError, match="no parameter"):
            db.sql("SELECT ?", [wrong])


def test_limits_are_asked_for(db):
    many = "SELECT * FROM range(1000000)"
    rows = db.sql(many, max_rows=10)
    assert rows.truncated is None
    assert len(rows.fetchall()) == 10 and rows.truncated is True
    # None is set unless somebody asks.
    assert db.sql(many).to_arrow().num_rows == 1_000_000
    with pytest.raises(agnes.LimitError, match="0.2 s") as raised:
        db.sql("SELECT count(*) FROM range(1e12::BIGINT)", timeout=0.2).fetchall()
    assert raised.value.context["reason"] == "timeout"
    with pytest.raises(agnes.InvalidError, match="no time in seconds"):
        db.sql("SELECT 1", timeout=-1)


def test_rows_are_read_as_they_come(db):
    reader = pyarrow.RecordBatchReader.from_stream(db.sql("SELECT * FROM range(1e11::BIGINT)"))
    first = reader.read_next_batch()
    assert first.num_rows > 0
    # Dropping it ends the statement: four others may run.
    del reader, first
    for _ in range(8):
        db.sql("SELECT * FROM range(1e11::BIGINT)")


def test_a_session_that_is_closed_gives_its_turns_back(db):
    with db.session() as session:
        rows = [session.sql("SELECT * FROM range(1e11::BIGINT)") for _ in range(4)]
    assert db.sql("SELECT 1").fetchone() == (1,)
    with pytest.raises(agnes.InvalidError, match="closed"):
        rows[0].fetchall()


def test_rows_are_read_by_packages_that_let_go_of_the_interpreter(db):
    class Slow:
        def extract(self, job):
            # Longer than signals are looked for, within a call of the core.
            table = pyarrow.table(db.sql("SELECT sum(range) AS total FROM range(1000000000)"))
            job.writer.table("totals", table)

    db.ingest("slow", Slow())
    db.rebuild()
    assert db.sql("FROM totals").fetchall() == [(499999999500000000,)]


ENDLESS = "SELECT max(a.range * b.range) FROM range(1e6::BIGINT) a, range(1e6::BIGINT) b"
HANDLED = """
import agnes, signal, threading, os
import pyarrow
class Alarm(Exception): pass
def alarm(*_): raise Alarm("rings")
signal.signal(signal.SIGALRM, alarm)
signal.signal(signal.SIGINT, signal.SIG_IGN)
db = agnes.open({folder!r})
# What it imports, it has.
pyarrow.table(db.sql("SELECT 1"))
signal.setitimer(signal.ITIMER_REAL, 0.5)
try:
    try:
        {read}
    except pyarrow.ArrowException:
        print("pyarrow's", end=" ")
    for _ in range(1000):
        pass
except Alarm as raised:
    print(raised)
"""


@pytest.mark.parametrize("read", ["pyarrow.table(rows)", "rows.fetchall()"])
def test_whatever_a_signals_handler_raises_is_raised_once(tmp_path, read):
    read = f"rows = db.sql({ENDLESS!r}); {read}"
    program = HANDLED.format(folder=str(tmp_path), read=read)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    # A package that reads by itself may say first that its rows have ended, in its own words.
    assert done.stdout.removeprefix("pyarrow's ") == "rings\n" and done.returncode == 0, done.stderr


def test_errors_say_what_to_do(published):
    ada = published.as_user(ADA)
    for query, error in [
        ("SELEC 1", agnes.InvalidError),
        ("DROP TABLE airports", agnes.DeniedError),
        ("FROM flights", agnes.DeniedError),
        ("FROM nowhere", agnes.DeniedError),
        ("FROM read_csv('/etc/passwd')", agnes.DeniedError),
    ]:
        with pytest.raises(error) as raised:
            ada.sql(query)
        assert isinstance(raised.value, agnes.AgnesError) and raised.value.code in str(error)
    with pytest.raises(PermissionError):
        ada.sql("FROM flights")
    hidden, absent = (
        pytest.raises(agnes.DeniedError, ada.sql, f"FROM {name}").value
        for name in ("flights", "flighty")
    )
    assert str(hidden).replace("flights", "X") == str(absent).replace("flighty", "X")


def test_a_notebook_sees_a_table_and_no_markup(db):
    html = db.sql("SELECT '<script>' AS \"<b>\", 1 AS n UNION ALL SELECT 'x', 2")._repr_html_()
    assert "&lt;script&gt;" in html and "&lt;b&gt;" in html and "<script>" not in html
    assert "the first" not in html
    rows = db.sql("SELECT * FROM range(100000)")
    assert "the first 20 rows" in rows._repr_html_() and "more rows" in str(rows)
    # Whoever has looked reads all of them all the same.
    assert rows.to_arrow().num_rows == 100_000
    assert repr(rows) == "<agnes.Rows range BIGINT>"


def test_what_was_shown_to_its_end_is_not_run_again(db):
    rows = db.sql("SELECT uuid() AS id")
    shown = rows._repr_html_()
    assert rows.fetchone()[0] in shown and rows.to_polars()["id"][0] in shown


def test_other_threads_work_while_a_statement_runs(db):
    ticks = 0
    done = threading.Event()

    def tick():
        nonlocal ticks
        while not done.is_set():
            ticks += 1
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    with pytest.raises(agnes.LimitError):
        db.sql("SELECT count(*) FROM range(1e12::BIGINT)", timeout=1).fetchall()
    done.set()
    thread.join()
    assert ticks > 50


def cpu_seconds(pid):
    """The CPU time that a process has had: it computes once that grows."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


READS = ["rows.fetchall()", "rows.to_polars()", "rows.to_arrow()", "pyarrow.table(rows)", "polars.DataFrame(rows)"]


@pytest.mark.parametrize("read", READS)
def test_ctrl_c_ends_a_statement(tmp_path, read):
    program = f"""
import agnes, polars, pyarrow
db = agnes.open({str(tmp_path)!r})
rows = db.sql("SELECT 1")
# What it imports, it has.
{read}
print("begun", flush=True)
try:
    rows = db.sql({ENDLESS!r})
    try:
        {read}
    # A package that reads by itself may say first that its rows have ended, in its own words.
    except (pyarrow.ArrowException, polars.exceptions.ComputeError) as error:
        assert {read!r} in ("pyarrow.table(rows)", "polars.DataFrame(rows)"), error
    for _ in range(1000):
        pass
except KeyboardInterrupt:
    print("interrupted", db.sql("SELECT 42").fetchone()[0], flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    begun = cpu_seconds(process.pid)
    while cpu_seconds(process.pid) < begun + 0.3:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert out == "interrupted 42\n"

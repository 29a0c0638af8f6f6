"""Processes that are killed at any moment, while others read."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import duckdb
import pytest

from conftest import write_inbox

KILLS = 200

READER = """
import sys, time, duckdb
database, stop = sys.argv[1], sys.argv[2]
import os
reads = 0
while not os.path.exists(stop):
    con = duckdb.connect(":memory:")
    con.execute(f"ATTACH '{database}' AS s (READ_ONLY)")
    a, b = con.execute("SELECT (SELECT max(v) FROM s.a), (SELECT max(v) FROM s.b)").fetchone()
    tables = con.execute("SELECT count(*) FROM duckdb_views() WHERE database_name = 's' AND NOT internal").fetchone()[0]
    assert tables == 2, f"torn catalog: {tables} views"
    assert a == b, f"torn catalog: {a} {b}"
    con.close()
    reads += 1
print(reads)
"""

WRITER = """
import duckdb, sys, os
folder, version = sys.argv[1], sys.argv[2]
os.makedirs(folder + "/data", exist_ok=True)
con = duckdb.connect()
for table in ("a", "b"):
    con.execute(f"COPY (SELECT {version} AS v, range AS r FROM range(1000)) TO '{folder}/data/{table}_{version}.parquet' (FORMAT parquet)")
tmp = folder + "/extract.duckdb.tmp"
if os.path.exists(tmp): os.remove(tmp)
con.execute(f"ATTACH '{tmp}' AS e")
con.execute("CREATE TABLE e._meta (table_name VARCHAR, description VARCHAR, rows BIGINT, size_bytes BIGINT, extracted_at TIMESTAMP, query_mode VARCHAR)")
for table in ("a", "b"):
    con.execute(f"CREATE VIEW e.{table} AS SELECT * FROM read_parquet('{folder}/data/{table}_{version}.parquet')")
    con.execute("INSERT INTO e._meta VALUES (?, NULL, 1000, 0, TIMESTAMP '2026-01-01', 'local')", [table])
con.execute("CHECKPOINT e"); con.execute("DETACH e")
os.rename(tmp, folder + "/extract.duckdb")
"""


def write(folder, version):
    """One version of both tables, switched over in one rename."""
    exec(compile(WRITER.replace("sys.argv[1], sys.argv[2]", repr((str(folder), str(version)))), "writer", "exec"), {})
    for old in folder.glob("data/*.parquet"):
        if not old.stem.endswith(f"_{version}"):
            old.unlink()


def start(agnes, *arguments):
    return subprocess.Popen(
        [agnes.command, "--data-dir", str(agnes.data), *map(str, arguments)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )


def kill_somewhere(process, longest):
    try:
        process.wait(random.random() * longest)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()


def test_rebuilds_that_are_killed_harm_no_reader(agnes, tmp_path):
    folder = agnes.data / "extracts/s"
    write(folder, 0)
    begin = time.monotonic()
    agnes("rebuild")
    longest = time.monotonic() - begin
    stop = tmp_path / "stop"
    database = agnes.data / "analytics/server.duckdb"
    readers = [
        subprocess.Popen([sys.executable, "-c", READER, str(database), str(stop)],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    random.seed(7)
    for version in range(1, KILLS + 1):
        write(folder, version)
        kill_somewhere(start(agnes, "rebuild"), longest * 1.2)
    stop.touch()
    for reader in readers:
        out, err = reader.communicate()
        assert reader.returncode == 0, err
        assert int(out) > 0
    write(folder, KILLS + 1)
    agnes("rebuild")
    rows = agnes("query", "SELECT max(a.v), max(b.v) FROM a, b", "--format", "csv").stdout.splitlines()
    assert rows[1] == f"{KILLS + 1},{KILLS + 1}"
    # Nothing of the killed ones is left, and the sync state has caught up.
    analytics = agnes.data / "analytics"
    assert not list(analytics.glob("*.tmp*")) and not (analytics / "applying").exists()
    assert not list((analytics / "pins/s").glob(".*"))
    status = json.loads(agnes("status", "--json").stdout)
    assert {t["rows"] for t in status["tables"]} == {1000}


def test_ingests_that_are_killed_leave_the_old_extract_or_the_new(agnes, tmp_path):
    inbox = tmp_path / "in"
    write_inbox(inbox, 0, 2000)
    begin = time.monotonic()
    agnes("ingest", "s", inbox)
    longest = time.monotonic() - begin
    random.seed(11)
    for version in range(1, KILLS + 1):
        write_inbox(inbox, version, 2000)
        kill_somewhere(start(agnes, "ingest", "s", inbox), longest * 1.3)
        con = duckdb.connect()
        con.execute(f"ATTACH '{agnes.data}/extracts/s/extract.duckdb' AS e (READ_ONLY)")
        a, b = con.execute("SELECT (SELECT max(v) FROM e.a), (SELECT max(v) FROM e.b)").fetchone()
        assert a == b, "half of a new extract"
        con.close()
        agnes("check", agnes.data / "extracts/s")
    write_inbox(inbox, 999, 2000)
    agnes("ingest", "s", inbox)
    agnes("rebuild")
    assert "999,999" in agnes("query", "SELECT max(a.v), max(b.v) FROM a, b", "-f", "csv").stdout
    left = sorted(p.name for p in (agnes.data / "extracts").iterdir())
    assert left == [".s.lock", "s"], left


def test_two_processes_rebuild_at_once(agnes):
    write(agnes.data / "extracts/s", 1)
    for _ in range(5):
        both = [start(agnes, "rebuild") for _ in range(3)]
        for process in both:
            _, err = process.communicate()
            assert process.returncode == 0, err
        write(agnes.data / "extracts/s", random.randrange(10**6))


@pytest.mark.parametrize("way", ["replace", "rewrite"])
def test_a_connector_writes_while_rebuilds_and_queries_run(agnes, way):
    folder = agnes.data / "extracts/s"
    write(folder, 1)
    for table in ("a", "b"):
        os.rename(folder / f"data/{table}_1.parquet", folder / f"data/{table}.parquet")
    con = duckdb.connect()
    (folder / "extract.duckdb").unlink()
    con.execute(f"ATTACH '{folder}/extract.duckdb' AS e")
    con.execute("CREATE TABLE e._meta (table_name VARCHAR)")
    for table in ("a", "b"):
        con.execute(f"CREATE VIEW e.{table} AS SELECT * FROM read_parquet('{folder}/data/{table}.parquet')")
        con.execute("INSERT INTO e._meta VALUES (?)", [table])
    con.execute("DETACH e")
    agnes("rebuild")
    for version in range(2, 22):
        rebuild = start(agnes, "rebuild")
        query = subprocess.Popen(
            [agnes.command, "-d", str(agnes.data), "query", "SELECT DISTINCT v FROM a", "-f", "csv"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for table in ("a", "b"):
            new = folder / f"data/{table}.new"
            con.execute(f"COPY (SELECT {version} AS v, range AS r FROM range(1000)) TO '{new}' (FORMAT parquet)")
            if way == "replace":
                os.rename(new, folder / f"data/{table}.parquet")
            else:
                (folder / f"data/{table}.parquet").write_bytes(new.read_bytes())
                new.unlink()
        out, err = query.communicate()
        assert query.returncode == 0, err
        assert len(out.split()) == 2, "rows of two contents"
        rebuild.communicate()
    agnes("rebuild")
    assert agnes("query", "SELECT DISTINCT v FROM a", "-f", "csv").stdout.split() == ["v", "21"]

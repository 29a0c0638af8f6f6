"""What Agnes writes opens in DuckDB clients of other versions, from any working directory."""

import fcntl
import os
import pathlib
import subprocess
import sys
import venv

import pytest

from conftest import TOP

CACHE = pathlib.Path(os.environ.get("AGNES_CACHE") or pathlib.Path.home() / ".cache/agnes")

# Extracts open in all of them, the analytics database from 1.4 on.
VERSIONS = ["1.1.3", "1.4.4", "1.5.5"] + (["2.0.0"] if sys.version_info >= (3, 11) else [])


@pytest.fixture(scope="module", params=VERSIONS)
def client(request):
    """A Python that has this version of the duckdb package."""
    name = f"duckdb-client-{request.param}-{sys.version_info[0]}.{sys.version_info[1]}"
    home = CACHE / name
    python = home / "bin" / "python"
    home.parent.mkdir(parents=True, exist_ok=True)
    # Tests run side by side, in several clones maybe.
    with open(home.with_name(name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        make(home, python, request.param)
    return request.param, python


def make(home, python, version):
    if not (home / "ready").exists():
        venv.create(home, with_pip=True, clear=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
             f"duckdb=={version}"],
            check=True,
        )
        (home / "ready").touch()


def ask(python, database, sql):
    program = (
        "import duckdb, sys; con = duckdb.connect(sys.argv[1], read_only=True); "
        "print(con.execute(sys.argv[2]).fetchall())"
    )
    done = subprocess.run(
        [python, "-c", program, str(database), sql], capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_extracts_and_analytics_open(agnes, client):
    version, python = client
    agnes("ingest", "aviation", TOP / "examples/data/aviation")
    agnes("rebuild")
    extract = agnes.data / "extracts/aviation/extract.duckdb"
    assert ask(python, extract, "SELECT table_name FROM _meta ORDER BY 1") == "[('airports',), ('flights',)]"
    assert ask(python, extract, "SELECT count(*) FROM airports") == "[(3376,)]"
    if version != "1.1.3":
        server = agnes.data / "analytics/server.duckdb"
        assert ask(python, server, "SELECT count(*) FROM flights JOIN airports ON iata = origin") == "[(2000,)]"


def test_an_extract_of_every_version_is_published(agnes, client):
    version, python = client
    output = agnes.data / "extracts/calendar"
    job = f'{{"source": "calendar", "output": "{output}", "tables": null, "config": {{"seed": 7}}}}'
    done = subprocess.run(
        [python, TOP / "examples/custom_connector.py"], input=job, capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    agnes("check", output)
    report = agnes("rebuild")
    assert "2 tables of 1 source" in report.stdout, report.stdout

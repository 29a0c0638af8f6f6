"""A disk that is full at any size of any file: nothing is lost, and the message says why."""

import json
import resource
import signal
import subprocess

import duckdb
import pytest

from conftest import write_inbox
from test_kills import write
from test_server import serve  # noqa: F401

SIZES = [0, 100, 1000, 4096, 10_000, 20_000, 100_000, 270_000, 600_000]


def with_room_for(size):
    """Called in the child: a file can't grow beyond `size`, and writing more is an error."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def run_full(agnes, size, *arguments):
    return subprocess.run(
        [agnes.command, "--data-dir", str(agnes.data), *map(str, arguments)],
        capture_output=True, text=True, preexec_fn=with_room_for(size),
    )


def assert_clear(done):
    """The only trace of a failure that a user sees: one sentence, and an exit code to match."""
    if done.returncode != 0:
        assert "panicked" not in done.stderr, done.stderr
        assert "error: " in done.stderr or "failed: " in done.stderr or "left out" in done.stderr, done.stderr
        assert done.returncode > 0, f"ended by signal {-done.returncode}: {done.stderr}"


def both(database):
    con = duckdb.connect()
    con.execute(f"ATTACH '{database}' AS s (READ_ONLY)")
    found = con.execute("SELECT (SELECT max(v) FROM s.a), (SELECT max(v) FROM s.b)").fetchone()
    con.close()
    return found


@pytest.mark.parametrize("size", SIZES)
def test_a_rebuild(agnes, size):
    folder = agnes.data / "extracts/s"
    write(folder, 1)
    agnes("rebuild")
    write(folder, 2)
    done = run_full(agnes, size, "rebuild")
    assert_clear(done)
    a, b = both(agnes.data / "analytics/server.duckdb")
    assert a == b and a in (1, 2)
    assert done.returncode != 0 or a == 2, done.stdout
    agnes("rebuild")
    assert both(agnes.data / "analytics/server.duckdb") == (2, 2)
    assert agnes("query", "SELECT max(a.v) FROM a, b", "-f", "csv").stdout.split()[1] == "2"


@pytest.mark.parametrize("size", SIZES)
def test_an_ingest(agnes, tmp_path, size):
    inbox = tmp_path / "in"
    write_inbox(inbox, 1, 20000)
    agnes("ingest", "s", inbox)
    write_inbox(inbox, 2, 20000)
    done = run_full(agnes, size, "ingest", "s", inbox)
    assert_clear(done)
    a, b = both(agnes.data / "extracts/s/extract.duckdb")
    assert a in (1, 2) and b in (1, 2)
    assert done.returncode == 9 or a == b, "half of an ingest that claims to be whole"
    agnes("ingest", "s", inbox)
    assert both(agnes.data / "extracts/s/extract.duckdb") == (2, 2)
    assert sorted(p.name for p in (agnes.data / "extracts").iterdir()) == [".s.lock", "s"]


def test_a_checkpoint_that_finds_no_room_ends_nothing_but_itself(agnes, serve, tmp_path):
    server = serve()
    backup = tmp_path / "state.tar.zst"

    def add(name):
        return server.ask("POST", "/api/users", {"email": f"{name}@example.com"}, server.token).status

    def users():
        answer = server.ask("GET", "/api/users", token=server.token)
        assert answer.status == 200, answer.body
        return {user["email"].split("@")[0] for user in json.loads(answer.body)}

    assert add("before") == 201
    # The log is shorter than this, and every block of the database ends beyond it.
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    for at in range(3):
        done = agnes("backup", backup, check=False)
        assert done.returncode == 7 and "takes no more" in done.stderr, done.stderr
        assert not backup.exists()
        assert add(f"during{at}") == 201
        assert f"during{at}" in users()
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    agnes("backup", backup)
    there = users()
    assert there >= {"before", "during0", "during1", "during2"}
    server.end(signal.SIGKILL)
    server = serve()
    assert users() == there

"""The figures of `benches/README.md` about the Python module: `make bench-module`.

What is compared runs in turn, each in a process of its own, over the same parquet file.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import timeit

ROWS = 10_000_000
ROUNDS = 5

QUERY = "SELECT * FROM {table}"
HEAD = """
import json, resource, sys, time
def told(begun, frame):
    took = time.perf_counter() - begun
    assert frame.shape == (ROWS, 5), frame.shape
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([took, peak]))
""".replace("ROWS", str(ROWS))
OURS = HEAD + """
import agnes, polars
with agnes.open(sys.argv[1]) as db:
    session = db.session()
    session.sql("SELECT count(*) FROM large").fetchall()
    begun = time.perf_counter()
    told(begun, session.sql("SELECT * FROM large").to_polars())
"""
THEIRS = HEAD + """
import duckdb, polars
connection = duckdb.connect()
connection.sql(f"SELECT count(*) FROM '{sys.argv[2]}'").fetchall()
begun = time.perf_counter()
told(begun, connection.sql(f"SELECT * FROM '{sys.argv[2]}'").pl())
"""


def line(what, told, goal):
    print(f"{what:70} {told:50} {goal}", flush=True)


def run(program, *arguments):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def rows(folder):
    import agnes

    with agnes.open(folder) as db:
        with db.extract_writer("shop") as extract:
            extract.table_from_sql(
                "large",
                "SELECT i AS id, (i % 100)::INTEGER AS kind, i * 1.5::DOUBLE AS amount, 'name ' || i AS name, "
                f"DATE '2026-01-01' + (i % 365)::INTEGER AS day FROM range({ROWS}) t(i)",
            )
        db.rebuild()
    file = next(pathlib.Path(folder, "analytics/pins/shop").glob("large.*"))
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(run(OURS, folder))
        theirs.append(run(THEIRS, folder, file))
    (our_time, our_peak), (their_time, their_peak) = (
        [statistics.median(column) for column in zip(*taken)] for taken in (ours, theirs)
    )
    line(
        "10 million rows of 5 columns to polars, against the package duckdb",
        f"{our_time:.2f} against {their_time:.2f} s: {our_time / their_time:.2f}x",
        "≤ 1.1x",
    )
    line(
        "peak memory of that process",
        f"{our_peak:.0f} against {their_peak:.0f} MB: {our_peak / their_peak:.2f}x",
        "≤ 1.2x",
    )


def calls(folder):
    import agnes

    with agnes.open(folder) as db:
        db.adopt()
        db.add_user("ada@example.com")
        db.add_group("sales")
        db.add_member("sales", "ada@example.com")
        db.grant("sales", "table:large")
        many = 100_000
        times = timeit.repeat(
            lambda: db.decide("ada@example.com", "table:large"), number=many, repeat=7
        )
        line("db.decide, a call", f"{statistics.median(times) / many * 1e6:.2f} µs", "≤ 2 µs")


def importing():
    times = []
    for program in ("import agnes", "pass") * 15:
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True)
        times.append(time.perf_counter() - begun)
    took = statistics.median(times[::2]) - statistics.median(times[1::2])
    line("import agnes, over an interpreter that does nothing", f"{took * 1e3:.0f} ms", "≤ 80 ms")


with tempfile.TemporaryDirectory() as place:
    importing()
    rows(place)
    calls(place)

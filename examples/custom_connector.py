#!/usr/bin/env python3
"""A whole connector in Python: the standard library and `duckdb`, no Agnes.

It writes an extract that obeys docs/contract.md: two tables about the days of a year and made-up
numbers of visitors. Below `extracts/` of a data folder, the next rebuild publishes them:

    python custom_connector.py --output data/extracts/calendar && agnes -d data rebuild

As the connector of a configured source it gets its orders as JSON on stdin:

    {"source": "calendar", "output": "data/extracts/calendar",
     "tables": ["days"], "config": {"seed": 7, "year": 2026}}

`output` is the extract's folder; `tables` names the tables that are due, or null for all.
Exit code: 0 all went well, 1 nothing did, 2 some tables did and some did not.
"""

import argparse
import json
import os
import random
import sys
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import duckdb


# The source. A real connector would ask a system over the network here.
def days(config):
    # Seeded: an unchanged source must give the same rows again.
    dice = random.Random(config.get("seed", 7))
    year = config.get("year", 2026)
    day = date(year, 1, 1)
    while day.year == year:
        iso_year, week, weekday = day.isocalendar()
        yield day, iso_year, week, weekday, int(dice.random() * (400 if weekday > 5 else 150))
        day += timedelta(days=1)


def weeks(config):
    visitors = {}
    for _, iso_year, week, _, count in days(config):
        visitors[iso_year, week] = visitors.get((iso_year, week), 0) + count
    return [(*week, count) for week, count in visitors.items()]


# Of each table: what it holds, its columns, and the function that gives its rows.
TABLES = {
    "days": ("one row for each day of the year, with its ISO week",
             "day DATE, iso_year INT, iso_week INT, weekday INT, visitors INT", days),
    "weeks": ("one row for each ISO week; only the days of the year are counted",
              "iso_year INT, iso_week INT, visitors INT", weeks),
}


# The extract. From here on everything is the same for every source.
def text(value):
    """A text as SQL writes it."""
    return "'" + str(value).replace("'", "''") + "'"


def publish(aside, place):
    """Moves a finished file into place, so that a reader sees the old one or the new one."""
    with open(aside, "rb") as file:
        os.fsync(file.fileno())  # a power cut must not leave an empty file under the good name
    os.replace(aside, place)


def write_table(db, name, data, config):
    """Writes the parquet file of one table and gives back its row of `_meta`."""
    description, columns, source = TABLES[name]
    rows = [list(row) for row in source(config)]
    db.execute(f"CREATE OR REPLACE TEMP TABLE fresh ({columns})")
    db.executemany(f"INSERT INTO fresh VALUES ({', '.join('?' * len(rows[0]))})", rows)
    # The dot hides the unfinished file from a rebuild.
    aside, place = data / f".{name}.parquet.tmp", data / f"{name}.parquet"
    db.execute(f"COPY fresh TO {text(aside)} (FORMAT parquet, COMPRESSION zstd)")
    # Read-only is a promise: the file is never written to again, only replaced. So Agnes can
    # link it, where it would have to copy a file with a write bit.
    aside.chmod(0o444)
    publish(aside, place)
    now = datetime.now(timezone.utc).replace(tzinfo=None)  # UTC, in a TIMESTAMP without zone
    return [name, description, len(rows), place.stat().st_size, now, "local"]


def rows_before(db, output):
    """The rows of `_meta` as they stand, by table; `None` when they can't be read."""
    if not (output / "extract.duckdb").exists():
        return {}
    try:
        db.execute(f"ATTACH {text(output / 'extract.duckdb')} AS old (READ_ONLY)")
        rows = db.execute("SELECT table_name, description, rows, size_bytes, extracted_at, "
                          "query_mode FROM old._meta").fetchall()
        db.execute("DETACH old")
    except duckdb.Error as error:
        print(f"every table is written anew: {error}", file=sys.stderr)
        return None
    return {row[0]: list(row) for row in rows if (output / f"data/{row[0]}.parquet").exists()}


def write_database(db, output, meta):
    """Writes `extract.duckdb`: a row of `_meta` and a view for each table."""
    place, aside = output / "extract.duckdb", output / "extract.duckdb.tmp"
    aside.unlink(missing_ok=True)  # a killed run may have left one
    # The oldest form, which every DuckDB since 1.0 opens. Before 1.2 there was no other one.
    version = [int(part) for part in duckdb.__version__.split(".")[:2]]
    form = "(STORAGE_VERSION 'v1.0.0')" if version >= [1, 2] else ""
    db.execute(f"ATTACH {text(aside)} AS extract {form}")
    db.execute("CREATE TABLE extract._meta (table_name VARCHAR NOT NULL, description VARCHAR, "
               "rows BIGINT, size_bytes BIGINT, extracted_at TIMESTAMP, query_mode VARCHAR)")
    for name, row in sorted(meta.items()):
        db.execute("INSERT INTO extract._meta VALUES (?, ?, ?, ?, ?, ?)", row)
        # An absolute path, so that the view works in a DuckDB client started anywhere.
        file = text(output / f"data/{name}.parquet")
        db.execute(f'CREATE VIEW extract."{name}" AS SELECT * FROM read_parquet({file})')
    db.execute("CHECKPOINT extract")  # folds the log into the file, which is whole only then
    db.execute("DETACH extract")
    (output / "extract.duckdb.wal").unlink(missing_ok=True)  # the log of an older database
    publish(aside, place)


def main():
    parser = argparse.ArgumentParser(description="Writes the extract of a calendar.")
    parser.add_argument("--output", help="the extract's folder, where no JSON comes on stdin")
    folder = parser.parse_args().output
    orders = "" if folder or sys.stdin.isatty() else sys.stdin.read()
    job = json.loads(orders) if orders.strip() else {"output": folder}
    if not job.get("output"):
        sys.exit("nowhere to write: send JSON with `output` on stdin, or use --output FOLDER")
    output = Path(job["output"]).resolve()
    (output / "data").mkdir(parents=True, exist_ok=True)
    db = duckdb.connect()  # in memory; files are attached to it
    before, failed = rows_before(db, output), []
    due = list(TABLES) if before is None or job.get("tables") is None else job["tables"]
    meta = before or {}  # what is not due, or fails, keeps what it had
    for name in due:
        try:
            meta[name] = write_table(db, name, output / "data", job.get("config") or {})
        except Exception as error:  # one bad table must not lose the others
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
            failed.append(name)
    if len(failed) < len(due):
        write_database(db, output, meta)
    return 0 if not failed else 1 if len(failed) == len(due) else 2


if __name__ == "__main__":
    sys.exit(main())

"""A program as people write it, for type checkers: `mypy --strict` and pyright pass on it."""

from __future__ import annotations

from pathlib import Path

import agnes


class Weather:
    """A connector."""

    def __init__(self, config: dict[str, int]) -> None:
        self.days = config["days"]

    def extract(self, job: agnes.Job) -> None:
        """Writes what its source has."""
        job.writer.table_from_sql("forecast", f"SELECT range AS day FROM range({self.days})")


def main(folder: Path) -> list[str]:
    """Opens, asks, and tells names."""
    with agnes.open(folder, connectors={"weather": Weather}, isolated=False) as db:
        report = db.ingest("shop", [folder / "orders.csv"], delimiter=";")
        names = [outcome["table"] for outcome in report["tables"]]
        db.rebuild(progress=lambda what, done, total: print(what, done / max(total, 1)))
        try:
            decision = db.decide("ada@example.com", "table:orders")
            if not decision:
                print(decision.reasons[0]["because"])
        except agnes.NotFoundError as error:
            print(error.code, error.context.get("table"))
        session = db.as_user("ada@example.com")
        first = session.sql("SELECT $1", [1], timeout=2.5).fetchone()
        assert first is not None
        frame = session.sql("FROM orders").to_polars()
        return [*names, *frame.columns, db.publication()["at"].isoformat()]  # type: ignore[index]

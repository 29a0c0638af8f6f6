"""What the tests of the Python module share: real data, published."""

import pathlib

import pytest

import agnes

DATA = pathlib.Path(__file__).resolve().parents[3] / "examples" / "data"
ADA, BOB = "ada@example.com", "bob@example.com"


@pytest.fixture
def db(tmp_path):
    """An empty data folder, open."""
    with agnes.open(tmp_path / "data") as db:
        yield db


@pytest.fixture
def published(db):
    """Three tables; Ada sees airports, Bob sees nothing."""
    db.ingest("aviation", DATA / "aviation")
    db.ingest("weather", [DATA / "weather" / "seattle_weather.tsv"])
    db.rebuild()
    for email in (ADA, BOB):
        db.add_user(email)
    db.add_group("pilots")
    db.add_member("pilots", ADA)
    db.grant("pilots", "table:airports")
    return db

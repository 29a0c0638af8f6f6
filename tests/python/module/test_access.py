"""Who may see what, from Python: users, groups, grants, decisions, tokens; catalog, manifest, profile."""

import datetime
import pickle

import pytest

import agnes

from .conftest import ADA, BOB, DATA


def test_two_users_see_different_tables(published):
    ada, bob = published.as_user(ADA), published.as_user(BOB)
    assert ada.tables() == ["airports"] and bob.tables() == []
    assert ada.sql("SELECT count(*) FROM airports").fetchone() == (3376,)
    with pytest.raises(agnes.DeniedError):
        bob.sql("FROM airports")
    assert [entry["name"] for entry in ada.catalog()] == ["airports"]
    entry = ada.catalog()[0]
    assert entry["columns"][0] == {"name": "iata", "type": "VARCHAR"} and entry["rows"] == 3376
    assert list(ada.manifest()["tables"]) == ["airports"] and not bob.manifest()["tables"]
    profile = ada.profile("airports")
    assert profile["row_count"] == 3376 and profile["columns"][0]["name"] == "iata"
    with pytest.raises(agnes.DeniedError):
        bob.profile("airports")
    with pytest.raises(agnes.DeniedError):
        bob.profile("nowhere")
    with pytest.raises(agnes.NotFoundError):
        published.as_user("nobody@example.com")


def test_a_decision_says_why(published):
    decision = published.decide(ADA, "table:airports")
    assert decision and decision.allowed and decision.resource == "table:airports"
    assert decision.reasons[0]["because"] == "granted" and decision.reasons[0]["group"] == "pilots"
    decision = published.decide(BOB, "table:airports")
    assert not decision and decision.reasons == [{"because": "not_granted"}]
    assert "denied" in repr(decision)
    told = published.explain(ADA, "airports")
    assert told["allowed"] and told["published"] and told["registered"] and told["but"] is None
    assert [able["email"] for able in published.who_can("airports")["able"]] == [ADA]
    with pytest.raises(agnes.NotFoundError, match="nowhere"):
        published.explain(ADA, "nowhere")
    with pytest.raises(agnes.InvalidError):
        published.decide(ADA, "airports")


def test_what_is_revoked_is_gone_at_once(published):
    ada = published.as_user(ADA)
    rows = ada.sql("FROM airports")
    published.revoke("pilots", "table:airports")
    for call in (rows.fetchall, lambda: ada.sql("SELECT 1")):
        with pytest.raises(agnes.DeniedError):
            call()
    assert published.as_user(ADA).tables() == []
    assert not published.decide(ADA, "table:airports")
    with pytest.raises(agnes.NotFoundError, match="pilots table:airports"):
        published.revoke("pilots", "table:airports")


def test_people_and_groups(published):
    db = published
    assert [user["email"] for user in db.users()] == [ADA, BOB]
    assert [group["name"] for group in db.user(ADA)["groups"]] == ["pilots"]
    assert db.add_user("root@example.com", name="Root", admin=True)["email"] == "root@example.com"
    assert db.as_user("root@example.com").tables() == ["airports", "flights", "seattle_weather"]
    assert [member["email"] for member in db.members("pilots")] == [ADA]
    assert {group["name"] for group in db.groups()} == {"Admin", "Everyone", "pilots"}
    assert db.grants()[0]["group_name"] == "pilots"
    db.set_active(ADA, False)
    with pytest.raises(agnes.DeniedError, match="deactivated"):
        db.as_user(ADA)
    db.set_active(ADA, True)
    db.remove_member("pilots", ADA)
    assert db.as_user(ADA).tables() == []
    db.remove_user(BOB)
    db.remove_group("pilots")
    with pytest.raises(agnes.ConflictError) as raised:
        db.remove_user("root@example.com")
    assert raised.value.context["reason"] == "last_admin"
    with pytest.raises(agnes.ConflictError):
        db.add_user(ADA)
    actions = [event["action"] for event in db.audit()]
    assert actions and all("." in action or "_" in action for action in actions), actions
    assert any("user" in action and "remov" in action or "delet" in action for action in actions), actions


def test_a_token_is_its_owner(published):
    token, secret = published.create_token(ADA, "notebook", lifetime=60)
    lifetime = token["expires_at"] - token["created_at"]
    assert lifetime == datetime.timedelta(seconds=60)
    assert published.as_token(secret).tables() == ["airports"]
    assert secret not in str(published.tokens())
    published.revoke_token(token["id"])
    with pytest.raises(agnes.DeniedError):
        published.as_token(secret)
    with pytest.raises(agnes.DeniedError):
        published.as_token("nonsense")


def test_the_registry(published):
    db = published
    assert [t["name"] for t in db.registered_tables()] == ["airports", "flights", "seattle_weather"]
    table = db.update_table("airports", description="where planes land", primary_key=["iata"])
    assert table["description"] == "where planes land" and table["primary_key"] == ["iata"]
    assert db.update_table("airports", folder="air")["primary_key"] == ["iata"]
    with pytest.raises(agnes.InvalidError, match="colour"):
        db.update_table("airports", colour="blue")
    db.register("payments", "billing", description="to come", sync_schedule="daily 05:00")
    assert db.unregister("payments")["id"] == "payments"
    db.unregister("flights")
    assert "flights" not in db.session().tables()
    assert db.adopt()["registered"] == []


def test_sessions_see_what_was_published_when_they_were_opened(published):
    with published.session() as session:
        before = session.generation
        published.ingest("wildlife", DATA / "wildlife")
        published.rebuild()
        assert "bird_strikes" not in session.tables()
        assert published.session().generation == before + 1
        assert session.reads("SELECT * FROM airports a JOIN flights f ON a.iata = f.origin") == [
            "airports",
            "flights",
        ]
        rows = session.scan(
            "airports", select=["iata"], where="state = 'TX'", order_by=["iata desc"], limit=2
        )
        assert rows.columns == ["iata"] and len(rows.fetchall()) == 2
        with pytest.raises(agnes.InvalidError):
            session.scan("airports", where="1 = 1; DROP TABLE x")
    with pytest.raises(agnes.InvalidError, match="closed"):
        session.tables()


METRIC = """
name: longest
display_name: Longest flight
category: aviation
type: max
sql: SELECT max(distance) AS miles FROM flights
tables: [flights]
"""


def test_metrics_are_seen_by_whoever_sees_their_tables(published, tmp_path):
    db = published
    ids = db.put_metrics(METRIC)
    assert len(ids) == 1 and db.metrics()[0]["display_name"] == "Longest flight"
    assert db.session().metric(ids[0]).columns == ["miles"]
    assert db.as_user(ADA).metrics() == []
    with pytest.raises(agnes.NotFoundError):
        db.as_user(ADA).metric(ids[0])
    files = db.export_metrics(tmp_path / "metrics")
    db.remove_metric(ids[0])
    assert db.metrics() == []
    assert db.import_metrics(tmp_path / "metrics")["imported"] == ids and len(files) == 1
    assert db.check_metrics()[0]["id"] == ids[0]


def test_profiles_are_made_of_what_changed(published):
    assert sorted(published.refresh_profiles()["profiled"]) == [
        "airports",
        "flights",
        "seattle_weather",
    ]
    assert published.refresh_profiles("airports")["profiled"] == []


def test_an_installation_is_examined_and_backed_up(published, tmp_path):
    assert all({"about", "health", "seen", "cure"} <= set(f) for f in published.examine())
    published.back_up(tmp_path / "backup.tar.zst")
    published.remove_user(ADA)
    published.restore(tmp_path / "backup.tar.zst")
    assert ADA in [user["email"] for user in published.users()]


def test_errors_survive_pickling():
    error = agnes.DeniedError("no such table", {"table": "salaries"})
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is agnes.DeniedError and again.context == {"table": "salaries"}
    assert str(again) == "no such table" and again.code == "Denied" and not again.retryable

"""The module itself: what it is beside others, in forks, for type checkers; and every shared case."""

import ast
import inspect
import json
import os
import pathlib
import subprocess
import sys
import types
import typing

import pytest

import agnes
import agnes.types

from .conftest import ADA, DATA

TOP = pathlib.Path(__file__).resolve().parents[3]
HERE = pathlib.Path(__file__).resolve().parent
CASES = TOP / "tests" / "cases"


def run(program, *arguments, **options):
    command = [sys.executable, *arguments, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_name_as_in_every_language():
    cases = json.loads((CASES / "names.json").read_text())
    kinds = dict(
        source="strict", table="strict", alias="strict", extension="strict", view="view",
        external="external", token_env="env",
    )
    for case in cases:
        for kind, key in kinds.items():
            try:
                takes = agnes.check_name(kind, case["text"]) == case["text"]
            except agnes.InvalidError:
                takes = False
            assert takes == case[key], (kind, case)


def test_every_schedule_as_in_every_language():
    for case in json.loads((CASES / "schedules.json").read_text()):
        told = agnes.schedule(case["schedule"], last=case["last"], now=case["now"])
        assert (told["valid"], told["due"]) == (case["valid"], case["due"]), case["name"]
        assert (told["next"] is None) == (case["next"] is None), case["name"]
        if told["next"]:
            assert told["next"].strftime("%Y-%m-%dT%H:%M:%S") == case["next"][:19], case["name"]


BESIDE = """
import sys
order = sys.argv[1]
if order == "before":
    import duckdb
import agnes
if order == "after":
    import duckdb
db = agnes.open(sys.argv[2])
db.ingest("shop", {"orders": duckdb.sql("SELECT range AS id, 'x' || range AS name FROM range(1000)").%s})
db.rebuild()
rows = db.sql("SELECT * FROM orders WHERE id < 10")
again, = duckdb.sql("SELECT count(*), max(name) FROM rows").fetchall()
try:
    db.sql("SELECT * FROM nowhere")
except agnes.AgnesError as error:
    print(duckdb.__version__, agnes.engine_info()["version"], again, error.code)
try:
    duckdb.sql("SELECT * FROM nowhere")
except duckdb.CatalogException:
    print("caught")
assert duckdb.sql("SELECT sum(range) FROM range(100000)").fetchall() == [(4999950000,)]
assert db.sql("SELECT sum(range) FROM range(100000)").fetchone() == (4999950000,)
"""


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("version", ["2.0", "1.5"])
def test_another_duckdb_in_the_same_process(tmp_path, order, version):
    # Version 1.5 lies in a folder of its own; its results speak Arrow through pyarrow.
    environment = dict(os.environ)
    if version == "1.5":
        environment["PYTHONPATH"] = os.environ["DUCKDB_1_5"]
    program = f"import sys; sys.argv[1:] = [{order!r}, {str(tmp_path)!r}]\n" + BESIDE % "to_arrow_table()"
    out = run(program, env=environment)
    lines = out.splitlines()
    assert lines[0].startswith(version) and "v2.0.0 (10, 'x9') NotFound" in lines[0]
    assert lines[1] == "caught"


@pytest.mark.parametrize("isolated", [False, True])
def test_a_process_that_was_forked_off_opens_anew(tmp_path, isolated):
    program = f"""
import os, agnes, pyarrow
db = agnes.open({str(tmp_path)!r}, isolated={isolated})
db.ingest("shop", {{"orders": pyarrow.table({{"id": [1]}})}})
db.rebuild()
db.add_user("ada@example.com")
session = db.session()
rows = db.sql("SELECT range AS id FROM range(10000000)")
decision = db.decide("ada@example.com", "table:orders")
writer = db.extract_writer("crm")
writer.table("a", pyarrow.table({{"id": [1]}}))
child = os.fork()
if child == 0:
    for call in (db.users, session.tables, rows.fetchall, writer.finish):
        try:
            call()
            os._exit(1)
        except agnes.InvalidError as error:
            assert "forked" in str(error) and "spawn" in str(error)
    # What is let go of here is the parent's.
    db.close()
    del session, rows, decision, writer
    import gc
    gc.collect()
    with agnes.open({str(tmp_path / "other")!r}) as other:
        assert other.sql("SELECT 42").fetchone() == (42,)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert session.tables() == ["orders"] and rows.to_arrow().num_rows == 10000000
assert writer.finish()["written"] == ["a"]
print("done")
"""
    assert run(program) == "done\n"


def test_worker_processes_answer_alike(tmp_path):
    program = f"""
import agnes, os, signal, pathlib
db = agnes.open({str(tmp_path)!r}, isolated=True)
db.ingest("aviation", {str(DATA / "aviation")!r})
db.rebuild()
db.add_user("ada@example.com")
assert db.as_user("ada@example.com").tables() == []
rows = db.sql("SELECT iata, latitude FROM airports ORDER BY iata")
assert len(rows.fetchall()) == 3376 and rows.to_polars().height == 3376
workers = db.workers()
assert workers["started"] >= 1, workers
print(sorted(workers["walls"]))
try:
    db.sql("SELECT * FROM read_text('/etc/passwd')")
except agnes.DeniedError:
    pass
"""
    walls = ast.literal_eval(run(program))
    assert {"files", "system_calls", "limits"} <= set(walls)
    # A program that is named does the same.
    with agnes.open(tmp_path / "named", isolated=pathlib.Path("/nowhere/agnes-worker")) as db:
        with pytest.raises(agnes.UnavailableError, match="/nowhere/agnes-worker"):
            db.workers()


def test_it_says_that_free_threads_are_not_for_it():
    # Builds without the interpreter's lock turn it on for such a module, and warn.
    source = (TOP / "agnes-py" / "src" / "lib.rs").read_text()
    assert "gil_used = true" in source


def documented(of):
    for name, member in inspect.getmembers(of):
        if not name.startswith("_"):
            yield f"{of.__name__}.{name}", inspect.getdoc(member)


def test_everything_has_a_docstring():
    silent = []
    for name in agnes.__all__:
        member = getattr(agnes, name)
        if name == "__version__":
            continue
        if not inspect.getdoc(member):
            silent.append(name)
        if inspect.isclass(member) and not issubclass(member, Exception):
            silent += [name for name, doc in documented(member) if not doc]
    assert silent == []


def faults(report, kind, path):
    """Where a report isn't what its type says."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if typing.is_typeddict(kind) and not isinstance(report, dict):
        yield f"{path} is {report!r}"
    elif typing.is_typeddict(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        must = {k for k, of in hints.items() if typing.get_origin(of) is not typing.NotRequired} - {"from"}
        if missing := must - set(report):
            yield f"{path} lacks {missing}"
        if kind.__doc__ and "more keys" not in kind.__doc__ and (more := set(report) - set(hints)):
            yield f"{path} has {more}"
        for key in set(report) & set(hints):
            yield from faults(report[key], hints[key], f"{path}.{key}")
    elif origin is typing.NotRequired:
        yield from faults(report, arguments[0], path)
    elif origin is list:
        for item in report:
            yield from faults(item, arguments[0], f"{path}[]")
    elif origin is dict:
        for item in report.values():
            yield from faults(item, arguments[1], f"{path}{{}}")
    elif origin is typing.Literal:
        if report not in arguments:
            yield f"{path} is {report!r}"
    elif origin in (typing.Union, types.UnionType):
        if all(list(faults(report, one, path)) for one in arguments):
            yield f"{path} is {report!r}"
    elif kind is not typing.Any and not isinstance(report, (int, float) if kind is float else kind):
        yield f"{path} is {report!r}, no {kind}"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="this Python's types don't say which keys may be missing")
def test_reports_are_what_their_types_say(published, tmp_path):
    db, of = published, agnes.types
    db.register("late", "dwh", query_mode="remote", bucket="sales", source_table="late")
    db.put_metrics("name: n\ndisplay_name: N\ncategory: c\ntype: sum\nsql: SELECT 1\n")
    with db.extract_writer("crm") as extract:
        extract.table_from_sql("orders", "SELECT 1 AS id")
        written = extract.finish()
    session = db.as_user(ADA)
    token, _ = db.create_token(ADA, "notebook")
    reports = [
        (db.ingest("wildlife", DATA / "wildlife"), of.IngestReport),
        (written, of.WriteReport),
        (db.rebuild(), of.RebuildReport),
        (db.publication(), of.Publication),
        (db.check("crm"), of.ExtractCheck),
        (db.sync(all=True), of.SyncReport),
        (db.users(), list[of.User]),
        (db.add_user("eve@example.com"), of.User),
        (db.groups(), list[of.Group]),
        (db.members("pilots"), list[of.Member]),
        (db.grants(), list[of.Grant]),
        (db.explain(ADA, "airports"), of.Explanation),
        (db.who_can("airports"), of.WhoCan),
        (token, of.Token),
        (db.tokens(), list[of.Token]),
        (db.audit(), list[of.AuditEvent]),
        (db.registered_tables(), list[of.RegisteredTable]),
        (db.adopt(), of.Adoption),
        (session.catalog(), list[of.CatalogEntry]),
        (session.manifest(), of.Manifest),
        (db.metadata_status(), of.MetadataStatus),
        (session.profile("airports"), of.Profile),
        (db.metrics(), list[of.Metric]),
        (db.examine(), list[of.Finding]),
        (agnes.schedule("every 1h"), of.Verdict),
        (agnes.schedule("hourly"), of.Verdict),
        (agnes.engine_info(), of.EngineInfo),
    ]
    found = [fault for report, kind in reports for fault in faults(report, kind, str(kind))]
    assert found == []


CHECKS = {
    "stubtest": ["-m", "mypy.stubtest", "agnes", "--ignore-disjoint-bases"],
    "mypy": ["-m", "mypy", "--strict", "--python-version", "3.10", HERE / "typed.py"],
    "pyright": ["-m", "pyright", "--pythonpath", sys.executable, "-p", HERE / "pyrightconfig.json"],
    "completeness": ["-m", "pyright", "--verifytypes", "agnes", "--ignoreexternal"],
}


@pytest.mark.parametrize("check", CHECKS)
def test_type_checkers_know_what_it_does(check, tmp_path):
    command = [sys.executable, *map(str, CHECKS[check])]
    # One of them asks the `python` on the path where packages lie.
    path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
    environment = dict(os.environ, PATH=path)
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"

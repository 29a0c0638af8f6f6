"""docs/calls.md: every name in it is there, and every name of the module is in it."""

import inspect
import json
import pathlib
import re

import agnes

TOP = pathlib.Path(__file__).resolve().parents[3]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (TOP / "docs" / "calls.md").read_text().splitlines()
    if line.startswith("| ")
][1:]


def names(column, pattern):
    return {name for row in ROWS for name in re.findall(pattern, row[column])}


def test_every_name_of_the_module_is_in_the_table():
    told = names(2, r"`([\w.]+)`")
    there = set()
    for name in agnes.__all__:
        member = getattr(agnes, name)
        if inspect.isclass(member) and not issubclass(member, Exception):
            there.add(name)
            if name in ("Agnes", "Session"):
                public = (of for of in dir(member) if not of.startswith("_"))
                there |= {f"{name}.{of}" for of in public}
        elif callable(member) and not inspect.isclass(member):
            there.add(f"agnes.{name}")
    # What the table calls by its methods needs no line of its own.
    assert told | {"Agnes", "Session"} == there


def test_every_function_of_rust_is_there():
    sources = "\n".join(p.read_text() for p in (TOP / "agnes-core" / "src").rglob("*.rs"))
    for name in names(1, r"`([\w:]+)`"):
        last = name.rsplit("::", 1)[-1]
        assert re.search(rf"\bpub (fn|struct|trait) {last}\b|\bpub fn {last}\b", sources), name


def test_every_route_is_there():
    paths = json.loads((TOP / "docs" / "openapi.json").read_text())["paths"]
    for route in names(4, r"`([A-Z]+ /[^`]*)`"):
        method, path = route.split()
        assert method.lower() in paths[path], route

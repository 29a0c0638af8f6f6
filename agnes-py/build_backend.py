"""Builds the wheel with maturin, with DuckDB's static archive linked in.

Where no DUCKDB_LIB_DIR is set, `.ci/duckdb` of the repository finds or builds that archive: it is linked,
with hidden symbols, so that another DuckDB in the same process doesn't meet this one.
"""

import os
import pathlib
import re
import subprocess

import maturin
from maturin import (  # noqa: F401
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

ROOT = pathlib.Path(__file__).resolve().parent.parent


def _link_duckdb():
    cache = os.environ.get("AGNES_CACHE") or pathlib.Path.home() / ".cache" / "agnes"
    os.environ.setdefault("CARGO_TARGET_DIR", str(pathlib.Path(cache) / "target"))
    if os.environ.get("DUCKDB_LIB_DIR"):
        return
    finder = ROOT / ".ci" / "duckdb"
    told = subprocess.run([str(finder), "static"], stdout=subprocess.PIPE, text=True, check=True).stdout
    os.environ.update(re.findall(r"^export (\w+)='?([^'\n]*)'?$", told, re.MULTILINE))


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    _link_duckdb()
    return maturin.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    _link_duckdb()
    return maturin.build_editable(wheel_directory, config_settings, metadata_directory)

"""What the tests from outside share: the command, and a data folder that goes with the test."""

import os
import pathlib
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]


def write_inbox(inbox, version, rows):
    """Two CSV files in which every row names the version that it belongs to."""
    inbox.mkdir(exist_ok=True)
    for table in ("a", "b"):
        lines = "\n".join(f"{version},{i * 7919 % 65521}" for i in range(rows))
        (inbox / f"{table}.csv").write_text(f"v,i\n{lines}\n")


@pytest.fixture
def agnes(tmp_path):
    """Calls `agnes` on a data folder of its own; `.data` is that folder."""

    def call(*arguments, check=True, **options):
        command = [os.environ["AGNES"], "--data-dir", str(call.data), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, **options)
        assert not check or done.returncode == 0, done.stderr + done.stdout
        return done

    call.data = tmp_path / "data"
    call.command = os.environ["AGNES"]
    return call

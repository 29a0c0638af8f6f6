"""What is started as a worker process for `isolated`."""

from __future__ import annotations

import os
import sys

from agnes.errors import InvalidError

# The module's file by itself: nothing of the package, nothing of the program that embeds it.
_SERVE = "import sys; sys.path.insert(0, sys.argv[1]); import _agnes; _agnes.serve_as_worker()"


def program(
    isolated: bool | str | os.PathLike[str],
) -> tuple[str, list[str], list[tuple[str, str]]] | None:
    """The program, its arguments and all of its environment: this interpreter, or one that is named."""
    if isolated is False:
        return None
    libraries = os.environ.get("LD_LIBRARY_PATH")
    environment = [("LD_LIBRARY_PATH", libraries)] if libraries else []
    if isolated is not True:
        return os.fspath(isolated), [], environment
    # A program that was packed with its interpreter would run itself.
    if not sys.executable or getattr(sys, "frozen", False):
        raise InvalidError(
            "this Python has no interpreter of its own that could be started for workers: name the "
            "program `agnes-worker` as `isolated`"
        )
    return sys.executable, ["-I", "-S", "-c", _SERVE, os.path.dirname(__file__)], environment

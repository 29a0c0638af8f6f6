"""The server does what its description says: requests that fit it, and requests that don't."""

import json
import pathlib
import subprocess
import sys

import openapi_spec_validator

from test_server import serve  # noqa: F401, a fixture

SECRET = "a scheduler's secret of enough length"
HERE = pathlib.Path(__file__).parent


def test_the_description_is_one():
    text = (HERE.parents[1] / "docs/openapi.json").read_text()
    openapi_spec_validator.validate(json.loads(text))


def test_the_server_does_what_its_description_says(agnes, serve, tmp_path):  # noqa: F811
    (tmp_path / "orders.csv").write_text("id,total\n1,9.5\n2,20\n")
    agnes("ingest", "shop", tmp_path / "orders.csv")
    agnes("rebuild")
    server = serve(SCHEDULER_API_TOKEN=SECRET, AGNES_AUTH_RATELIMIT_ENABLED="0")
    # The same requests each time: a run that fails can be repeated.
    done = subprocess.run(
        [pathlib.Path(sys.executable).parent / "st", "--config-file", HERE / "schemathesis.toml", "run",
         f"http://127.0.0.1:{server.port}/api/openapi.json", "-H", f"Authorization: Bearer {SECRET}",
         "--max-examples", "10", "--seed", "1", "--no-color"],
        capture_output=True, text=True, cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr

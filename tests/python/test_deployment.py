"""The units, the image and the compose file, read by the tools that read them elsewhere."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from conftest import TOP

DEPLOY = TOP / "deploy"
TOOLS = pathlib.Path(sys.executable).parent


def run(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("unit", sorted(path.name for path in DEPLOY.glob("*.service")) + sorted(path.name for path in DEPLOY.glob("*.timer")))
def test_systemd_understands_the_units(agnes, tmp_path, unit):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd isn't here")
    for path in DEPLOY.glob("*.[st][ei][rm]*"):
        # A unit's program has to be there, and its user: who runs this, here.
        text = path.read_text().replace("/usr/local/bin/agnes", agnes.command)
        (tmp_path / path.name).write_text(text.replace("User=agnes", "User=root").replace("Group=agnes", "Group=root"))
    done = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", tmp_path / unit)
    said = [line for line in done.stderr.splitlines() if str(tmp_path) in line or unit in line]
    assert done.returncode == 0 and not said, done.stderr


def test_the_unit_gives_the_server_little():
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd isn't here")
    done = run("systemd-analyze", "security", "--offline=yes", "--threshold=30", DEPLOY / "agnes.service")
    # Of 100, where 0 is nothing at all.
    assert done.returncode == 0, done.stdout[-600:] + done.stderr


def test_the_unit_lets_the_server_do_what_it_needs():
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd isn't here")
    allowed = re.search("^SystemCallFilter=(.*)$", (DEPLOY / "agnes.service").read_text(), re.MULTILINE)[1].split()
    for name in [name for name in allowed if name.startswith("@")]:
        done = run("systemd-analyze", "syscall-filter", "--no-pager", name)
        said = [line.strip() for line in done.stdout.splitlines()[1:]]
        allowed += [word for word in said if word and not word.startswith("#") and word not in allowed]
    # Groups hold others: twice is deep enough for these.
    for name in [name for name in allowed if name.startswith("@")]:
        done = run("systemd-analyze", "syscall-filter", "--no-pager", name)
        allowed += [line.strip() for line in done.stdout.splitlines()[1:]]
    # A download is sent as it is, and a worker raises its walls.
    walls = ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "seccomp", "prctl", "prlimit64")
    for call in ("mmap", "mincore", "sendfile", "preadv2", "sched_setattr", *walls):
        assert call in allowed, call


def test_hadolint_finds_nothing_wrong_with_the_image():
    done = run(TOOLS / "hadolint", "--failure-threshold", "info", DEPLOY / "Dockerfile")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_runs_as_nobody_in_particular():
    text = (DEPLOY / "Dockerfile").read_text()
    last = text[text.rindex("\nFROM ") :]
    user = last.index("\nUSER 10001:10001")
    assert user < last.index("ENTRYPOINT") and "USER root" not in last[user:]


def test_the_compose_file_is_one_and_opens_no_port_to_others():
    done = run(TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        if name != "caddy":
            assert service["user"] == "10001:10001" and service["read_only"], name
            assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name

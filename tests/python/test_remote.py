"""Commands on a server elsewhere: `agnes --server URL`."""

import json
import os
import subprocess

import pytest

from test_server import publish, serve  # noqa: F401, a fixture


@pytest.fixture
def remote(agnes, serve, tmp_path):  # noqa: F811
    publish(agnes, tmp_path / "inbox", rows=2500)
    server = serve()

    def call(*arguments, check=True, token=server.token, url=f"http://127.0.0.1:{server.port}/", **options):
        environment = {**os.environ, "AGNES_TOKEN": token or ""}
        command = [agnes.command, "--server", url, *map(str, arguments)]
        # Elsewhere: no data folder is at hand.
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, **options)
        assert not check or done.returncode == 0, done.stderr + done.stdout
        return done

    call.server = server
    return call


def test_rows_come_from_elsewhere(remote):
    done = remote("query", "SELECT id FROM orders ORDER BY id", "-f", "csv", "--limit", "3")
    assert done.stdout.split() == ["id", "0", "1", "2"]
    assert done.stderr == "(truncated at 3 rows)\n"
    done = remote("query", "-", "-f", "jsonl", "--limit", "3", input="SELECT id FROM orders WHERE id < 3 ORDER BY id")
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [0, 1, 2] and not done.stderr
    assert len(remote("query", "FROM orders", "-f", "csv", "--limit", "2500").stdout.splitlines()) == 2501
    # What a server gives at most.
    done = remote("query", "FROM range(20000)", "-f", "csv", "--limit", "10000", check=False)
    assert len(done.stdout.splitlines()) == 10001 and "10,000 rows at most" in done.stderr
    for arguments, code in [
        (("query", "SELEC 1"), 2), (("query", "FROM nothing"), 4), (("query", "FROM orders", "--limit", "0"), 2),
        (("query", "FROM orders", "--as", "a@b.c"), 2), (("rebuild",), 2), (("profile", "nothing"), 4),
        (("user", "remove", "nobody@example.com"), 4),
    ]:
        done = remote(*arguments, check=False)
        assert done.returncode == code and done.stderr.startswith("error: "), (arguments, done.stderr)
    assert remote("manifest").stdout.split()[0] == "table"
    assert json.loads(remote("manifest", "--json").stdout)["tables"]["orders"]["rows"] == 2500
    assert "2,500 rows, 2 columns" in remote("profile", "orders").stdout
    assert "healthy" in remote("status").stdout


def test_people_and_tables_are_governed_from_elsewhere(remote):
    remote("user", "add", "ada@example.com", "--name", "Ada")
    remote("group", "create", "sales", "--description", "who sells")
    remote("group", "add-member", "sales", "ada@example.com")
    remote("grant", "create", "sales", "table:orders")
    for command, told in [
        (("user", "list"), ["ada@example.com", "Ada", "sales"]), (("group", "list"), ["sales", "who sells"]),
        (("group", "members", "sales"), ["ada@example.com", "root@example.com"]),
        (("grant", "list"), ["sales", "table:orders"]), (("registry", "list"), ["orders", "shop"]),
        (("token", "list"), []), (("metrics", "list"), []), (("metadata", "status"), []),
    ]:
        shown = remote(*command).stdout
        assert all(text in shown for text in told), (command, shown)
    assert remote("grant", "create", "sales", "table:orders", check=False).returncode == 5
    remote("grant", "delete", "sales", "table:orders")
    remote("group", "remove-member", "sales", "ada@example.com")
    remote("group", "delete", "sales")
    remote("user", "deactivate", "ada@example.com")
    assert "deactivated" in remote("user", "list").stdout
    remote("user", "activate", "ada@example.com")
    remote("user", "remove", "ada@example.com")
    assert "ada@" not in remote("user", "list").stdout
    remote("registry", "register", "plans", "--source-type", "local", "--description", "to come")
    remote("registry", "update", "plans", "--folder", "later", "--description", "")
    [plans] = [t for t in json.loads(remote("registry", "list", "--json").stdout)["tables"] if t["id"] == "plans"]
    assert (plans["folder"], plans["description"]) == ("later", None)
    remote("registry", "unregister", "plans")
    assert "plans" not in remote("registry", "list").stdout
    assert "by itself" in remote("sync").stdout


def test_a_token_goes_nowhere_that_it_shouldn_t(remote):
    done = remote("status", url="http://data.example.com", check=False)
    assert done.returncode == 2 and "without TLS" in done.stderr
    for url in ["data.example.com", "ftp://x", "http://", ""]:
        done = remote("status", url=url, check=False)
        assert done.returncode == 2 and "--server" in done.stderr, (url, done.stderr)
    done = remote("status", url="http://127.0.0.1:1", check=False)
    assert done.returncode == 7 and remote.server.token not in done.stderr
    done = remote("user", "list", token=None, check=False)
    assert done.returncode == 3 and "AGNES_TOKEN" in done.stderr
    done = remote("user", "list", token="nonsense", check=False)
    assert done.returncode == 3
    done = remote("user", "list", token="two\nlines", check=False)
    assert done.returncode == 2

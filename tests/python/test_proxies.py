"""The programs in front of a server send exactly the file that it names, to whoever may have it."""

import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse

import pytest

from conftest import TOP
from test_server import PASSWORD, publish, serve  # noqa: F401, a fixture

# Debian has nginx where only root looks.
PATH = os.environ["PATH"] + ":/usr/sbin"
WAYS = ["caddy", "nginx", "nginx-accel"]


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Proxy:
    """A program with our example, in front of a server."""

    def __init__(self, way, server, data, folder):
        self.port = free_port()
        program = way.split("-")[0]
        environment = {**os.environ, "PATH": PATH}
        if program == "caddy":
            environment |= {"AGNES_SITE": f"http://127.0.0.1:{self.port}", "AGNES_DATA": str(data),
                            "AGNES": f"127.0.0.1:{server.port}", "HOME": str(folder)}
            config = folder / "Caddyfile"
            # No second door of its own, which another test's would take.
            config.write_text("{\n\tadmin off\n}\n" + (TOP / "examples/proxy/Caddyfile").read_text())
            command = [shutil.which("caddy", path=PATH), "run", "--config", config, "--adapter", "caddyfile"]
        else:
            text = (TOP / f"examples/proxy/{way}.conf").read_text()
            for there, here in [("127.0.0.1:8000", f"127.0.0.1:{server.port}"),
                                ("listen 8080", f"listen 127.0.0.1:{self.port}"),
                                ("root /data;", f"root {data};"), ("alias /data/;", f"alias {data}/;")]:
                text = text.replace(there, here)
            config = folder / "nginx.conf"
            config.write_text(text)
            own = f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;"
            if os.geteuid() == 0:
                own += " user root;"
            command = [shutil.which("nginx", path=PATH), "-p", folder, "-c", config, "-e", folder / "error.log", "-g", own]
        self.log = open(folder / "proxy.log", "w+")
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log)
        for _ in range(200):
            try:
                self.ask("GET", "/api/health")
                return
            except OSError:
                assert self.process.poll() is None, self.told()
                time.sleep(0.05)
        raise AssertionError(self.told())

    def told(self):
        self.log.seek(0)
        return self.log.read()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(self, method, path, body=None, token=None, **headers):
        connection = self.connect()
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.body = answer.read()
        connection.close()
        return answer

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)
        self.log.close()


@pytest.fixture(params=WAYS)
def proxied(request, agnes, serve, tmp_path):  # noqa: F811
    program = request.param.split("-")[0]
    if shutil.which(program, path=PATH) is None:
        pytest.skip(f"{program} isn't installed; the package `{program}` has it")
    publish(agnes, tmp_path / "inbox", rows=50_000)
    agnes("user", "add", "ada@example.com")
    agnes("user", "add", "eve@example.com")
    agnes("group", "create", "sales")
    agnes("group", "add-member", "sales", "ada@example.com")
    agnes("grant", "create", "sales", "table:orders")
    way = "accel" if request.param == "nginx-accel" else "own"
    (tmp_path / "config").mkdir()
    (tmp_path / "config/instance.yaml").write_text(
        f"server: {{trusted_proxies: [127.0.0.1], send_file: {way}}}\n")
    server = serve(CONFIG_DIR=str(tmp_path / "config"))
    folder = tmp_path / "proxy"
    folder.mkdir()
    proxy = Proxy(request.param, server, agnes.data, folder)
    proxy.way = request.param
    proxy.server = server
    proxy.tokens = {"root": server.token}
    for name in ["ada", "eve"]:
        email = f"{name}@example.com"
        [user] = [u for u in json.loads(server.ask("GET", "/api/users", token=server.token).body)
                  if u["email"] == email]
        server.ask("POST", f"/api/users/{user['id']}/set-password", {"password": PASSWORD}, server.token)
        answer = server.ask("POST", "/auth/token", {"email": email, "password": PASSWORD})
        proxy.tokens[name] = json.loads(answer.body)["access_token"]
    yield proxy
    proxy.end()


def test_downloads_through_a_proxy(proxied, agnes, tmp_path):
    ada = proxied.tokens["ada"]
    path = "/api/data/orders/download"

    def ask(method="GET", token=ada, path=path, **headers):
        return proxied.ask(method, path, None, token, **headers)

    manifest = json.loads(ask(path="/api/sync/manifest").body)["tables"]["orders"]
    whole = ask()
    assert whole.status == 200
    assert hashlib.md5(whole.body).hexdigest() == manifest["hash"]
    assert whole.headers["ETag"] == f'"{manifest["hash"]}"'
    assert whole.headers["Content-Type"] == "application/octet-stream"
    assert "private" in whole.headers["Cache-Control"]
    assert whole.headers["Content-Disposition"].startswith("attachment")
    head = ask("HEAD", Accept_Encoding="gzip, deflate")
    assert (head.status, int(head.headers["Content-Length"])) == (200, len(whole.body))
    assert head.headers["Accept-Ranges"] == "bytes" and not head.headers["Content-Encoding"]
    part = ask(Range="bytes=10-19")
    assert (part.status, part.body) == (206, whole.body[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(whole.body)}"
    # Conditions, which Agnes answers.
    tag = whole.headers["ETag"]
    assert ask(If_None_Match=tag).status == 304
    assert ask(If_None_Match='"other"').body == whole.body
    assert ask(If_Match=tag).body == whole.body
    assert ask(If_Match='"other"').status == 412
    assert ask(If_Range=tag, Range="bytes=0-3").body == b"PAR1"
    assert ask(If_Range='"other"', Range="bytes=0-3").body == whole.body
    assert ask(If_Modified_Since=whole.headers["Last-Modified"]).status == 304
    # Who may not have it gets nothing, and hears it from Agnes.
    salaries = tmp_path / "salaries.csv"
    salaries.write_text("name,salary\nada,31337\n")
    agnes("ingest", "hr", salaries)
    agnes("rebuild")
    file = proxied.server.ask("GET", "/api/data/salaries/check-access", token=proxied.tokens["root"])
    file = file.headers["X-Agnes-File"]
    assert (agnes.data / file).exists()
    for method, token, asked, status in [
        ("GET", None, path, 401),
        ("GET", "nonsense", path, 401),
        ("GET", proxied.tokens["eve"], path, 403),
        ("HEAD", proxied.tokens["eve"], path, 403),
        ("GET", ada, "/api/data/salaries/download", 403),
        ("GET", ada, "/api/data/nothing/download", 403),
        ("GET", proxied.tokens["root"], "/api/data/nothing/download", 404),
        ("GET", ada, f"/{file}", 404),
        ("GET", ada, f"/_agnes_files/{file}", 404),
        ("GET", ada, "/_agnes_check", 404),
        ("GET", ada, f"/api/data/{urllib.parse.quote(f'../../{file}', safe='')}/download", 404),
    ]:
        answer = ask(method, token, asked, X_Agnes_File=file, X_Agnes_Tag="x", X_Accel_Redirect=f"/{file}")
        assert answer.status == status, (asked, answer.status, answer.body, proxied.told())
        assert b"PAR1" not in answer.body
        if method == "GET" and (status != 404 or asked.endswith("nothing/download")):
            assert json.loads(answer.body)["detail"]
    # A forged name changes nothing of what she may have.
    assert ask(X_Agnes_File=file).body == whole.body
    # What is taken away is gone at once.
    agnes("group", "remove-member", "sales", "ada@example.com")
    assert ask().status == 403
    # And the rest goes through.
    answer = proxied.ask("POST", "/api/query", json.dumps({"sql": "SELECT count(*) AS n FROM orders"}),
                         proxied.tokens["root"], Content_Type="application/json")
    assert json.loads(answer.body)["rows"] == [[50_000]]


def test_the_proxy_sends_the_file_itself(proxied):
    ada = proxied.tokens["ada"]
    proxied.ask("GET", "/api/data/orders/download", None, ada)
    proxied.server.process.send_signal(signal.SIGTERM)
    log = proxied.server.process.stderr.read()
    asked = [line for line in log.splitlines() if "/api/data/orders/" in line]
    expected = "/download" if proxied.way == "nginx-accel" else "/check-access"
    assert len(asked) == 1 and expected in asked[0], asked


def test_a_file_that_is_replaced_meanwhile_is_none_of_the_download(proxied, agnes, tmp_path):
    ada = proxied.tokens["ada"]
    connection = proxied.connect()
    connection.request("GET", "/api/data/orders/download", headers={"Authorization": f"Bearer {ada}"})
    answer = connection.getresponse()
    begun = hashlib.md5(answer.read(1000))
    lines = "\n".join(f"{i},{i}" for i in range(40_000))
    (tmp_path / "inbox/orders.csv").write_text(f"id,hash\n{lines}\n")
    agnes("ingest", "shop", tmp_path / "inbox")
    agnes("rebuild")
    begun.update(answer.read())
    assert answer.headers["ETag"] == f'"{begun.hexdigest()}"'
    again = proxied.ask("GET", "/api/data/orders/download", None, ada)
    assert again.headers["ETag"] == f'"{hashlib.md5(again.body).hexdigest()}"' != answer.headers["ETag"]
    # Who goes on with a part of the old file gets the new one whole.
    rest = proxied.ask("GET", "/api/data/orders/download", None, ada, Range="bytes=1000-",
                       If_Range=answer.headers["ETag"])
    assert (rest.status, rest.body) == (200, again.body)
    connection.close()

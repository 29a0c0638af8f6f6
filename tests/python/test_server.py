"""A server, asked over real sockets: who it lets in, what it survives, commands beside it."""

import hashlib
import http.client
import json
import os
import pathlib
import random
import signal
import socket
import stat
import subprocess
import tempfile
import time

import pytest

KEY = "a key of at least thirty-two characters"
PASSWORD = "correct horse battery"


class Server:
    """`agnes serve` on a free port."""

    def __init__(self, agnes, **variables):
        environment = {**os.environ, "JWT_SECRET_KEY": KEY, "SEED_ADMIN_EMAIL": "root@example.com",
                       "SEED_ADMIN_PASSWORD": PASSWORD, **variables}
        command = [agnes.command, "--data-dir", str(agnes.data), "serve", "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment,
                                        restore_signals=False)
        first = self.process.stderr.readline()
        assert first.startswith("listening on http://127.0.0.1:"), first + self.process.stderr.read()
        self.port = int(first.rsplit(":", 1)[1])
        answer = self.ask("POST", "/auth/token", {"email": "root@example.com", "password": PASSWORD})
        self.token = json.loads(answer.body)["access_token"]

    def ask(self, method, path, body=None, token=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        answer.body = answer.read()
        connection.close()
        return answer

    def query(self, sql, **options):
        answer = self.ask("POST", "/api/query", {"sql": sql, **options}, self.token)
        return answer.status, json.loads(answer.body)

    def end(self, with_signal=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        code = self.process.wait(timeout=30)
        self.process.stderr.close()
        return code


@pytest.fixture
def serve(agnes):
    servers = []

    def start(**variables):
        servers.append(Server(agnes, **variables))
        return servers[-1]

    yield start
    for server in servers:
        server.end(signal.SIGKILL)


def publish(agnes, folder, rows=3):
    folder.mkdir(exist_ok=True)
    lines = "\n".join(f"{i},{i * 7919 % 65521}" for i in range(rows))
    (folder / "orders.csv").write_text(f"id,hash\n{lines}\n")
    agnes("ingest", "shop", folder)
    agnes("rebuild")


def many(agnes, folder, rows=1_500_000):
    """A table that can't be packed: 40 MB, which no socket's buffer holds."""
    folder.mkdir(exist_ok=True)
    rng = random.Random(3)
    lines = "\n".join(f"{rng.getrandbits(62)},{rng.getrandbits(62)},{rng.getrandbits(62)}" for _ in range(rows))
    (folder / "orders.csv").write_text(f"a,b,c\n{lines}\n")
    agnes("ingest", "shop", folder)
    agnes("rebuild")


def test_commands_run_beside_a_server_and_count_at_once(agnes, serve, tmp_path):
    server = serve()
    path = agnes.data / "state/agnes.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    # Relative paths, standard input and exit codes are the caller's.
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "orders.csv").write_text("id\n1\n2\n")
    agnes("ingest", "shop", "orders.csv", cwd=inbox)
    agnes("rebuild")
    assert server.query("SELECT count(*) FROM orders")[1]["rows"] == [[2]]
    assert agnes("query", "-", "-f", "csv", input="SELECT sum(id) AS n FROM orders").stdout == "n\n3\n"
    wrong = agnes("query", "FROM nothing1", check=False)
    assert (wrong.returncode, wrong.stdout) == (4, "") and "nothing1" in wrong.stderr
    agnes("user", "add", "ada@example.com")
    token = agnes("token", "create", "ada@example.com", "--name", "x").stdout.split()[-1]
    assert server.ask("GET", "/api/data/orders/check-access", token=token).status == 403
    agnes("group", "create", "sales")
    agnes("group", "add-member", "sales", "ada@example.com")
    agnes("grant", "create", "sales", "table:orders")
    assert server.ask("GET", "/api/data/orders/check-access", token=token).status == 204
    agnes("grant", "delete", "sales", "table:orders")
    assert server.ask("GET", "/api/data/orders/check-access", token=token).status == 403
    agnes("break-glass", "grant-admin", "ada@example.com")
    assert server.ask("GET", "/api/users", token=token).status == 200
    # A second server has nothing to hold.
    second = agnes("serve", "--listen", "127.0.0.1:0", check=False)
    assert second.returncode == 7 and "holds the system database" in second.stderr
    assert server.end() == 0 and not path.exists()
    audited = agnes("access", "list", "ada@example.com").stdout
    assert "orders" in audited


def test_a_server_that_was_killed_is_in_nobodys_way(agnes, serve, tmp_path):
    server = serve()
    agnes("user", "add", "ada@example.com")
    server.end(signal.SIGKILL)
    assert (agnes.data / "state/agnes.sock").exists()
    assert "ada@example.com" in agnes("user", "list").stdout
    again = serve()
    assert "ada@example.com" in agnes("user", "list").stdout
    assert again.end() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_the_socket_answers_its_owner_alone(agnes, serve):
    # Even where the folder lets everybody in: pytest's own never do.
    with tempfile.TemporaryDirectory() as open_to_all:
        agnes.data = pathlib.Path(open_to_all) / "data"
        server = serve()
        state = agnes.data / "state"
        for folder in (state, *state.parents[:2]):
            folder.chmod(0o755)
        (state / "agnes.sock").chmod(0o666)
        assert asked_by_somebody_else(state / "agnes.sock") == "0\n"
        server.end(signal.SIGKILL)


def asked_by_somebody_else(path):
    """How many bytes a command of another user hears."""
    script = (
        "import os, socket, sys\n"
        "os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "s.connect(sys.argv[1])\n"
        "s.settimeout(10)\n"
        "try:\n"
        "    s.sendall(bytes([1, 0, 0, 0, 2]) + b'{}')\n"
        "    print(len(s.recv(1)))\n"
        "except (ConnectionResetError, BrokenPipeError):\n"
        "    print(0)\n"
    )
    done = subprocess.run(["python3", "-c", script, str(path)], capture_output=True, text=True)
    return done.stdout or done.stderr


def heeds_ctrl_c():
    """What a shell starts in the background ignores it, and hands that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def until(is_so):
    """Asks again until it is so; each time takes as long as a request or a command does."""
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end


def test_a_command_that_is_interrupted_ends_its_statement(agnes, serve):
    server = serve()
    endless = [agnes.command, "--data-dir", str(agnes.data), "query", "SELECT count(*) FROM range(100000000000) t(i)"]
    running = []

    def ask():
        return agnes("query", "SELECT 1 AS one", "-f", "csv", check=False)

    def hold_all():
        # Asking takes a place for a moment, of which one that begins then gets none.
        running.append(subprocess.Popen(endless, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        preexec_fn=heeds_ctrl_c))
        return ask().returncode == 8

    # They hold all of the operator's places, and nobody else's.
    until(hold_all)
    assert server.query("SELECT 1 AS one")[0] == 200
    for process in running:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    until(lambda: ask().stdout == "one\n1\n")


def test_a_client_that_goes_away_ends_its_query(serve):
    server = serve()
    body = json.dumps({"sql": "SELECT count(*) FROM range(100000000000) t(i)"})
    request = (f"POST /api/query HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
               f"Content-Length: {len(body)}\r\n\r\n{body}")
    clients = []

    def hold_all():
        # Asking takes a place for a moment, of which one that begins then gets none.
        clients.append(socket.create_connection(("127.0.0.1", server.port)))
        clients[-1].sendall(request.encode())
        return server.query("SELECT 1 AS one")[0] == 429

    # They hold all of her places, until they are gone.
    until(hold_all)
    for client in clients:
        client.close()
    until(lambda: server.query("SELECT 1 AS one")[0] == 200)


def test_a_stream_that_nobody_reads_waits_and_ends_with_its_reader(serve):
    server = serve()
    body = json.dumps({"sql": "SELECT i, repeat('x', 100) AS t FROM range(10000000) t(i)", "limit": 10000})
    request = (f"POST /api/query HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
               f"Accept: application/vnd.apache.arrow.stream\r\nContent-Length: {len(body)}\r\n\r\n{body}")
    clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(4)]
    for client in clients:
        client.sendall(request.encode())
        assert client.recv(15) == b"HTTP/1.1 200 OK"
    # The server goes on meanwhile.
    assert server.ask("GET", "/api/health").status == 200
    for client in clients:
        client.close()
    until(lambda: server.query("SELECT 1 AS one")[0] == 200)


def test_a_download_is_one_content_whatever_is_rebuilt(agnes, serve, tmp_path):
    publish(agnes, tmp_path / "inbox", rows=200_000)
    server = serve()
    manifest = json.loads(server.ask("GET", "/api/sync/manifest", token=server.token).body)
    wanted = manifest["tables"]["orders"]["hash"]
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(f"GET /api/data/orders/download HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                       f"Authorization: Bearer {server.token}\r\n\r\n".encode())
        received = client.recv(2000)
        publish(agnes, tmp_path / "inbox", rows=190_000)
        while part := client.recv(1 << 16):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert hashlib.md5(body).hexdigest() == wanted
    again = json.loads(server.ask("GET", "/api/sync/manifest", token=server.token).body)
    assert again["tables"]["orders"]["hash"] != wanted


def test_downloads_that_are_asked_for_all_at_once_on_one_connection(agnes, serve, tmp_path):
    many(agnes, tmp_path / "inbox", rows=200_000)
    server = serve()
    whole = server.ask("GET", "/api/data/orders/download", token=server.token).body
    manifest = json.loads(server.ask("GET", "/api/sync/manifest", token=server.token).body)
    assert hashlib.md5(whole).hexdigest() == manifest["tables"]["orders"]["hash"]
    assert len(whole) > 3 << 20, "large enough to be sent as it lies on the disk"
    health = server.ask("GET", "/api/health").body
    download = "/api/data/orders/download"
    expected = {"bytes=0-": whole, "bytes=1001-2500000": whole[1001:2500001], "bytes=5-9": whole[5:10],
                "bytes=-1500000": whole[-1500000:], "bytes=999999-": whole[999999:]}
    asked = [(path, part) for part in expected for path in (download, "/api/health")]
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        for path, part in asked:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nRange: {part}\r\n"
                           f"Authorization: Bearer {server.token}\r\n\r\n".encode())
        with client.makefile("rb") as answers:
            for path, part in asked:
                assert answers.readline().split()[1] == (b"206" if path == download else b"200")
                head = http.client.parse_headers(answers)
                body = answers.read(int(head["content-length"]))
                assert body == (expected[part] if path == download else health), (path, part)


def test_a_log_that_nobody_reads_holds_up_no_request(serve):
    server = serve(AGNES_LOG="info")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    # More lines than a pipe holds.
    for _ in range(1500):
        connection.request("GET", "/api/version")
        assert connection.getresponse().read()
    connection.close()


def test_the_developers_mode_is_for_this_machine_alone(agnes, serve):
    server = serve(LOCAL_DEV_MODE="1", LOCAL_DEV_USER_EMAIL="me@example.com")
    me = json.loads(server.ask("GET", "/auth/me").body)
    assert (me["email"], me["is_admin"]) == ("me@example.com", True)
    server.end()
    command = [agnes.command, "--data-dir", str(agnes.data), "serve", "--listen", "0.0.0.0:0"]
    refused = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LOCAL_DEV_MODE": "1"})
    assert refused.returncode == 2 and "loopback" in refused.stderr


def test_secrets_are_in_no_line_that_it_prints(agnes, serve):
    secret = "hunter2-hunter2-hunter2-hunter2-hunter2"
    server = serve(SCHEDULER_API_TOKEN=secret)
    assert server.ask("GET", "/api/users", token=secret).status == 200
    server.ask("POST", "/auth/token", {"email": "root@example.com", "password": secret})
    server.process.terminate()
    printed = server.process.stderr.read()
    assert "hunter2" not in printed and PASSWORD not in printed and KEY not in printed


def test_a_configuration_with_which_nothing_would_start_is_refused(agnes, serve, tmp_path):
    (tmp_path / "config").mkdir()
    file = tmp_path / "config/instance.yaml"
    file.write_text("instance: {name: Sales}\n")
    server = serve(CONFIG_DIR=str(tmp_path / "config"))

    def change(**sections):
        body = {"sections": sections, "confirm_danger": True}
        answer = server.ask("POST", "/api/admin/server-config", body, server.token)
        return answer.status, answer.body.decode()

    for sections in [
        {"server": {"send_file": "nginx"}}, {"server": {"cors_origins": ["*"]}}, {"server": {"host": "nohost"}},
        {"server": {"trusted_proxies": ["foo"]}}, {"auth": {"providers": ["passwrd"]}},
        {"instance": {"home_route": "dashboard"}}, {"email": {"smtp_host": "m.example"}},
        {"email": {"smtp_host": "m.example", "from_address": "nobody"}},
        {"email": {"smtp_host": "m.example", "from_address": "a@b.c", "smtp_tls": "ssl"}},
        {"instance": {"home_route": "/x?${JWT_SECRET_KEY}"}},
        {"data_source": {"keboola": {"stack_url": "https://${JWT_SECRET_KEY}.example.com/"}}},
    ]:
        status, told = change(**sections)
        assert status == 400 and KEY not in told and KEY.replace(" ", "") not in told, (sections, told)
    assert not (agnes.data / "state/instance.yaml").exists()
    assert change(server={"max_query_rows": 7})[0] == 200
    assert server.end() == 0
    # It holds from the next start on, which goes well.
    again = serve(CONFIG_DIR=str(tmp_path / "config"))
    assert again.query("SELECT 1 AS one", limit=8)[0] == 422
    again.end()
    # `config check` says what a start would say.
    for text, told in [("server: {send_file: nginx}", "send_file"), ("auth: {providers: [x]}", "auth.providers"),
                       ("server: {trusted_proxies: [foo]}", "trusted_proxies"), ("server: {port: 70000}", "65535"),
                       ("email: {smtp_host: m}", "from_address"), ("instance: {home_route: x}", "home route")]:
        file.write_text(text + "\n")
        done = agnes("config", "check", check=False, env={**os.environ, "CONFIG_DIR": str(tmp_path / "config")})
        assert done.returncode == 2 and told in done.stderr, (text, done.stderr)


def test_names_and_addresses_that_can_t_be_meant(agnes, serve):
    def refused(*arguments, **variables):
        done = agnes("serve", *arguments, check=False, env={**os.environ, **variables})
        assert done.returncode == 2, done.stderr
        return done.stderr

    for domain in ["https://x.com", "x.com/path", "a@x.com", "x y", "x.com?a"]:
        assert "DOMAIN" in refused("--listen", "127.0.0.1:0", DOMAIN=domain)
    assert "127.0.0.1:8000" in refused("--listen", "localhost")
    assert "cors_origins" in refused("--listen", "127.0.0.1:0", CORS_ORIGINS="*")
    server = serve(SCHEDULER_API_TOKEN="short")
    server.process.send_signal(signal.SIGTERM)
    assert "SCHEDULER_API_TOKEN" in server.process.stderr.read()


def test_a_server_without_an_admin_says_so(agnes):
    agnes("user", "add", "ada@example.com")
    command = [agnes.command, "--data-dir", str(agnes.data), "serve", "--listen", "localhost:0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    port = int(process.stderr.readline().rsplit(":", 1)[1])
    # It heeds signals from its first line on.
    process.send_signal(signal.SIGTERM)
    told = process.stderr.read()
    process.stderr.close()
    assert port and process.wait(timeout=30) == 0 and "there is no admin" in told, told

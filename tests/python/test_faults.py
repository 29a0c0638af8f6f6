"""What a server survives: killed processes, full disks, clients that are slow, idle or mad."""

import concurrent.futures
import hashlib
import http.client
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from test_server import PASSWORD, Server, publish, serve  # noqa: F401

FULL = "the disk of the state folder takes no more"


def configured(tmp_path, **server):
    """Variables for a server with these settings."""
    folder = tmp_path / "config"
    folder.mkdir(exist_ok=True)
    settings = {"instance": {"name": "faults"}, "server": {"hostname": "localhost", **server}}
    # A worker that has nothing to do goes soon: what is counted is what is at work.
    settings["query"] = {"workers": {"idle_seconds": 1}}
    (folder / "instance.yaml").write_text(json.dumps(settings))
    return {"CONFIG_DIR": str(folder), "AGNES_AUTH_RATELIMIT_ENABLED": "0"}


def of_process(server):
    """Threads, and files and sockets that are open."""
    folder = f"/proc/{server.process.pid}"
    return len(os.listdir(f"{folder}/task")), len(os.listdir(f"{folder}/fd"))


def until(what, seconds=20):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it doesn't come to that"
        time.sleep(0.02)


def sign_in(server):
    answer = server.ask("POST", "/auth/password/login", {"email": "root@example.com", "password": PASSWORD})
    return json.loads(answer.body)["access_token"]


def drain(server):
    """Reads the log, so that it is there at the end."""
    lines = []
    thread = threading.Thread(target=lambda: lines.extend(server.process.stderr), daemon=True)
    thread.start()
    return lines


@pytest.mark.parametrize("part", range(5))
def test_a_killed_server_has_lost_no_acknowledged_write(agnes, serve, tmp_path, part):
    """Ten times for each part: grants and tokens are made and taken back until the process is killed;
    what was acknowledged is there at the next start, and what was taken back isn't."""
    publish(agnes, tmp_path / "inbox")
    variables = configured(tmp_path)
    groups, tokens, gone = {}, {}, {}
    for kill in range(11):
        server = serve(**variables)
        session = sign_in(server)
        listed = {g["name"]: g["id"] for g in json.loads(server.ask("GET", "/api/admin/groups", token=session).body)}
        granted = {g["group_id"] for g in json.loads(server.ask("GET", "/api/admin/grants", token=session).body)}
        for name, (group, grant) in groups.items():
            assert listed.get(name) == group, f"the group {name} is gone"
            assert (group in granted) == grant, f"the grant of {name} isn't as it was"
        for token in tokens.values():
            assert server.ask("GET", "/auth/me", token=token).status == 200, "a token is gone"
        for token in gone.values():
            assert server.ask("GET", "/auth/me", token=token).status == 401, "a token is back"
        if kill == 10:
            break

        def write(writer):
            for count in range(1000):
                name = f"group {kill} {writer} {count}"
                try:
                    made = server.ask("POST", "/api/admin/groups", {"name": name}, session)
                    if made.status != 201:
                        return made.status, made.body
                    group = json.loads(made.body)["id"]
                    groups[name] = (group, False)
                    body = {"group_id": group, "resource_type": "table", "resource_id": "orders"}
                    made = server.ask("POST", "/api/admin/grants", body, session)
                    if made.status != 201:
                        return made.status, made.body
                    groups[name] = (group, True)
                    made = json.loads(server.ask("POST", "/auth/tokens", {"name": name}, session).body)
                    tokens[name] = made["token"]
                    if count % 3 == 0:
                        # Of what was asked for and not answered nobody knows.
                        token = tokens.pop(name)
                        if server.ask("DELETE", f"/auth/tokens/{made['id']}", token=session).status in (200, 204):
                            gone[name] = token
                except (OSError, http.client.HTTPException, ValueError):
                    # Nor whether the grant was made.
                    if name in groups and not groups[name][1]:
                        groups.pop(name)
                    return None
            return None

        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            writers = [pool.submit(write, writer) for writer in range(3)]
            before = len(groups)
            until(lambda: len(groups) > before + 8)
            time.sleep(random.uniform(0, 0.1))
            server.process.kill()
            assert [writer.result() for writer in writers] == [None] * 3
        server.end(signal.SIGKILL)
    assert len(tokens) > 20 and len(gone) > 5


def test_a_disk_that_takes_no_more_is_said_and_forgotten(agnes, serve, tmp_path):
    # What a full disk does, and the test can without one: no file grows any more.
    publish(agnes, tmp_path / "inbox")
    server = serve(**configured(tmp_path))
    log = drain(server)
    session = sign_in(server)

    def add(address):
        answer = server.ask("POST", "/api/users", {"email": address}, session)
        return answer.status, json.loads(answer.body)

    assert add("before@example.com")[0] == 201
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    refused = [add(f"during{at}@example.com") for at in range(5)]
    for status, body in refused:
        assert status == 503 and FULL in body["detail"], body
        assert str(agnes.data) not in body["detail"]
    # Whoever reads is none the worse for it.
    assert server.query("SELECT count(*) FROM orders")[1]["rows"] == [[3]]
    assert server.ask("GET", "/api/users", token=session).status == 200
    assert json.loads(server.ask("GET", "/api/health").body)["status"] == "ok"
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, unlimited)
    until(lambda: add(f"after{time.monotonic_ns()}@example.com")[0] == 201)
    there = {user["email"] for user in json.loads(server.ask("GET", "/api/users", token=session).body)}
    server.end(signal.SIGKILL)
    assert any(FULL in line for line in log) and not any("panicked" in line for line in log)
    again = serve(**configured(tmp_path))
    users = json.loads(again.ask("GET", "/api/users", token=sign_in(again)).body)
    assert {user["email"] for user in users} == there
    assert not any(address.startswith("during") for address in there)


def test_a_disk_that_is_read_only_is_said_at_the_start(agnes, tmp_path):
    publish(agnes, tmp_path / "inbox")
    agnes("user", "add", "ada@example.com")
    inside = ('mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && '
              'exec "$0" --data-dir "$1" serve --listen 127.0.0.1:0')
    unshare = ["unshare", "--mount", "--map-root-user"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        unshare = ["unshare", "--mount"]
        if subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
            pytest.skip("nobody here may mount anything")
    done = subprocess.run([*unshare, "sh", "-c", inside, agnes.command, str(agnes.data)],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 7, done.stderr
    assert "Read-only file system" in done.stderr and "panicked" not in done.stderr


def test_thousands_of_connections_that_ask_nothing_keep_nobody_out(agnes, serve, tmp_path):
    publish(agnes, tmp_path / "inbox")
    server = serve(**configured(tmp_path, max_connections=300, head_seconds=2, idle_seconds=3))
    session = sign_in(server)
    assert server.ask("GET", "/api/catalog/tables", token=session).status == 200
    before = of_process(server)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    many = min(hard, 8192) - 500 if hard < 4096 else 3000
    others = []
    try:
        for at in range(many):
            other = socket.create_connection(("127.0.0.1", server.port), timeout=10)
            # Some say nothing at all, some begin and never end.
            if at % 2:
                other.sendall(b"GET /api/health HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            others.append(other)
            if at % 250 == 0:
                begun = time.monotonic()
                assert server.ask("GET", "/api/catalog/tables", token=session).status == 200
                assert time.monotonic() - begun < 5
        assert of_process(server)[1] < before[1] + 350
        # Those that are left go by themselves.
        until(lambda: of_process(server)[1] <= before[1] + 5)
    finally:
        for other in others:
            other.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert server.ask("GET", "/api/health").status == 200


def test_a_server_without_file_descriptors_ends_who_is_idle(agnes, serve, tmp_path):
    publish(agnes, tmp_path / "inbox")
    server = serve(**configured(tmp_path))
    log = drain(server)
    session = sign_in(server)
    few = of_process(server)[1] + 30
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (few, few))
    others = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(200)]
    for _ in range(5):
        assert server.ask("GET", "/api/catalog/tables", token=session).status == 200
    for other in others:
        other.close()
    said = [line for line in log if "Too many open files" in line]
    # Once in ten seconds, however often it happens.
    assert said and len(said) <= 3, said


def test_a_head_or_a_body_that_comes_too_slowly_is_given_up(agnes, serve, tmp_path):
    server = serve(**configured(tmp_path, head_seconds=1, body_seconds=1))

    def drip(begin, pieces):
        """What comes back when the rest comes slowly."""
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
            sock.sendall(begin)
            try:
                for piece in pieces:
                    time.sleep(0.2)
                    sock.sendall(piece)
            except OSError:
                pass
            try:
                return sock.recv(65536)
            except OSError:
                return b""

    slowly = [b"X-A: b\r\n"] * 15
    assert drip(b"GET /api/health HTTP/1.1\r\nHost: x\r\n", slowly + [b"\r\n"]) == b""
    body = b"POST /auth/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    assert drip(body, [b" "] * 15).startswith(b"HTTP/1.1 408 ")
    # A head in pieces that are soon enough is a head.
    quick = b"GET /api/health HTTP/1.1\r\nHost: x\r\n"
    assert drip(quick, [b"\r\n"]).startswith(b"HTTP/1.1 200 ")
    too_long = b"GET /api/health HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 200_000 + b"\r\n\r\n"
    assert drip(too_long, []).startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


def test_whoever_takes_nothing_of_an_answer_holds_nothing_up(agnes, serve, tmp_path):
    folder = tmp_path / "inbox"
    publish(agnes, folder, rows=1_000_000)
    server = serve(**configured(tmp_path, stall_seconds=1, idle_seconds=2, max_query_rows=2_000_000))
    session = sign_in(server)
    before = of_process(server)
    head = f"Host: x\r\nAuthorization: Bearer {session}\r\n"
    sql = json.dumps({"sql": "SELECT * FROM orders a, range(20)", "limit": 2_000_000})
    arrow = f"POST /api/query HTTP/1.1\r\n{head}Accept: application/vnd.apache.arrow.stream\r\nContent-Type: application/json\r\nContent-Length: {len(sql)}\r\n\r\n{sql}"
    download = f"GET /api/data/orders/download HTTP/1.1\r\n{head}\r\n"
    slow = []
    for at in range(24):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", server.port))
        # A user has four statements at a time: those four are all taken.
        sock.sendall((arrow if at < 4 else download).encode())
        slow.append(sock)
    until(lambda: server.query("SELECT 1")[0] == 200)
    until(lambda: of_process(server)[1] <= before[1] + 5)
    for sock in slow:
        sock.close()


def test_no_worker_outlives_its_server(agnes, serve, tmp_path):
    folder = tmp_path / "inbox"
    publish(agnes, folder, rows=10)
    server = serve(**configured(tmp_path))
    assert server.query("SELECT count(*) FROM orders")[0] == 200

    def workers():
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                state, parent = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[:2]
            except OSError:
                continue
            if parent == str(server.process.pid) and state != "Z":
                found.append(int(pid))
        return found

    there = workers()
    assert there
    # Taken over, they would hear nobody.
    for pid in there:
        os.kill(pid, signal.SIGSTOP)
    server.process.kill()
    server.process.wait()

    def is_there(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
        except OSError:
            return False

    until(lambda: not any(map(is_there, there)))


class Reluctant:
    """A client of HTTP/2 that takes the head of each answer, and of the rest as much as it is told to."""

    def __init__(self, server):
        self.host = f"127.0.0.1:{server.port}"
        self.sock = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.http.initiate_connection()
        self.http.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})

    def send(self):
        try:
            self.sock.sendall(self.http.data_to_send())
        except (BrokenPipeError, ConnectionResetError):
            pass

    def ask(self, path, **headers):
        stream = self.http.get_next_available_stream_id()
        head = [(":method", "GET"), (":path", path), (":scheme", "http"), (":authority", self.host)]
        self.http.send_headers(stream, head + list(headers.items()), end_stream=True)
        self.send()
        return stream

    def take(self, stream, count):
        """Opens the window of an answer a little."""
        self.http.increment_flow_control_window(count, stream)
        self.http.increment_flow_control_window(count)
        self.send()

    def ping(self):
        self.http.ping(b"are you?")
        self.send()

    def listen(self, seconds=0.0):
        """What the server says within a time, of which it is told that it was heard; none when it is gone."""
        events, end = [], time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 or not events:
            self.sock.settimeout(max(left, 0.001))
            try:
                data = self.sock.recv(65536)
            except TimeoutError:
                return events
            except ConnectionResetError:
                return None
            if not data:
                return None
            events += self.http.receive_data(data)
            self.send()
        return events


def test_whoever_leaves_answers_lying_over_http2_is_ended(agnes, serve, tmp_path):
    """Nobody is asked for a token for that, and the line itself takes all that it is sent."""
    publish(agnes, tmp_path / "inbox", rows=1_000_000)
    server = serve(**configured(tmp_path, stall_seconds=2, idle_seconds=60))
    session = sign_in(server)
    clients = [Reluctant(server) for _ in range(4)]
    asked = [client.ask("/api/health") for client in clients]
    # Of some the last bytes lie where nobody looks any more.
    for client, stream in list(zip(clients, asked))[:2]:
        client.take(stream, 1)
    # One who takes a little now and then, as over a slow line, has longer.
    slow = Reluctant(server)
    download = slow.ask("/api/data/orders/download", authorization=f"Bearer {session}")
    begun, there, came = time.monotonic(), list(clients), 0
    while time.monotonic() < begun + 6:
        for client in list(there):
            client.ping()
            if client.listen(0.02) is None:
                assert time.monotonic() - begun > 1.5
                there.remove(client)
        slow.take(download, 10_000)
        said = slow.listen(0.1)
        assert said is not None
        came += sum(len(event.data) for event in said if isinstance(event, h2.events.DataReceived))
    assert not there
    assert came > 100_000
    for client in [*clients, slow]:
        client.sock.close()


def test_ten_thousand_mad_requests_break_nothing(agnes, serve, tmp_path):
    """Random, mutated and malformed requests: each is answered or cut off, none with a fault."""
    publish(agnes, tmp_path / "inbox")
    server = serve(**configured(tmp_path, head_seconds=1, body_seconds=1))
    log = drain(server)
    session = sign_in(server)
    description = json.loads(server.ask("GET", "/api/openapi.json").body)
    # A session that ends, or another configuration, would end the test.
    apart = ("/auth/logout", "server-config", "configure")
    routes = [(method.upper(), path) for path, item in description["paths"].items() for method in item
              if not any(part in path for part in apart)]
    rng = random.Random(11)
    words = ["orders", "..", "%2e%2e", "%00", "'", "\"", "é", "a" * 300, "{}", "[]", "null", "-1", "1e999", "\x7f", "*"]
    junk = [b"", b"\x00", b"\r\n", b"\xff" * 9, b"GET", b" ", b"HTTP/9.9", b":", b"chunked", b"Content-Length: -5\r\n",
            b"Transfer-Encoding: chunked\r\n", b"Content-Length: 99999999999999999999\r\n", b"Range: bytes=5-1\r\n"]

    def request():
        method, path = rng.choice(routes)
        while "{" in path:
            begin, rest = path.split("{", 1)
            path = begin + rng.choice(words).replace(" ", "%20") + rest.split("}", 1)[1]
        if rng.random() < 0.3:
            path += "?" + rng.choice(words) + "=" + rng.choice(words)
        if method == "DELETE" and rng.random() < 0.9:
            method = "GET"
        body = rng.choice(["", "{", "[]", '{"sql": "FROM orders"}', '{"sql": 5}', '{"email": "x"}', '{"name": "' + rng.choice(words) + '"}'])
        lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body.encode())}", "Connection: close"]
        if rng.random() < 0.7:
            lines.append(f"Authorization: Bearer {session}")
        if rng.random() < 0.8:
            lines.append("Content-Type: application/json")
        raw = ("\r\n".join(lines) + "\r\n\r\n" + body).encode()
        for _ in range(rng.choice([0, 0, 1, 2, 5])):
            at = rng.randrange(len(raw))
            raw = raw[:at] + rng.choice(junk) + raw[at + rng.choice([0, 1, 3]):]
        return raw

    requests = [request() for _ in range(10_000)]

    def send(raw):
        try:
            with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
                sock.sendall(raw)
                return sock.recv(64)
        except OSError:
            return b""

    before = of_process(server)
    faults, statuses = [], {}
    # Of some the rest never comes: they are given up after a second.
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        for raw, answer in zip(requests, pool.map(send, requests)):
            status = answer[9:12].decode(errors="replace")
            statuses[status] = statuses.get(status, 0) + 1
            # What takes a system that isn't there says so with 501.
            if status.startswith("5") and status not in ("501", "503"):
                faults.append((status, raw[:200]))
    assert not faults, faults[:5]
    assert statuses.get("200", 0) > 100 and statuses.get("400", 0) > 500, statuses
    assert server.process.poll() is None
    until(lambda: of_process(server)[1] <= before[1] + 5)
    # Threads that are idle go after ten seconds; those that wait for statements after thirty.
    until(lambda: of_process(server)[0] <= before[0] + 40, seconds=60)
    assert not any("panicked" in line or "internal error" in line for line in log), [l for l in log if "panick" in l][:3]

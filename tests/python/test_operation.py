"""What an operator does with a server: ends it, watches it, renews its certificate, backs it up."""

import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time

import duckdb
import pytest
import trustme

from test_faults import configured, drain, of_process, sign_in, until
from test_server import PASSWORD, Server, many, publish, serve  # noqa: F401


def begin_download(server, session):
    """A download of which only the head is read."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.connect()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.request("GET", "/api/data/orders/download", headers={"Authorization": f"Bearer {session}"})
    return connection, connection.getresponse()


def refused(server):
    """Whether nobody new is let in."""
    try:
        socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
    except OSError:
        return True
    return False


def test_a_server_that_is_told_to_end_finishes_its_downloads(agnes, serve, tmp_path):
    many(agnes, tmp_path / "inbox")
    server = serve(**configured(tmp_path))
    session = sign_in(server)
    whole = json.loads(server.ask("GET", "/api/sync/manifest", token=session).body)["tables"]["orders"]
    connection, answer = begin_download(server, session)
    idle = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    idle.request("GET", "/api/health")
    idle.getresponse().read()
    server.process.send_signal(signal.SIGTERM)

    until(lambda: refused(server))
    assert idle.sock.recv(1) == b"", "whoever asks nothing is let go at once"
    assert server.process.poll() is None
    assert hashlib.md5(answer.read()).hexdigest() == whole["hash"]
    connection.close()
    assert server.end() == 0


def test_what_takes_longer_than_the_limit_is_cut_off(agnes, serve, tmp_path):
    many(agnes, tmp_path / "inbox")
    server = serve(**configured(tmp_path, shutdown_seconds=1))
    log = drain(server)
    connection, _ = begin_download(server, sign_in(server))
    begun = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=20) == 0
    assert 0.9 < time.monotonic() - begun < 10
    until(lambda: any("cut off: 1 request" in line for line in log))
    connection.close()
    # Asked twice, it doesn't wait at all.
    server = serve(**configured(tmp_path, shutdown_seconds=600))
    connection, _ = begin_download(server, sign_in(server))
    server.process.send_signal(signal.SIGTERM)
    until(lambda: refused(server))
    assert server.process.poll() is None
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(timeout=20) == 0
    connection.close()


def get(port, path, authority, token=None, sock=None):
    """Over TLS; the answer, and the serial number of the certificate."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    connection = http.client.HTTPSConnection("localhost", port, timeout=30, context=context)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
    serial = connection.sock.getpeercert()["serialNumber"]
    answer = connection.getresponse()
    answer.body = answer.read()
    connection.close()
    return answer, serial


def test_a_certificate_is_renewed_without_a_gap(agnes, serve, tmp_path):
    authority = trustme.CA()
    folder = tmp_path / "config"
    folder.mkdir()

    def issue():
        made = authority.issue_cert("localhost", "127.0.0.1")
        chain = b"".join(pem.bytes() for pem in made.cert_chain_pems)
        for name, content in (("chain.pem", chain), ("key.pem", made.private_key_pem.bytes())):
            (folder / f"{name}.new").write_bytes(content)
            os.replace(folder / f"{name}.new", folder / name)

    issue()
    variables = configured(tmp_path, tls_certificate="chain.pem", tls_key="key.pem")
    environment = {**os.environ, "SEED_ADMIN_EMAIL": "root@example.com", "SEED_ADMIN_PASSWORD": PASSWORD, **variables}
    command = [agnes.command, "--data-dir", str(agnes.data), "serve", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        first = process.stderr.readline()
        assert first.startswith("listening on https://127.0.0.1:"), first
        port = int(first.rsplit(":", 1)[1])
        lines = []
        threading.Thread(target=lambda: lines.extend(process.stderr), daemon=True).start()
        answer, serial = get(port, "/api/health", authority)
        assert answer.status == 200
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
        # Plain HTTP is nobody.
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            plain.sendall(b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert not plain.recv(100).startswith(b"HTTP/")
        # Old versions of TLS aren't spoken.
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(old)
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, OSError)):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
                old.wrap_socket(sock, server_hostname="localhost")
        # A connection that is open goes on with what it began with.
        context = ssl.create_default_context()
        authority.configure_trust(context)
        kept = http.client.HTTPSConnection("localhost", port, timeout=30, context=context)
        kept.request("GET", "/api/health")
        kept.getresponse().read()
        failed = []
        stop = threading.Event()

        def ask():
            while not stop.is_set():
                try:
                    if get(port, "/api/version", authority)[0].status != 200:
                        failed.append("status")
                except OSError as error:
                    failed.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        issue()
        until(lambda: get(port, "/api/health", authority)[1] != serial)
        stop.set()
        asking.join()
        assert not failed
        kept.request("GET", "/api/health")
        assert kept.getresponse().read()
        # What can't be used changes nothing, and is told.
        renewed = get(port, "/api/health", authority)[1]
        (folder / "key.pem").write_text("no key")
        until(lambda: any("the old one stays" in line for line in lines))
        assert get(port, "/api/health", authority)[1] == renewed
        check = agnes("config", "check", env=environment, check=False)
        assert check.returncode == 2 and "key.pem" in check.stderr
    finally:
        process.kill()
        process.wait()


def test_what_every_answer_tells_a_browser(serve):
    server = serve()
    for path in ("/api/health", "/api/nothing", "/login", "/api/catalog/tables"):
        headers = server.ask("GET", path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "same-origin"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        # Only where it is reached over HTTPS.
        assert headers["Strict-Transport-Security"] is None
    assert "data.example.com" in serve_with_domain(serve, server)


def serve_with_domain(serve, server):
    server.end()
    again = serve(DOMAIN="data.example.com")
    assert again.ask("GET", "/api/health").headers["Strict-Transport-Security"] == "max-age=31536000"
    return "data.example.com"


def figures(text):
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if not line.startswith("#")}


def test_prometheus_reads_what_happens(agnes, serve, tmp_path):
    publish(agnes, tmp_path / "inbox")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    server = serve(**configured(tmp_path, metrics_listen=address, log_format="json"))
    lines = drain(server)
    session = sign_in(server)
    assert server.ask("GET", "/metrics").status == 401
    for _ in range(3):
        server.ask("GET", "/api/data/orders/check-access", token=session)
    server.ask("GET", "/api/data/nothing-of-the-kind/check-access", token=session)
    size = len(server.ask("GET", "/api/data/orders/download", token=session).body)
    answer = server.ask("GET", "/metrics", token=session)
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.body.endswith(b"# EOF\n")
    seen = figures(answer.body.decode())
    # Routes are patterns: a caller makes up no new ones.
    route = 'agnes_http_requests_total{method="GET",route="/api/data/{table}/check-access",status="%d"}'
    assert seen[route % 204] == 4 and not any("nothing-of-the-kind" in name for name in seen)
    assert seen['agnes_http_request_duration_seconds_count{method="GET",route="/api/data/{table}/check-access"}'] == 4
    assert seen["agnes_http_sent_bytes_total"] >= size
    assert seen["agnes_published_tables"] == 1 and seen["agnes_users"] == 1
    assert seen['agnes_statements{state="running"}'] == 0
    assert seen["process_open_fds"] > 5 and seen["process_resident_memory_bytes"] > 1e7
    assert 0 < seen["agnes_disk_free_bytes"] <= seen["agnes_disk_size_bytes"]
    assert abs(seen["agnes_published_timestamp_seconds"] - time.time()) < 600
    # The same without a token on an address of its own, where nothing else is.
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("GET", "/metrics")
    assert figures(connection.getresponse().read().decode())["agnes_published_tables"] == 1
    connection.request("GET", "/api/catalog/tables")
    elsewhere = connection.getresponse()
    elsewhere.read()
    assert elsewhere.status == 404
    connection.close()
    # Each request is a line of JSON, with the id that its answer has.
    asked = server.ask("GET", "/api/version", X_Request_ID="from-the-proxy-7")
    assert asked.headers["X-Request-ID"] == "from-the-proxy-7"
    until(lambda: any("from-the-proxy-7" in line for line in lines))
    line = json.loads(next(line for line in lines if "from-the-proxy-7" in line))
    assert (line["level"], line["method"], line["path"], line["status"]) == ("INFO", "GET", "/api/version", 200)
    assert line["request_id"] == "from-the-proxy-7" and "timestamp" in line and "ms" in line


def test_a_log_that_can_not_be_meant_is_refused(agnes):
    for variables, what in (({"AGNES_LOG_FORMAT": "xml"}, "`text` or `json`"), ({"AGNES_LOG": "a=b=c"}, "AGNES_LOG")):
        done = agnes("serve", "--listen", "127.0.0.1:0", check=False, env={**os.environ, **variables}, timeout=30)
        assert done.returncode == 2 and what in done.stderr, done.stderr


def test_a_backup_is_taken_and_given_back_beside_a_server(agnes, serve, tmp_path):
    publish(agnes, tmp_path / "inbox")
    server = serve()
    session = sign_in(server)
    # A token is part of what is given back, a session isn't.
    token = json.loads(server.ask("POST", "/auth/tokens", {"name": "backups"}, session).body)["token"]
    server.token = token
    made = server.ask("POST", "/api/users", {"email": "ada@example.com"}, session)
    ada = json.loads(made.body)["id"]
    group = json.loads(server.ask("POST", "/api/admin/groups", {"name": "sales"}, session).body)["id"]
    server.ask("POST", f"/api/admin/groups/{group}/members", {"email": "ada@example.com"}, session)
    server.ask("POST", "/api/admin/grants", {"group_id": group, "resource_type": "table", "resource_id": "orders"}, session)

    def state():
        answers = [server.ask("GET", path, token=token) for path in
                   ("/api/users", "/api/admin/groups", "/api/admin/grants", "/api/admin/registry")]
        assert [answer.status for answer in answers] == [200] * 4
        return [json.loads(answer.body) for answer in answers]

    def assert_held():
        """Nobody else gets hold of the system database, however often it was copied."""
        with pytest.raises(duckdb.IOException, match="Could not set lock"):
            duckdb.connect(str(agnes.data / "state/system.duckdb"), read_only=True)

    then = state()
    stop, faults = threading.Event(), []

    def ask():
        while not stop.is_set():
            if server.ask("GET", "/api/data/orders/check-access", token=token).status != 204:
                faults.append("denied")
            status, body = server.query("SELECT count(*) FROM orders")
            # A restore ends every statement; whoever asks again has hers.
            if status != 200 and body.get("code") not in ("Denied", "Unavailable"):
                faults.append((status, body))

    asking = threading.Thread(target=ask)
    asking.start()
    done = agnes("backup", "monday.tar.zst", cwd=tmp_path)
    assert "monday.tar.zst: 1 file, " in done.stdout
    assert (tmp_path / "monday.tar.zst").stat().st_mode & 0o777 == 0o600
    assert_held()
    assert server.ask("DELETE", f"/api/users/{ada}", token=session).status == 204
    assert server.ask("DELETE", f"/api/admin/groups/{group}", token=session).status == 204
    assert state() != then
    assert "whole" in agnes("restore", "--check", "monday.tar.zst", cwd=tmp_path).stdout
    assert state() != then
    done = agnes("restore", "monday.tar.zst", cwd=tmp_path)
    assert "before-restore-" in done.stderr
    stop.set()
    asking.join()
    assert not faults
    assert state() == then
    assert server.ask("GET", "/auth/me", token=session).status == 401
    assert_held()
    # A second backup, of what was given back, holds the same facts.
    agnes("backup", "tuesday.tar.zst", cwd=tmp_path)
    server.end()
    shutil.rmtree(agnes.data / "state")
    agnes("restore", "tuesday.tar.zst", cwd=tmp_path)
    server = serve()
    assert state() == then
    assert "0 problems" in agnes("doctor").stdout


def test_a_backup_by_a_name_alone_says_what_it_leaves_out(agnes, tmp_path):
    agnes("user", "add", "ada@example.com")
    # The second one replaces the first.
    for _ in range(2):
        assert "monday.tar.zst: 1 file, " in agnes("backup", "monday.tar.zst", cwd=tmp_path).stdout
    folder = agnes.data / "user_artifacts/x"
    folder.mkdir(parents=True)
    (folder / "link").symlink_to("/etc/passwd")
    done = agnes("backup", "monday.tar.zst", cwd=tmp_path, check=False)
    assert done.returncode == 9 and "left out: user_artifacts/x/link" in done.stderr
    assert "1 left out" in agnes("restore", "monday.tar.zst", cwd=tmp_path).stdout
    assert (folder / "link").is_symlink()


def test_a_doctor_says_what_is_wrong_and_changes_nothing(agnes, tmp_path):
    publish(agnes, tmp_path / "inbox")
    agnes("user", "add", "ada@example.com")
    before = sorted(str(path) for path in agnes.data.rglob("*"))
    well = json.loads(agnes("doctor", "--json").stdout)
    assert well["ok"] and all(finding["health"] != "problem" for finding in well["findings"])
    assert sorted(str(path) for path in agnes.data.rglob("*")) == before
    (agnes.data / "state/system.duckdb").chmod(0o644)
    (agnes.data / "analytics/server.duckdb").unlink()
    pin = next((agnes.data / "analytics/pins/shop").iterdir())
    pin.unlink()
    ill = agnes("doctor", "--json", check=False)
    assert ill.returncode == 9
    problems = {finding["seen"]: finding["cure"] for finding in json.loads(ill.stdout)["findings"] if finding["health"] == "problem"}
    assert len(problems) == 3 and all(problems.values())
    assert any("others of this machine may open" in seen for seen in problems)
    assert any("`orders`" in seen for seen in problems)
    agnes("rebuild")
    (agnes.data / "state/system.duckdb").chmod(0o600)
    (agnes.data / "state/system.duckdb").write_bytes(b"garbage")
    ill = agnes("doctor", check=False)
    assert ill.returncode == 9 and "agnes restore" in ill.stdout


def test_a_collector_gets_the_span_of_each_request(agnes, serve, tmp_path):
    import http.server

    got = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    collector = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    publish(agnes, tmp_path / "inbox")
    endpoint = f"http://127.0.0.1:{collector.server_address[1]}"
    server = serve(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_BSP_SCHEDULE_DELAY="100")
    trace = "0af7651916cd43dd8448eb211c80319c"
    answer = server.ask("GET", "/api/data/orders/check-access", token=server.token, traceparent=f"00-{trace}-b7ad6b7169203331-01")
    assert answer.status == 204
    # The part of a trace that a proxy began, under the route and not the table's name.
    until(lambda: any(bytes.fromhex(trace) in body and b"GET /api/data/{table}/check-access" in body for _, body in got))
    assert all(path == "/v1/traces" for path, _ in got)
    body = next(body for _, body in got if bytes.fromhex(trace) in body)
    assert b"agnes" in body and answer.headers["X-Request-ID"].encode() in body
    # A collector that is gone holds nobody up.
    collector.shutdown()
    collector.server_close()
    assert server.ask("GET", "/api/health").status == 200
    begun = time.monotonic()
    assert server.end() == 0
    assert time.monotonic() - begun < 10

"""Mail goes over TLS to a mail server that shows who it is, and to nobody else."""

import email
import json
import re
import ssl
import time
import urllib.parse

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from test_server import serve  # noqa: F401, a fixture


class AnyPort(Controller):
    """Listens on a free port, which it calls to see whether it listens."""

    def _trigger_server(self):
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


class Sink:
    """A mail server for one name, which takes letters from `agnes` alone."""

    def __init__(self, authority, wraps, name="localhost"):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(name).configure_cert(context)
        self.letters = []
        self.controller = AnyPort(
            self, hostname="127.0.0.1", port=0, ssl_context=context if wraps else None,
            tls_context=None if wraps else context, require_starttls=not wraps,
            auth_required=True, auth_require_tls=not wraps, authenticator=self.authenticated,
        )

    def __enter__(self):
        self.controller.start()
        self.port = self.controller.port
        return self

    def __exit__(self, *_):
        self.controller.stop()

    def authenticated(self, server, session, envelope, mechanism, data):
        return AuthResult(success=(data.login, data.password) == (b"agnes", b"hunter2"))

    async def handle_DATA(self, server, session, envelope):
        self.letters.append(email.message_from_bytes(envelope.content))
        return "250 taken"


def wait(letters, seconds):
    end = time.monotonic() + seconds
    while not letters and time.monotonic() < end:
        time.sleep(0.05)
    return letters


@pytest.mark.parametrize("way", ["starttls", "tls"])
def test_links_are_mailed_over_tls(agnes, serve, tmp_path, way):  # noqa: F811
    authority = trustme.CA()
    trusted = tmp_path / "trusted.pem"
    authority.cert_pem.write_to_path(trusted)
    with Sink(authority, wraps=way == "tls") as sink:
        server = serve(
            SMTP_HOST="localhost", SMTP_PORT=str(sink.port), SMTP_TLS=way, SMTP_USER="agnes",
            SMTP_PASSWORD="hunter2", SMTP_FROM="agnes@example.com", SSL_CERT_FILE=str(trusted),
        )
        answer = server.ask("POST", "/auth/email/send-link", {"email": "root@example.com"})
        assert answer.status == 200
        [letter] = wait(sink.letters, 20)
    assert (letter["From"], letter["To"]) == ("Agnes <agnes@example.com>", "root@example.com")
    text = letter.get_payload(decode=True).decode()
    link = urllib.parse.urlsplit(re.search(r"http://\S+", text).group())
    assert link.port == server.port and link.path == "/auth/email/verify"
    taken = {name: value for name, value in urllib.parse.parse_qsl(link.query)}
    answer = server.ask("POST", "/auth/email/verify", taken)
    assert json.loads(answer.body)["email"] == "root@example.com"


@pytest.mark.parametrize("way", ["starttls", "tls"])
def test_a_mail_server_that_nobody_vouches_for_gets_nothing(agnes, serve, tmp_path, way):  # noqa: F811
    trusted = tmp_path / "trusted.pem"
    trustme.CA().cert_pem.write_to_path(trusted)
    with Sink(trustme.CA(), wraps=way == "tls") as sink:
        server = serve(
            SMTP_HOST="localhost", SMTP_PORT=str(sink.port), SMTP_TLS=way, SMTP_USER="agnes",
            SMTP_PASSWORD="hunter2", SMTP_FROM="agnes@example.com", SSL_CERT_FILE=str(trusted),
        )
        new = {"email": "new@example.com", "send_invite": True}
        answer = server.ask("POST", "/api/users", new, server.token)
        assert answer.status == 201
        assert json.loads(answer.body)["invite_email_sent"] is False
        assert not sink.letters

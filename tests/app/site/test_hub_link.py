import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from app.site.hub_link import HubCheckError, HubLink, check_hub


@contextmanager
def hub(
    *, ahead_s: float = 0, status: int = 200, certificate: Path | None = None, says_time: bool = True
) -> Iterator[str]:
    """A hub whose clock is ahead; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(status)
            if says_time:
                self.send_header("Date", formatdate(time.time() + ahead_s, usegmt=True))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *_: object) -> None:
            del format

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def make_certificate(folder: Path, name: str, days: int = 1) -> Path:
    """A certificate for 127.0.0.1 that vouches for itself, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=9))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA384())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / f"{name}.pem"
    path.write_bytes(made.public_bytes(Encoding.PEM) + private)
    return path


def reason_of(link: HubLink) -> str:
    with pytest.raises(HubCheckError) as caught:
        check_hub(link)
    assert "secret" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("ahead_s", [0, 3, -3])
def test_a_hub_with_about_the_same_time_is_taken(ahead_s: float) -> None:
    with hub(ahead_s=ahead_s) as address:
        assert abs(check_hub(HubLink(address, None, None)).skew_s + ahead_s) < 1.5


@pytest.mark.parametrize("ahead_s", [10, -10, 7200])
def test_another_time_is_refused_and_said_which_way(ahead_s: float) -> None:
    with (
        hub(ahead_s=ahead_s) as address,
        pytest.raises(HubCheckError, match="behind" if ahead_s > 0 else "ahead") as caught,
    ):
        check_hub(HubLink(address, None, None))
    assert caught.value.reason == "clock"


def test_the_hubs_own_authority_is_taken_and_no_other(tmp_path: Path) -> None:
    own, other = make_certificate(tmp_path, "own"), make_certificate(tmp_path, "other")
    with hub(certificate=own) as address:
        check_hub(HubLink(address, own, None))
        assert reason_of(HubLink(address, other, None)) == "hub_certificate"


def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    old = make_certificate(tmp_path, "old", days=-1)
    with hub(certificate=old) as address, pytest.raises(HubCheckError, match="expired") as caught:
        check_hub(HubLink(address, old, None))
    assert caught.value.reason == "hub_certificate"


def test_a_hub_that_is_not_there_or_gives_no_answer_is_named_so(tmp_path: Path) -> None:
    own = make_certificate(tmp_path, "own")
    with hub() as address:
        assert reason_of(HubLink(address, own, None)) == "hub_unreachable"
    assert reason_of(HubLink(address, None, None)) == "hub_unreachable"
    with hub(status=403) as address:
        assert reason_of(HubLink(address, None, None)) == "hub_answer"
    with hub(says_time=False) as address:
        assert reason_of(HubLink(address, None, None)) == "hub_answer"


def test_only_the_proxy_of_the_settings_is_used_and_its_password_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with hub() as address:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
        check_hub(HubLink(address, None, None))
        link = HubLink(address, None, None, proxy="http://user:secret@127.0.0.1:9")
        assert reason_of(link) == "hub_unreachable"
        assert "secret" not in repr(link)

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.site.doctor.connection import check_connection
from app.site.doctor.egress import check_forbidden
from app.site.doctor.finding import Finding
from app.site.hub_link import HubCheckError, HubLink, check_hub
from medfl import __version__
from medfl.errors import ConfigError
from medfl.governance.certificates import Authority

NOW = datetime.now(UTC)


@contextmanager
def hub(
    authority: Authority,
    folder: Path,
    *,
    since: datetime = NOW,
    behind_s: float = 0.0,
    version: str = __version__,
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost"),
) -> Iterator[int]:
    """Serve `/health` over TLS; returns the port."""
    made = authority.issue(hosts, since)
    (folder / "server.crt").write_bytes(made.certificate)
    (folder / "server.key").write_bytes(made.private_key)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            said = datetime.now(UTC) - timedelta(seconds=behind_s)
            self.send_header("date", format_datetime(said.replace(microsecond=0), usegmt=True))
            self.send_header("medfl-version", version)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            return  # a client that does not like the certificate

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def connect_proxy(seen: list[str]) -> Iterator[int]:
    """Pass on what CONNECT asks for."""
    listener = socket.create_server(("127.0.0.1", 0))

    def copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def serve(client: socket.socket) -> None:
        with client:
            asked = b""
            while b"\r\n\r\n" not in asked:
                data = client.recv(4096)
                if not data:
                    return
                asked += data
            line = asked.split(b"\r\n")[0].decode()
            seen.append(line)
            host, _, port = line.split()[1].rpartition(":")
            with socket.create_connection((host, int(port))) as target:
                client.sendall(b"HTTP/1.1 200 ok\r\n\r\n")
                back = threading.Thread(target=copy, args=(target, client), daemon=True)
                back.start()
                copy(client, target)
                back.join(5)

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path, "trial", NOW - timedelta(days=800))


def found(port: int, folder: Path, *, host: str = "127.0.0.1", proxy: str = "") -> dict[str, Finding]:
    link = HubLink(f"{host}:{port}", folder / "ca.crt", None, proxy)
    return {one.check: one for one in check_connection(link, NOW)}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def test_a_hub_that_is_well_is_ok_in_every_way(authority: Authority, tmp_path: Path) -> None:
    with hub(authority, tmp_path) as port:
        every = found(port, tmp_path)
    assert {one.status for one in every.values()} == {"ok"}
    assert every.keys() == {
        "proxy.variables",
        "hub.name",
        "hub.reachable",
        "hub.authority",
        "hub.certificate",
        "hub.clock",
        "hub.version",
    }


def test_who_opens_tls_connections_is_named(authority: Authority, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with hub(Authority.create(other, "Clinic Firewall 3", NOW), other) as port:
        one = found(port, tmp_path)["hub.certificate"]
    assert one.status == "problem"
    assert "Clinic Firewall 3" in one.found
    assert "exception" in one.fix


@pytest.mark.parametrize(("age", "status", "word"), [(500, "problem", "ended"), (380, "warning", "renew")])
def test_a_certificate_that_ended_or_ends_soon_is_named(
    authority: Authority, tmp_path: Path, age: int, status: str, word: str
) -> None:
    with hub(authority, tmp_path, since=NOW - timedelta(days=age)) as port:
        one = found(port, tmp_path)["hub.certificate"]
    assert one.status == status
    assert word in one.found + one.fix


@pytest.mark.parametrize(("behind_s", "where"), [(30.0, "ahead of"), (-30.0, "behind")])
def test_another_clock_is_named(authority: Authority, tmp_path: Path, behind_s: float, where: str) -> None:
    with hub(authority, tmp_path, behind_s=behind_s) as port:
        one = found(port, tmp_path)["hub.clock"]
    assert one.status == "problem"
    assert where in one.found


def test_a_hub_of_another_version_is_named_and_one_that_says_nonsense_says_nothing(
    authority: Authority, tmp_path: Path
) -> None:
    with hub(authority, tmp_path, version="9.9.9") as port:
        one = found(port, tmp_path)["hub.version"]
        assert (one.status, "9.9.9" in one.found) == ("problem", True)
        with pytest.raises(HubCheckError, match="same version") as caught:
            check_hub(HubLink(f"127.0.0.1:{port}", tmp_path / "ca.crt", None))
        assert caught.value.reason == "version"
    with hub(authority, tmp_path, version="<script>") as port:
        assert found(port, tmp_path)["hub.version"].status == "skipped"


def test_nobody_there_and_a_name_without_an_address_end_the_checks(authority: Authority, tmp_path: Path) -> None:
    del authority
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    every = found(port, tmp_path)
    assert every["hub.reachable"].status == "problem"
    assert "hub.certificate" not in every
    assert found(port, tmp_path, host="nowhere.invalid")["hub.name"].status == "problem"


def test_a_certificate_for_another_address_is_not_taken_for_somebody_between(
    authority: Authority, tmp_path: Path
) -> None:
    with hub(authority, tmp_path, hosts=("hub.example",)) as port:
        one = found(port, tmp_path)["hub.certificate"]
    assert one.status == "problem"
    assert "not for the address" in one.found


def test_the_hub_is_found_through_the_hospital_s_proxy(authority: Authority, tmp_path: Path) -> None:
    seen: list[str] = []
    with hub(authority, tmp_path) as port, connect_proxy(seen) as door:
        every = found(port, tmp_path, proxy=f"http://127.0.0.1:{door}")
    assert {name: one.status for name, one in every.items() if one.status != "ok"} == {"hub.name": "skipped"}
    assert seen
    assert all(line.startswith(f"CONNECT 127.0.0.1:{port}") for line in seen)


def test_who_opens_tls_connections_behind_the_proxy_is_named(authority: Authority, tmp_path: Path) -> None:
    other, seen = tmp_path / "other", list[str]()
    other.mkdir()
    with hub(Authority.create(other, "Clinic Firewall 3", NOW), other) as port, connect_proxy(seen) as door:
        one = found(port, tmp_path, proxy=f"http://staff:hidden@127.0.0.1:{door}")["hub.certificate"]
    assert one.status == "problem"
    assert "Clinic Firewall 3" in one.found
    assert "hidden" not in str(one)


def test_a_proxy_in_the_environment_that_is_not_used_is_a_warning(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://user:hidden@127.0.0.1:9")
    with hub(authority, tmp_path) as port:
        every = found(port, tmp_path)
    assert every["proxy.variables"].status == "warning"
    assert every["hub.certificate"].status == "ok"
    assert "hidden" not in str(every)


@pytest.mark.parametrize(("value", "status"), [("localhost, 127.0.0.1", "warning"), ("clinic.example", "ok")])
def test_a_hub_that_the_environment_exempts_from_the_proxy_is_a_warning(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, status: str
) -> None:
    monkeypatch.setenv("NO_PROXY", value)
    with hub(authority, tmp_path) as port, connect_proxy([]) as door:
        every = found(port, tmp_path, proxy=f"http://127.0.0.1:{door}")
    assert every["proxy.variables"].status == status


def test_an_authority_that_ends_soon_is_a_warning(tmp_path: Path) -> None:
    old = Authority.create(tmp_path, "trial", NOW - timedelta(days=3640))
    with hub(old, tmp_path) as port:
        assert found(port, tmp_path)["hub.authority"].status == "warning"


def test_a_forbidden_address_that_answers_is_a_problem() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert [one.status for one in check_forbidden([f"127.0.0.1:{port}"])] == ["problem"]
    assert [one.status for one in check_forbidden([f"127.0.0.1:{port}"])] == ["ok"]
    assert [one.status for one in check_forbidden([])] == ["skipped"]
    with pytest.raises(ConfigError, match="HOST:PORT"):
        list(check_forbidden(["example.org"]))

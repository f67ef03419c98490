"""Whoever has the hub's certificate and nothing else: Flower's own programs, and requests by hand."""

import http.client
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from medfl.data.manifest import Manifest
from medfl.data.phantoms import make_phantoms
from medfl.governance.certificates import Authority
from medfl.governance.site_keys import create_site_key

from .federation import Federation, federation
from .flower_processes import missing_programs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_SECONDS = 25


@pytest.fixture(scope="module")
def lent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A hub that runs, with one site enrolled."""
    missing = missing_programs()
    assert not missing, f"Flower's programs are not installed: {', '.join(missing)}"
    manifest: Manifest = make_phantoms(tmp_path_factory.mktemp("data"), dimensions=2, subjects=4, visits=1, sites=1)
    with federation() as made:
        made.make_hub()
        made.make_site("site-1", manifest)
        made.start_hub()
        yield made


@pytest.fixture
def stranger(lent: Federation, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run one of Flower's programs with the hub's certificate."""
    (tmp_path / "config.toml").write_text(
        f'[superlink]\ndefault = "hub"\n[superlink.hub]\naddress = "localhost:{lent.port}"\n'
        f'root-certificates = "{lent.hub / "ca" / "ca.crt"}"\n'
    )
    offline = {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    }

    def run(program: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name(program)), *map(str, words)]
        environment = {**os.environ, **offline, "FLWR_HOME": str(tmp_path)}
        try:
            return subprocess.run(
                command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            said = (error.stdout or b"") + (error.stderr or b"")
            return subprocess.CompletedProcess(command, -1, said.decode(), "")

    return run


def _asked(lent: Federation, method: str, path: str, body: bytes = b"", ca: Path | None = None) -> int:
    """Return the status of one request, its path sent as it is."""
    context = ssl.create_default_context(cafile=str(ca or lent.hub / "ca" / "ca.crt"))
    connection = http.client.HTTPSConnection("localhost", lent.port, context=context, timeout=30)
    try:
        connection.request(method, path, body, {"content-type": "application/protobuf"})
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/list-runs",
        "/v1/control/start-run",
        "/v1/control/register-node",
        "/v1/runtime/acquire-task",
        "/v1/runtime/pull-messages",
        "/v1/fleet/register-node",
        "/v1/fleet/unregister-node",
        "/v1/fleet/../control/list-runs",
        "/v1/fleet/%2e%2e/control/list-runs",
        "/v1/fleet/..%2fcontrol%2flist-runs",
        "/v1/fleet/pull-messages/../../control/list-runs",
        "//v1/control/list-runs",
        "/v1/fleet/pull-messages?x=1",
        "/docs",
        "/openapi.json",
        "/",
    ],
)
def test_only_what_sites_ask_goes_through(lent: Federation, path: str) -> None:
    for method in ("POST", "GET", "PUT", "OPTIONS"):
        assert _asked(lent, method, path) in (403, 405), method


def test_what_sites_ask_needs_the_key_of_a_site(lent: Federation) -> None:
    assert _asked(lent, "GET", "/health") == 200
    for name in ("pull-messages", "activate-node", "push-messages", "get-run", "get-fab", "pull-object"):
        assert _asked(lent, "POST", f"/v1/fleet/{name}", b"\x0a\x00") in (400, 401), name
    assert _asked(lent, "POST", "/v1/fleet/push-object", b"\0" * (17 * 2**20)) == 413


@pytest.mark.parametrize("words", [["list"], ["supernode", "list"], ["stop", "1"], ["log", "1"]])
def test_a_stranger_can_neither_list_runs_nor_end_them(
    stranger: Callable[..., subprocess.CompletedProcess[str]], words: list[str]
) -> None:
    ran = stranger("flwr", *words, "hub")
    assert ran.returncode != 0, ran.stdout


def test_a_stranger_can_neither_register_a_node_nor_start_a_run(
    lent: Federation, stranger: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    create_site_key(tmp_path / "key", "x")
    assert stranger("flwr", "supernode", "register", tmp_path / "key.pub", "hub").returncode != 0
    app = tmp_path / "app"
    app.mkdir()
    (app / "pyproject.toml").write_text(
        '[project]\nname = "x"\nversion = "1.0.0"\ndescription = ""\nlicense = "Apache-2.0"\ndependencies = []\n'
        '[tool.flwr.app]\npublisher = "x"\n[tool.flwr.app.components]\nserverapp = "x:app"\nclientapp = "x:app"\n'
    )
    (app / "x.py").write_text("app = None\n")
    assert stranger("flwr", "run", app, "hub").returncode != 0
    status = json.loads(lent.medfl("hub", "status", lent.hub, "--json").splitlines()[-1])
    assert [site["site"] for site in status["sites"]] == ["site-1"]
    assert status["runs"] == []


def test_a_stranger_s_executor_gets_no_task(
    lent: Federation, stranger: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("0" * 64)
    ran = stranger(
        "flower-superexec",
        "--root-certificates",
        lent.hub / "ca" / "ca.crt",
        "--runtime-api-address",
        f"localhost:{lent.port}",
        "--superexec-auth-secret-file",
        tmp_path / "secret",
    )
    assert ran.returncode != 0
    assert "403" in ran.stdout + ran.stderr


@pytest.mark.parametrize("kind", ["another key", "no key", "another authority"])
def test_a_stranger_s_node_does_not_get_in(
    lent: Federation, stranger: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, kind: str
) -> None:
    create_site_key(tmp_path / "key", "x")
    Authority.create(tmp_path, "other", datetime.now(UTC))
    ca = tmp_path / "ca.crt" if kind == "another authority" else lent.hub / "ca" / "ca.crt"
    key = lent.site("site-1") / "keys" / "site_key" if kind == "another authority" else tmp_path / "key"
    words = ["--superlink", f"localhost:{lent.port}", "--root-certificates", ca, "--port", "0"]
    words += [] if kind == "no key" else ["--auth-supernode-private-key", key]
    ran = stranger("flower-supernode", *words, "--max-retries", "1")
    assert ran.returncode != 0
    status = json.loads(lent.medfl("hub", "status", lent.hub, "--json").splitlines()[-1])
    assert [(site["site"], site["status"]) for site in status["sites"]] == [("site-1", "never seen")]

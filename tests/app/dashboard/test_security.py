import asyncio
import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import streamlit

from app.dashboard.security import CLOSED, Hardened, Message, Send, content_policy
from app.dashboard.serving import application, options
from app.dashboard.settings import DashboardSettings

PAGE = "<script>\n  a = 1\n</script><script src='x.js'></script>"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def ask(path: str, method: str = "GET", kind: str = "http") -> Answer:
    """Ask the middleware in front of an application that answers everything, with headers of its own."""
    sent: list[Message] = []

    async def inner(scope: Message, receive: object, send: Send) -> None:
        headers = [(b"Content-Security-Policy", b"default-src *"), (b"etag", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"inner"})

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": kind, "path": path, "method": method, "headers": [(b"host", b"127.0.0.1:8501")]}
    asyncio.run(Hardened(inner, page=PAGE)(scope, receive, send))
    headers = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    assert len(headers) == len(sent[0]["headers"])
    return Answer(sent[0]["status"], headers, sent[1]["body"])


def test_the_policy_names_the_hash_of_the_pages_own_script_and_no_other_place() -> None:
    digest = base64.b64encode(hashlib.sha256(b"\n  a = 1\n").digest()).decode()
    policy = content_policy("dash.example:8501", PAGE)
    assert f"'sha256-{digest}'" in policy
    assert "connect-src 'self' ws://dash.example:8501 wss://dash.example:8501;" in policy
    assert "unsafe-eval" not in policy.replace("wasm-unsafe-eval", "")
    assert "http:" not in policy
    assert "*" not in policy


@pytest.mark.parametrize("host", ["", "a b", "evil.example; script-src *", "x\ny", "a/b", "ä.example", "a:99999999"])
def test_a_host_that_is_none_does_not_enter_the_policy(host: str) -> None:
    assert "connect-src 'self';" in content_policy(host, PAGE)


def test_every_answer_carries_the_policy_and_no_weaker_one() -> None:
    for path in ("/", "/health", "/nowhere", "/privacy", *CLOSED):
        headers = ask(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    assert ask("/").headers["etag"] == "1"


def test_sockets_pass_as_they_are() -> None:
    assert ask("/_stcore/stream", kind="websocket").headers["content-security-policy"] == "default-src *"


@pytest.mark.parametrize("path", CLOSED)
def test_what_nothing_needs_is_closed(path: str) -> None:
    for place in (path, f"{path}/x"):
        for method in ("GET", "POST", "PUT"):
            assert ask(place, method).status == 404
    assert ask(f"{path}x").body == b"inner"


def test_the_application_has_a_health_endpoint_and_the_middleware(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDFL_DASHBOARD", "")
    app = application(DashboardSettings(runs=tmp_path))
    assert [route.path for route in app._user_routes] == ["/health"]
    assert [middleware.cls for middleware in app._user_middleware] == [Hardened]


def test_streamlit_is_told_to_keep_to_itself() -> None:
    chosen = options(port=1)
    assert chosen["server.address"] == "127.0.0.1"
    assert chosen["browser.gatherUsageStats"] is False
    assert chosen["client.showErrorDetails"] == "none"
    assert chosen["server.fileWatcherType"] == "none"
    assert chosen["logger.hideWelcomeMessage"] is True
    known = streamlit.config._config_options_template  # a misspelt option would be ignored
    assert set(chosen) <= set(known)
    assert json.dumps(chosen)


def test_a_proxys_name_is_allowed_and_shown() -> None:
    chosen = options(port=1, host="dash.example")
    assert "dash.example" in chosen["server.allowedHosts"]
    assert chosen["browser.serverAddress"] == "dash.example"

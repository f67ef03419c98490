import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from flwr.proto.message_pb2 import ConfirmMessageReceivedResponse, PullObjectResponse
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.error.catalog import API_ERROR_MAP
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from starlette.applications import Starlette
from starlette.types import Message

from app.hub.proxy import ASKED_BY_SITES, MOST_BYTES, RUN_HAS_ENDED, proxy

_HEADERS = [(b"content-type", b"application/protobuf"), (b"flwr-signature", b"abc")]


class Upstream:
    """Answers from a list, then with nothing."""

    def __init__(self, *answers: httpx.Response | Exception, is_up: bool = True) -> None:
        self.answers, self.is_up, self.closed = list(answers), is_up, False
        self.asked: list[tuple[str, Mapping[str, str], bytes]] = []

    async def ask(self, path: str, headers: Mapping[str, str], body: bytes) -> httpx.Response:
        self.asked.append((path, headers, body))
        answer = self.answers.pop(0) if self.answers else httpx.Response(200)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def is_healthy(self) -> bool:
        return self.is_up

    async def close(self) -> None:
        self.closed = True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def ask(
    upstream: Upstream,
    path: str,
    *,
    method: str = "POST",
    body: bytes = b"question",
    query: bytes = b"",
    headers: list[tuple[bytes, bytes]] | None = None,
    clock: Clock | None = None,
    leaves_after: int | None = None,
    application: Starlette | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """Send one request through the application, as a server would; `leaves_after` looks, the client is gone."""
    clock = clock or Clock()
    application = application or proxy(upstream, version="1.2.3", clock=clock, sleep=clock.sleep)
    sent: list[Message] = []
    looks = [0]

    async def receive() -> Message:
        looks[0] += 1
        if looks[0] == 1:
            return {"type": "http.request", "body": body, "more_body": False}
        if leaves_after is not None and looks[0] > leaves_after:
            return {"type": "http.disconnect"}
        await asyncio.sleep(3600)
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": _HEADERS if headers is None else headers,
        "scheme": "https",
        "server": ("hub", 443),
        "client": ("10.0.0.1", 5),
        "root_path": "",
    }
    with ThreadPoolExecutor(1) as elsewhere:  # a browser of other tests keeps a loop in this thread
        elsewhere.submit(asyncio.run, application(scope, receive, send)).result()
    found = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
    return sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize("name", sorted(ASKED_BY_SITES - {"pull-messages"}))
def test_a_site_s_question_goes_through_with_its_headers_and_comes_back(name: str) -> None:
    upstream = Upstream(httpx.Response(401, content=b"answer", headers={"content-type": "x/y", "server": "z"}))
    status, headers, body = ask(upstream, f"/v1/fleet/{name}")
    assert (status, body, headers["content-type"]) == (401, b"answer", "x/y")
    assert "server" not in headers
    path, asked, content = upstream.asked[0]
    assert (path, content, asked["flwr-signature"]) == (f"/v1/fleet/{name}", b"question", "abc")


@pytest.mark.parametrize(
    ("method", "path", "query"),
    [
        ("POST", "/v1/control/list-runs", b""),
        ("POST", "/v1/runtime/acquire-task", b""),
        ("POST", "/v1/fleet/register-node", b""),
        ("POST", "/v1/fleet/unregister-node", b""),
        ("POST", "/v1/fleet/", b""),
        ("POST", "/v1/fleet/../control/list-runs", b""),
        ("POST", "/v1/fleet/pull-messages/x", b""),
        ("POST", "/v1/fleet/get-run", b"a=1"),
        ("GET", "/docs", b""),
        ("GET", "/", b""),
        ("POST", "/v1/FLEET/get-run", b""),
    ],
)
def test_nothing_else_is_ever_passed_on(method: str, path: str, query: bytes) -> None:
    upstream = Upstream()
    assert ask(upstream, path, method=method, query=query)[0] == 403
    assert upstream.asked == []


def test_a_get_of_a_site_s_question_and_a_post_of_the_health_are_not_passed_on() -> None:
    upstream = Upstream()
    assert ask(upstream, "/v1/fleet/get-run", method="GET")[0] == 403
    assert ask(upstream, "/health", method="POST")[0] == 403
    assert upstream.asked == []


def test_a_site_without_work_waits_at_the_hub_and_gets_work_as_soon_as_there_is_some() -> None:
    clock, work = Clock(), httpx.Response(200, content=b"work")
    upstream = Upstream(httpx.Response(200), httpx.Response(200), work)
    assert ask(upstream, "/v1/fleet/pull-messages", clock=clock)[2] == b"work"
    assert len(upstream.asked) == 3
    assert 0 < clock.now < 1


def test_a_site_without_work_is_sent_away_after_a_while() -> None:
    clock, upstream = Clock(), Upstream()
    assert ask(upstream, "/v1/fleet/pull-messages", clock=clock)[::2] == (200, b"")
    assert 14 < clock.now < 16


def test_an_idle_hub_is_asked_once_a_second_and_one_at_work_often() -> None:
    clock, upstream = Clock(), Upstream()
    application = proxy(upstream, version="1.2.3", clock=clock, sleep=clock.sleep)

    def questions() -> int:
        before = len(upstream.asked)
        ask(upstream, "/v1/fleet/pull-messages", clock=clock, application=application)
        return len(upstream.asked) - before

    clock.now += 1000
    assert questions() <= 17
    ask(upstream, "/v1/fleet/send-node-heartbeat", clock=clock, application=application)
    assert questions() <= 17
    ask(upstream, "/v1/fleet/push-messages", clock=clock, application=application)
    assert questions() > 60


def test_a_refusal_is_not_asked_for_again() -> None:
    upstream = Upstream(httpx.Response(401))
    assert ask(upstream, "/v1/fleet/pull-messages")[0] == 401
    assert len(upstream.asked) == 1


def test_work_is_not_fetched_for_a_site_that_has_gone() -> None:
    upstream = Upstream(httpx.Response(200), httpx.Response(200, content=b"work"))
    ask(upstream, "/v1/fleet/pull-messages", leaves_after=1)
    assert len(upstream.asked) == 1


@pytest.mark.parametrize(("said", "status"), [(str(MOST_BYTES + 1).encode(), 413), (b"many", 400)])
def test_a_request_that_says_it_is_too_long_is_refused(said: bytes, status: int) -> None:
    upstream = Upstream()
    assert ask(upstream, "/v1/fleet/push-object", headers=[*_HEADERS, (b"content-length", said)])[0] == status
    assert upstream.asked == []


def test_a_request_that_is_too_long_without_saying_so_is_refused() -> None:
    upstream = Upstream()
    assert ask(upstream, "/v1/fleet/push-object", body=b"\0" * (MOST_BYTES + 1))[0] == 413
    assert upstream.asked == []


def test_sites_are_told_to_wait_while_the_hub_starts() -> None:
    assert ask(Upstream(httpx.ConnectError("no")), "/v1/fleet/get-run")[0] == 503
    assert ask(Upstream(is_up=False), "/health", method="GET")[0] == 503
    status, headers, body = ask(Upstream(), "/health", method="GET")
    assert (status, headers["medfl-version"], body) == (200, "1.2.3", b"ok")


def refusal(code: int) -> httpx.Response:
    spec = API_ERROR_MAP[ApiErrorCode(code)]
    return httpx.Response(spec.http_status_code, json=FlowerError(code, "inside").to_json(spec.public_message))


def test_a_site_that_receives_a_message_of_an_ended_run_can_clean_up() -> None:
    assert RUN_HAS_ENDED == ApiErrorCode.FLEET_RUN_STATUS_NOT_ALLOWED
    for name, kind in (
        ("pull-object", PullObjectResponse),
        ("confirm-message-received", ConfirmMessageReceivedResponse),
    ):
        status, headers, body = ask(Upstream(refusal(RUN_HAS_ENDED)), f"/v1/fleet/{name}")
        assert (status, headers["content-type"], body) == (200, PROTOBUF_MEDIA_TYPE, b"")
        assert kind.FromString(body) == kind()
    assert not PullObjectResponse.FromString(b"").object_found


@pytest.mark.parametrize(
    "answer",
    [
        refusal(ApiErrorCode.FLEET_GET_RUN_FAILED),
        httpx.Response(403, text="forbidden"),
        httpx.Response(403, json=[RUN_HAS_ENDED]),
        httpx.Response(401, json={"code": RUN_HAS_ENDED}),
    ],
)
def test_any_other_refusal_stays_one(answer: httpx.Response) -> None:
    assert ask(Upstream(answer), "/v1/fleet/confirm-message-received")[0] == answer.status_code


@pytest.mark.parametrize("name", sorted(ASKED_BY_SITES - {"pull-object", "confirm-message-received"}))
def test_a_reply_for_an_ended_run_is_refused(name: str) -> None:
    assert ask(Upstream(refusal(RUN_HAS_ENDED)), f"/v1/fleet/{name}")[0] == 403

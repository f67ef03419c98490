"""The hub's only open door: what a site's SuperNode may ask goes through, everything else ends here.

Flower serves its sites, its command line (without any login) and its executors on one port. This application passes on
the questions of sites alone, one by one, and never a path as it came. It also answers a site that asks for work and
finds none only when there is some, or after a while: otherwise a site asks every 3 s. And where a run ends while a site
receives a message of it, the site gets an empty answer instead of a refusal: at a refusal Flower's SuperNode leaves the
message half received, its executor answers it, and from then on the SuperNode sends every reply one message too late.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from app.hub.bodies import Bodies, UnreadableBodyError

ASKED_BY_SITES = frozenset(
    {
        "activate-node",
        "deactivate-node",
        "send-node-heartbeat",
        "pull-messages",
        "push-messages",
        "get-run",
        "get-fab",
        "push-object",
        "pull-object",
        "confirm-message-received",
    }
)
"""What a SuperNode with a registered key asks; to register and to unregister is the operator's alone."""

MOST_BYTES = 16 * 2**20
"""Longest request; Flower sends arrays in pieces of about 5 MB."""

MOST_BYTES_TOGETHER = 256 * 2**20
"""All requests that are held at one time; others are told to come again."""

RUN_HAS_ENDED = 2007
"""Code of Flower's refusal."""

VERSION_HEADER = "medfl-version"
_PULL = "pull-messages"
_RECEIVING = frozenset({"pull-object", "confirm-message-received"})
_PROTOBUF = "application/protobuf"
_LONGEST_HOLD_S = 15.0
_PACES_S = ((3.0, 0.1), (60.0, 0.25))
_IDLE_PACE_S = 1.0
_KEEPING_UP = frozenset({"activate-node", "deactivate-node", "send-node-heartbeat", _PULL})
_BODY_S = 300.0
_UPSTREAM_TIMEOUT_S = 60.0
_MOST_CONNECTIONS = 400
_OURS = frozenset(
    {"host", "connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "content-length"}
)
_OURS_BACK = _OURS | {"date", "server", "content-encoding"}


class Upstream(Protocol):
    """Whoever answers in the end."""

    async def ask(self, path: str, headers: Mapping[str, str], body: bytes) -> httpx.Response:
        """Send a POST request."""
        ...

    async def is_healthy(self) -> bool:
        """Tell whether it answers."""
        ...

    async def close(self) -> None:
        """End all connections."""
        ...


class HttpUpstream:
    """The SuperLink, over TLS that is checked.

    Parameters
    ----------
    url : str
        "https://localhost:PORT".
    context : SSLContext
        Trusts the hub's authority alone.
    """

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        limits = httpx.Limits(max_connections=_MOST_CONNECTIONS, max_keepalive_connections=_MOST_CONNECTIONS)
        self._client = httpx.AsyncClient(
            base_url=url, verify=context, trust_env=False, timeout=_UPSTREAM_TIMEOUT_S, limits=limits
        )

    async def ask(self, path: str, headers: Mapping[str, str], body: bytes) -> httpx.Response:
        """Send a POST request."""
        return await self._client.post(path, headers=headers, content=body)

    async def is_healthy(self) -> bool:
        """Tell whether it answers."""
        try:
            return (await self._client.get("/health")).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    async def close(self) -> None:
        """End all connections."""
        await self._client.aclose()


def proxy(
    upstream: Upstream,
    *,
    version: str,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Starlette:
    """Return the application.

    Parameters
    ----------
    upstream : Upstream
    version : str
        Of medfl at the hub; sites compare it with theirs.
    clock : callable
        Monotonic seconds.
    sleep : callable
        As `asyncio.sleep`.
    """
    pace = _Pace(clock)
    bodies = Bodies(most_bytes=MOST_BYTES, most_together=MOST_BYTES_TOGETHER, patience_s=_BODY_S)

    async def fleet(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in ASKED_BY_SITES or request.url.query:
            return _forbidden()
        try:
            async with bodies.body(request) as body:
                return await _passed_on(name, request, body)
        except UnreadableBodyError as error:
            return PlainTextResponse(error.said, status_code=error.status)

    async def _passed_on(name: str, request: Request, body: bytes) -> Response:
        if name not in _KEEPING_UP:
            pace.work()
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _OURS}
        path = f"/v1/fleet/{name}"
        try:
            answer = await upstream.ask(path, headers | {"accept-encoding": "identity"}, body)
            if name == _PULL:
                answer = await _with_work(answer, request, path, headers, body)
        except httpx.HTTPError:
            return PlainTextResponse("the hub is not ready", status_code=503)
        if name in _RECEIVING and _says_that_run_has_ended(answer):
            return Response(b"", media_type=_PROTOBUF)  # "not found", or "noted"
        back = {key: value for key, value in answer.headers.items() if key.lower() not in _OURS_BACK}
        return Response(answer.content, status_code=answer.status_code, headers=back)

    async def _with_work(
        answer: httpx.Response, request: Request, path: str, headers: Mapping[str, str], body: bytes
    ) -> httpx.Response:
        """Ask again while there is no work: an empty message of Flower's has no bytes."""
        started = clock()
        while answer.status_code == httpx.codes.OK and not answer.content:
            if clock() - started >= _LONGEST_HOLD_S or await request.is_disconnected():
                break
            await sleep(pace.step_s())
            if await request.is_disconnected():
                break
            answer = await upstream.ask(path, {**headers, "accept-encoding": "identity"}, body)
        if answer.content:
            pace.work()
        return answer

    async def health(request: Request) -> Response:
        del request
        is_healthy = await upstream.is_healthy()
        said, status = ("ok", 200) if is_healthy else ("starting", 503)
        return PlainTextResponse(said, status_code=status, headers={VERSION_HEADER: version})

    async def forbidden(request: Request) -> Response:
        del request
        return _forbidden()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        del app
        yield
        await upstream.close()

    every = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
    routes = [
        Route("/v1/fleet/{name}", fleet, methods=["POST"]),
        Route("/health", health, methods=["GET"]),
        Route("/{rest:path}", forbidden, methods=every),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


class _Pace:
    """How often to ask for work: seldom where nobody has worked for a while, or many sites keep an idle hub busy."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._worked = clock, clock()

    def work(self) -> None:
        self._worked = self._clock()

    def step_s(self) -> float:
        idle = self._clock() - self._worked
        return next((step for longest, step in _PACES_S if idle < longest), _IDLE_PACE_S)


def _forbidden() -> Response:
    return PlainTextResponse("forbidden", status_code=403)


def _says_that_run_has_ended(answer: httpx.Response) -> bool:
    if answer.status_code != httpx.codes.FORBIDDEN:
        return False
    try:
        found = answer.json()
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("code") == RUN_HAS_ENDED

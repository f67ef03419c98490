"""What every answer of the server says to the browser, and what the server does not answer at all."""

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

#: Parts of Streamlit that nothing here needs: figures about its users, uploads, and use by programs.
CLOSED = (
    "/_stcore/metrics",
    "/_stcore/upload_file",
    "/_stcore/agent",
    "/_stcore/script-health-check",
    "/auth",
    "/oauth2callback",
)
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:\d{1,5})?|\[[0-9a-fA-F:]{2,39}\](:\d{1,5})?")
_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_NOT_FOUND = b"Not found"


def content_policy(host: str, page: str) -> str:
    """Return the Content-Security-Policy: nothing is loaded from, or sent to, another machine.

    Parameters
    ----------
    host : str
        As the browser asked for it; the WebSocket may go there and nowhere else.
    page : str
        HTML of the page; its inline scripts are allowed by their SHA-256.
    """
    sockets = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    digests = (hashlib.sha256(script.encode()).digest() for script in _INLINE_SCRIPT.findall(page))
    scripts = "".join(f" 'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'self'; script-src 'self' 'wasm-unsafe-eval'{scripts}; style-src 'self' 'unsafe-inline'; "
        f"img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'{sockets}; worker-src 'self' blob:; "
        "frame-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'"
    )


class Hardened:
    """Middleware: adds headers to every answer and closes what nothing needs.

    Parameters
    ----------
    app : ASGI application
    page : str
        HTML of the page.
    """

    def __init__(self, app: Application, page: str) -> None:
        self._app = app
        self._page = page

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = self._headers(_header(scope, b"host"))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = {name for name, _ in headers}
                kept = [(name, value) for name, value in message.get("headers", []) if name.lower() not in added]
                message = {**message, "headers": [*kept, *headers]}
            await send(message)

        if any(scope["path"] == path or scope["path"].startswith(f"{path}/") for path in CLOSED):
            start = {"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"text/plain")]}
            await send_with_headers(start)
            await send_with_headers({"type": "http.response.body", "body": _NOT_FOUND})
            return
        await self._app(scope, receive, send_with_headers)

    def _headers(self, host: str) -> list[tuple[bytes, bytes]]:
        return [
            (b"content-security-policy", content_policy(host, self._page).encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"x-frame-options", b"DENY"),
            (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
            (b"cross-origin-opener-policy", b"same-origin"),
        ]


def _header(scope: Message, wanted: bytes) -> str:
    """Return a header of the request; "" where it is missing."""
    return next((value.decode("latin-1") for name, value in scope.get("headers", []) if name == wanted), "")

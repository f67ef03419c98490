"""Bodies of requests, read into one bounded room: whoever sends much, or slowly, cannot fill the hub's memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request


class UnreadableBodyError(Exception):
    """A body was not taken.

    Parameters
    ----------
    status : int
        Of the answer: 400, 408, 413 or 503.
    said : str
        The answer.
    """

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status, self.said = status, said


class Bodies:
    """Reads bodies.

    Parameters
    ----------
    most_bytes : int
        Longest one.
    most_together : int
        Bytes of all that are held at one time.
    patience_s : float
        Longest time that one may take to arrive.
    """

    def __init__(self, *, most_bytes: int, most_together: int, patience_s: float) -> None:
        self._most_bytes, self._most_together, self._patience_s = most_bytes, most_together, patience_s
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes that are held now."""
        return self._held

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """Hold a request's body.

        Raises
        ------
        UnreadableBodyError
            If it is too long, too slow, broken off, or there is no room for it now.
        """
        try:
            said = int(request.headers.get("content-length", 0))
        except ValueError:
            raise UnreadableBodyError(400, "bad request") from None
        if said > self._most_bytes:
            raise UnreadableBodyError(413, "too large")
        parts: list[bytes] = []
        try:
            try:
                async with asyncio.timeout(self._patience_s):
                    await self._read(request, parts)
            except TimeoutError:
                raise UnreadableBodyError(408, "too slow") from None
            except ClientDisconnect:
                raise UnreadableBodyError(400, "broken off") from None
            yield b"".join(parts)
        finally:
            self._held -= sum(map(len, parts))

    async def _read(self, request: Request, parts: list[bytes]) -> None:
        held = 0
        async for part in request.stream():
            parts.append(part)
            held += len(part)
            self._held += len(part)
            if held > self._most_bytes:
                raise UnreadableBodyError(413, "too large")
            if self._held > self._most_together:
                raise UnreadableBodyError(503, "the hub is busy")

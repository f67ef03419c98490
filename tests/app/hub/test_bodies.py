import asyncio
from collections.abc import Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from starlette.requests import Request
from starlette.types import Message

from app.hub.bodies import Bodies, UnreadableBodyError

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run in a thread of its own: another test may have left a loop that runs in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def request_of(parts: Iterable[bytes | None], said: bytes = b"") -> Request:
    """Send parts; None breaks off, and after the last part nothing more comes."""
    left = list(parts)

    async def receive() -> Message:
        if not left:
            await asyncio.sleep(3600)
        part = left.pop(0)
        if part is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": part, "more_body": part != b""}

    headers = [(b"content-length", said)] if said else []
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


def bodies(most_bytes: int = 10, most_together: int = 25, patience_s: float = 30.0) -> Bodies:
    return Bodies(most_bytes=most_bytes, most_together=most_together, patience_s=patience_s)


async def status_of(room: Bodies, request: Request) -> int:
    try:
        async with room.body(request) as body:
            return len(body)
    except UnreadableBodyError as error:
        return error.status


def test_a_body_comes_whole_and_is_let_go_of() -> None:
    room = bodies()

    async def read() -> bytes:
        async with room.body(request_of([b"abc", b"de", b""])) as body:
            assert room.held == 5
            return body

    assert run(read()) == b"abcde"
    assert room.held == 0


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (request_of([b"12345", b"678901", b""]), 413),
        (request_of([], said=b"11"), 413),
        (request_of([], said=b"many"), 400),
        (request_of([b"12", None]), 400),
    ],
)
def test_a_body_that_cannot_be_taken_has_its_own_answer_and_leaves_no_bytes(request_: Request, status: int) -> None:
    room = bodies()
    assert run(status_of(room, request_)) == status
    assert room.held == 0


def test_a_body_that_never_ends_is_given_up() -> None:
    room = bodies(patience_s=0.01)
    assert run(status_of(room, request_of([b"123"]))) == 408
    assert room.held == 0


def test_many_bodies_share_a_room_and_the_next_is_sent_away_until_one_has_gone() -> None:
    room = bodies()

    async def both() -> list[int]:
        async with room.body(request_of([b"0123456789", b""])), room.body(request_of([b"0123456789", b""])):
            found = [await status_of(room, request_of([b"012345", b""]))]
            found.append(await status_of(room, request_of([b"01234", b""])))
        return [*found, await status_of(room, request_of([b"012345", b""]))]

    assert run(both()) == [503, 5, 6]
    assert room.held == 0


def test_a_question_that_fails_later_lets_go_of_its_body_and_keeps_its_error() -> None:
    room = bodies()

    async def fails() -> None:
        async with room.body(request_of([b"123", b""])):
            raise ConnectionError("later")

    with pytest.raises(ConnectionError, match="later"):
        run(fails())
    assert room.held == 0

"""Frames come out as they went in; anything else ends with a reason and never with a hang or a large allocation."""

import socket
import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfl.federation.frames import Frame, FrameError, receive_frame, send_frame

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def _reason(link: socket.socket, *, most_bytes: int = 1000, wait_s: float = 5.0) -> str:
    with pytest.raises(FrameError) as caught:
        receive_frame(link, most_bytes=most_bytes, deadline=time.monotonic() + wait_s)
    return caught.value.reason


@given(
    head=st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8), max_size=4),
    parts=st.lists(st.binary(max_size=300), max_size=4),
)
def test_a_frame_comes_out_as_it_went_in(head: dict[str, object], parts: list[bytes]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send_frame(ours, Frame(head, tuple(parts)))
        assert receive_frame(theirs, most_bytes=1200) == Frame(head, tuple(parts))


@pytest.mark.parametrize(
    "content",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">4sIB", b"MFL1", 2**31, 0),
        struct.pack(">4sIB", b"MFL1", 2, 200),
        struct.pack(">4sIB", b"MFL1", 2, 0) + b"[]",
        struct.pack(">4sIB", b"MFL1", 3, 0) + b"{x}",
        struct.pack(">4sIBQ", b"MFL1", 2, 1, 2**60) + b"{}",
        struct.pack(">4sIBQ", b"MFL1", 2, 1, 1001) + b"{}",
    ],
)
def test_what_is_no_frame_or_too_long_is_refused_before_it_is_read(pair: Pair, content: bytes) -> None:
    pair[0].sendall(content)
    assert _reason(pair[1]) == "bytes"


@given(cut=st.integers(min_value=0, max_value=40))
def test_an_end_in_the_middle_is_noticed(cut: int) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        whole = struct.pack(">4sIBQ", b"MFL1", 2, 1, 40) + b"{}" + b"x" * 40
        ours.sendall(whole[:cut])
        ours.close()
        assert _reason(theirs) == "worker_died"


def test_silence_ends_at_the_deadline(pair: Pair) -> None:
    assert _reason(pair[1], wait_s=0.05) == "worker_timeout"


def test_a_reader_that_does_not_read_ends_at_the_deadline(pair: Pair) -> None:
    with pytest.raises(FrameError) as caught:
        send_frame(pair[0], Frame({}, (b"x" * 10_000_000,)), deadline=time.monotonic() + 0.1)
    assert caught.value.reason == "worker_timeout"


def test_whoever_watches_can_end_the_wait(pair: Pair) -> None:
    def watch() -> None:
        raise RuntimeError("paused")

    with pytest.raises(RuntimeError, match="paused"):
        receive_frame(pair[1], most_bytes=0, watch=watch)

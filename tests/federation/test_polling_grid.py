"""Replies are handed out as they come, once each, and a deadline holds."""

from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid

from medfl.federation.packing import PACKED, is_packed, pack
from medfl.federation.polling_grid import PollingGrid
from medfl.federation.records import to_record


class _Upstream:
    """Has one reply more at every question."""

    def __init__(self, replies: Sequence[Sequence[Any]], *, doubled: bool = False, unsent: str = "") -> None:
        self.replies, self.doubled, self.unsent, self.asked = replies, doubled, unsent, 0

    def push_messages(self, messages: Iterable[Any]) -> list[str]:
        return ["" if message.name == self.unsent else message.name for message in messages]

    def pull_messages(self, numbers: Iterable[str]) -> list[Any]:
        now = self.replies[self.asked] if self.asked < len(self.replies) else []
        self.asked += 1
        found = [_Empty(one) if isinstance(one, str) else one for one in now]
        return found * 2 if self.doubled else found


class _Empty:
    """A message or a reply without content."""

    def __init__(self, name: str) -> None:
        self.name, self.metadata = name, SimpleNamespace(reply_to_message_id=name)

    def has_content(self) -> bool:
        return False


class _Filled(_Empty):
    """One with content."""

    def __init__(self, name: str, content: RecordDict) -> None:
        super().__init__(name)
        self.content = content

    def has_content(self) -> bool:
        return True


class _Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def _received(upstream: _Upstream, timeout: float | None) -> tuple[list[str], float]:
    time = _Time()
    grid = PollingGrid(cast("Grid", upstream), poll_s=0.2, sleep=time.sleep, clock=time)
    messages = cast("list[Message]", [_Empty("a"), _Empty("b")])
    found = [reply.metadata.reply_to_message_id for reply in grid.send_and_receive(messages, timeout=timeout)]
    return found, time.now


def test_every_reply_comes_once_and_as_soon_as_it_is_there() -> None:
    assert _received(_Upstream([[], ["b"], [], ["a"]]), None) == (["b", "a"], 0.2 * 3)
    assert _received(_Upstream([["a", "b"]], doubled=True), None) == (["a", "b"], 0.0)


def test_nothing_is_waited_for_after_the_deadline() -> None:
    found, seconds = _received(_Upstream([["a"]]), 1.0)
    assert found == ["a"]
    assert 1.0 <= seconds < 1.4


def test_a_message_that_could_not_be_sent_is_not_waited_for() -> None:
    assert _received(_Upstream([["a"]], unsent="b"), None)[0] == ["a"]


def test_a_stranger_s_reply_is_not_handed_out() -> None:
    assert _received(_Upstream([["x", "a"], ["b"]]), None)[0] == ["a", "b"]


def _model() -> RecordDict:
    return RecordDict({"model": to_record({"a": np.arange(3.0), "b": np.ones((2, 2))})})


def test_arrays_travel_packed_and_what_sites_share_is_packed_once() -> None:
    upstream, shared = _Upstream([]), _model()
    messages = [_Filled("a", shared), _Filled("b", shared), _Empty("c")]
    PollingGrid(cast("Grid", upstream)).push_messages(cast("list[Message]", messages))
    sent = [message.content for message in messages if isinstance(message, _Filled)]
    assert is_packed(sent[0])
    assert sent[0] is sent[1]
    assert not is_packed(shared)


def test_replies_come_unpacked_and_one_that_cannot_be_lacks_its_arrays() -> None:
    broken = ArrayRecord({"records": Array(dtype="uint8", shape=(3,), stype="medfl.packed/1", data=b"bad")})
    replies = [_Filled("a", pack(_model())), _Filled("b", RecordDict({PACKED: broken})), _Filled("c", _model())]
    found = list(PollingGrid(cast("Grid", _Upstream([replies]))).pull_messages(["a"]))
    assert ["model" in reply.content for reply in found] == [True, False, True]

import logging
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from numpy.typing import NDArray

from medfl.errors import DataError, ImageReadError, KeyFileError, PrivacyError, ShapeError
from medfl.federation.guard import WORDS, Handler, guard
from medfl.federation.loopback import LoopbackGrid
from medfl.federation.records import (
    CONTROL,
    DESCRIBE,
    EVALUATE,
    FINISH,
    MEASURES,
    MODEL,
    RELEASE,
    REPORT,
    SEALED,
    TRAIN,
    to_record,
)

PLANTED = "Zzyzx^Quillfeather"


@pytest.fixture(autouse=True)
def identity() -> Iterator[None]:
    with LoopbackGrid({}, {}).open():
        yield


@pytest.fixture
def context() -> Context:
    return Context(run_id=1, node_id=2, node_config={}, state=RecordDict(), run_config={})


def order(kind: str) -> Message:
    return Message(RecordDict(), 2, kind)


def answering(*names: str) -> Handler:
    def handler(message: Message, context: Context) -> Message:
        records = {name: to_record({"a": np.ones(1)}) for name in names}
        return Message(RecordDict(records), reply_to=message)

    return handler


def raising(error: Exception) -> Handler:
    def handler(message: Message, context: Context) -> Message:
        raise error

    return handler


def test_a_release_of_features_leaves_as_sealed_bytes_or_not_at_all(context: Context) -> None:
    def releasing(array: NDArray[np.generic]) -> Handler:
        def handler(message: Message, context: Context) -> Message:
            return Message(RecordDict({SEALED: to_record({"a": array})}), reply_to=message)

        return handler

    assert not guard(order(RELEASE), context, releasing(np.ones(3, np.uint8))).has_error()
    reply = guard(order(RELEASE), context, releasing(np.ones(3, np.float32)))
    assert reply.error.reason == "forbidden_reply"


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (ValueError(PLANTED), "internal_error"),
        (KeyError(PLANTED), "internal_error"),
        (MemoryError(PLANTED), "internal_error"),
        (DataError(PLANTED), "data_error"),
        (ImageReadError("truncated", PLANTED), "data_error"),
        (ShapeError(PLANTED), "shape_error"),
        (PrivacyError(PLANTED), "privacy_error"),
        (KeyFileError(PLANTED), "privacy_error"),
    ],
)
def test_an_exception_becomes_one_word(
    error: Exception, word: str, context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        reply = guard(order(TRAIN), context, raising(error))
    assert reply.has_error()
    assert reply.error.reason == word
    assert WORDS[reply.error.code] == word
    assert PLANTED not in caplog.text
    assert type(error).__name__ in caplog.text


def test_the_site_finds_the_details_in_its_own_log(context: Context, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        guard(order(TRAIN), context, raising(ValueError(PLANTED)))
    assert PLANTED in caplog.text


def test_an_error_in_free_words_becomes_one_word(context: Context) -> None:
    def handler(message: Message, context: Context) -> Message:
        return Message(Error(code=1, reason=PLANTED), reply_to=message)

    reply = guard(order(TRAIN), context, handler)
    assert reply.error.reason == "internal_error"


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (DESCRIBE, [REPORT]),
        (TRAIN, [MODEL, REPORT]),
        (TRAIN, [MODEL, CONTROL, REPORT]),
        (EVALUATE, [MEASURES, REPORT]),
        (FINISH, [MEASURES, REPORT]),
    ],
)
def test_records_that_may_leave_leave(kind: str, names: list[str], context: Context) -> None:
    reply = guard(order(kind), context, answering(*names))
    assert set(reply.content) == set(names)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (DESCRIBE, [REPORT, MODEL]),
        (TRAIN, [MODEL, REPORT, "images"]),
        (TRAIN, [MODEL, REPORT, MEASURES]),
        (EVALUATE, [MODEL, REPORT]),
        (FINISH, [MEASURES, REPORT, "cases"]),
        ("query.anything", [REPORT]),
    ],
)
def test_any_other_record_stays(
    kind: str, names: list[str], context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    reply = guard(order(kind), context, answering(*names))
    assert reply.has_error()
    assert reply.error.reason == "forbidden_reply"
    assert "was not sent" in caplog.text


@pytest.mark.parametrize("make", [ConfigRecord, MetricRecord])
def test_the_kind_of_record_does_not_matter_only_its_name(
    make: Callable[[], ConfigRecord | MetricRecord], context: Context
) -> None:
    def handler(message: Message, context: Context) -> Message:
        return Message(RecordDict({"notes": make()}), reply_to=message)

    assert guard(order(TRAIN), context, handler).has_error()

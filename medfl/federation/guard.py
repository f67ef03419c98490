"""The site's own last look at everything that leaves."""

import logging
from collections.abc import Callable

from flwr.app import Context, Error, Message

from medfl.errors import DataError, PrivacyError, ShapeError
from medfl.federation.packing import pack, unpack_message
from medfl.federation.records import (
    CHOOSE,
    CONTROL,
    DESCRIBE,
    EVALUATE,
    FINISH,
    MEASURES,
    MODEL,
    RELEASE,
    REPORT,
    SEALED,
    SUMS,
    TRAIN,
)
from medfl.governance.ledger_errors import LedgerExhaustedError

logger = logging.getLogger(__name__)

Handler = Callable[[Message, Context], Message]

INTERNAL_ERROR = 9000
DATA_ERROR = 9001
SHAPE_ERROR = 9002
FORBIDDEN_REPLY = 9003
PRIVACY_ERROR = 9004
BUDGET_EXHAUSTED = 9005
NOT_APPROVED = 9006
REQUEST_REFUSED = 9007
PAUSED = 9008
WORKER_FAILED = 9009
WORDS = {
    INTERNAL_ERROR: "internal_error",
    DATA_ERROR: "data_error",
    SHAPE_ERROR: "shape_error",
    FORBIDDEN_REPLY: "forbidden_reply",
    PRIVACY_ERROR: "privacy_error",
    BUDGET_EXHAUSTED: "budget_exhausted",
    NOT_APPROVED: "not_approved",
    REQUEST_REFUSED: "request_refused",
    PAUSED: "paused",
    WORKER_FAILED: "worker_failed",
}
"""All that a site ever says about a failure."""

_ALLOWED = {
    DESCRIBE: {REPORT},
    TRAIN: {MODEL, CONTROL, REPORT},
    EVALUATE: {MEASURES, REPORT},
    FINISH: {MEASURES, REPORT},
    SUMS: {MEASURES, REPORT},
    CHOOSE: {MEASURES, REPORT},
    RELEASE: {SEALED, REPORT},
}


def guard(message: Message, context: Context, call_next: Handler) -> Message:
    """Let only allow-listed records out, and replace every exception by a code.

    Flower sends the text of an exception to the hub as it is; a text can hold a path or a value of a patient. The text
    stays in the site's own log, at debug level.

    Parameters
    ----------
    message : Message
    context : Context
    call_next : callable

    Returns
    -------
    Message
        The reply, or an error reply whose reason is one word.
    """
    try:
        reply = call_next(message, context)
    except Exception as error:
        code = _code(error)
        logger.error("The site's program failed with %s (%s).", WORDS[code], type(error).__name__)
        logger.debug("Details, for this site only.", exc_info=error)
        return refusal(message, code)
    if reply.has_error():
        return refusal(message, INTERNAL_ERROR)
    kind = message.metadata.message_type
    if not set(reply.content) <= _ALLOWED.get(kind, set()) or not _is_sealed(reply):
        logger.error("A reply to %s held records that may not leave; it was not sent.", kind)
        return refusal(message, FORBIDDEN_REPLY)
    return reply


def answer_packed(message: Message, context: Context, call_next: Handler) -> Message:
    """Answer a packed message with a packed reply, and any other as it is; for outside of `guard`."""
    try:
        was_packed = unpack_message(message)
    except ValueError:
        logger.error("A message could not be unpacked.")
        return refusal(message, REQUEST_REFUSED)
    reply = call_next(message, context)
    if was_packed and reply.has_content():
        reply.content = pack(reply.content)
    return reply


def _is_sealed(reply: Message) -> bool:
    """Tell whether a release of features is nothing but sealed envelopes: bytes, never numbers."""
    record = reply.content.array_records.get(SEALED)
    return record is None or all(array.dtype == "uint8" for array in record.values())


def refusal(message: Message, code: int) -> Message:
    """Return an error reply that says one word and nothing else."""
    return Message(Error(code=code, reason=WORDS[code]), reply_to=message)


def _code(error: Exception) -> int:
    if isinstance(error, LedgerExhaustedError):
        return BUDGET_EXHAUSTED
    if isinstance(error, PrivacyError):
        return PRIVACY_ERROR
    if isinstance(error, ShapeError):
        return SHAPE_ERROR
    if isinstance(error, DataError):
        return DATA_ERROR
    return INTERNAL_ERROR

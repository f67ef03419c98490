"""Name, type, shape and bytes of arrays in a record, read from their headers; no array is ever made of them here."""

import io
from math import prod

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict

from medfl.errors import ReplyError
from medfl.federation.records import REPORT
from medfl.governance.egress import ITEM_BYTES, ArrayFacts, ReplyFacts

_NUMPY = "numpy.ndarray"
_LONGEST_HEADER = 4096
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def array_facts(record: ArrayRecord) -> tuple[ArrayFacts, ...]:
    """Return what is known about the arrays of a record, in its order.

    Parameters
    ----------
    record : ArrayRecord

    Raises
    ------
    ReplyError
        With reason "not_an_array" if an entry is no plain array of numbers (a pickle, an archive, a header that says
        something else than the record or than the bytes that follow).
    """
    return tuple(_facts(name, entry) for name, entry in record.items())


def reply_facts(kind: str, content: RecordDict) -> ReplyFacts:
    """Return what can be said about a reply without looking at the numbers in its arrays.

    Parameters
    ----------
    kind : str
        Type of the message that it answers.
    content : RecordDict

    Raises
    ------
    ReplyError
        If an entry is no plain array.
    """
    reports = [records[REPORT] for records in (content.metric_records, content.config_records) if REPORT in records]
    named = {*content.metric_records, *content.config_records}
    others = tuple(sorted(named - {REPORT})) + ((REPORT,) if len(reports) > 1 else ())
    arrays = {name: array_facts(record) for name, record in content.array_records.items()}
    return ReplyFacts(kind, arrays, dict(reports[0]) if reports else {}, others)


def _facts(name: str, entry: Array) -> ArrayFacts:
    stream = io.BytesIO(entry.data)
    try:
        read = _READERS[np.lib.format.read_magic(stream)]
        shape, fortran_order, dtype = read(stream, max_header_size=_LONGEST_HEADER)
    except (KeyError, ValueError, SyntaxError, TypeError, EOFError, RecursionError, MemoryError) as error:
        raise _not_an_array() from error
    shape = tuple(int(extent) for extent in shape)
    is_plain = dtype.name in ITEM_BYTES and dtype.isnative and not fortran_order and min(shape, default=0) >= 0
    is_said = entry.stype == _NUMPY and entry.dtype == dtype.name and tuple(entry.shape) == shape
    if not (is_plain and is_said) or len(entry.data) - stream.tell() != prod(shape) * ITEM_BYTES[dtype.name]:
        raise _not_an_array()
    return ArrayFacts(name, dtype.name, shape, len(entry.data))


def _not_an_array() -> ReplyError:
    return ReplyError("not_an_array", "every entry must be a plain array of numbers; one is not")

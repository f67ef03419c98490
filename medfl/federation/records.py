"""Names of the records in a message, and arrays in and out of them."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from flwr.app import Array, ArrayRecord, Message
from numpy.typing import NDArray

from medfl.errors import ReplyError

MODEL: Final = "model"
CONTROL: Final = "control"
MEASURES: Final = "measures"
ORDER: Final = "order"
REPORT: Final = "report"
SEALED: Final = "sealed"

DESCRIBE: Final = "query.describe"
TRAIN: Final = "train"
EVALUATE: Final = "evaluate"
FINISH: Final = "query.finish"
SUMS: Final = "query.sums"
CHOOSE: Final = "query.choose"
RELEASE: Final = "query.release"

Arrays = dict[str, NDArray[Any]]


def to_record(arrays: Mapping[str, NDArray[Any]]) -> ArrayRecord:
    """Return arrays as a record, in the order of the mapping."""
    return ArrayRecord({name: Array(np.asarray(array, order="C")) for name, array in arrays.items()})


def from_record(record: ArrayRecord) -> Arrays:
    """Return the arrays of a record; nothing is ever unpickled.

    Raises
    ------
    ReplyError
        If an entry is not a plain array.
    """
    arrays: Arrays = {}
    for name, entry in record.items():
        arrays[name] = _plain_array(entry)
    return arrays


def _plain_array(entry: Array) -> NDArray[Any]:
    """Decode bytes nobody vouches for; numpy's reader fails in many ways, and takes a zip archive for an array file."""
    try:
        array: object = entry.numpy()
    except Exception as error:
        raise ReplyError("not_an_array", "every entry must be a plain array; one cannot be read") from error
    if not isinstance(array, np.ndarray):
        raise ReplyError("not_an_array", "every entry must be a plain array; one is an archive")
    return array


def arrays_in(message: Message, name: str) -> Arrays:
    """Return the arrays of one record of a message; none when the record is absent."""
    record = message.content.array_records.get(name)
    return {} if record is None else from_record(record)


def bytes_in(message: Message) -> int:
    """Return the number of array bytes a message carries."""
    return sum(record.count_bytes() for record in message.content.array_records.values())

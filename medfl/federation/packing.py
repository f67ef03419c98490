"""All arrays of a message as one object on Flower's wire.

Flower sends every array as two objects, each with a request of its own at every hop: a network of 60 arrays costs a
round hundreds of requests. Here the records of arrays travel as their own protobuf bytes in a single array. Both ends
unpack before they look at anything, so that every check sees names, types and shapes as they are.
"""

from flwr.app import Array, ArrayRecord, Message, RecordDict

from medfl.federation.record_bytes import records_from_bytes, records_to_bytes

PACKED = "packed"
_ENTRY, _KIND = "records", "medfl.packed/1"
_MOST_BYTES = 2**30  # protobuf ends at 2 GiB; what is larger travels as Flower sends it


def is_packed(content: RecordDict) -> bool:
    """Tell whether a message's arrays are packed."""
    return PACKED in content.array_records


def pack(content: RecordDict) -> RecordDict:
    """Return the same records with all arrays in one; what holds none is returned as it is.

    Parameters
    ----------
    content : RecordDict
        Not packed already.
    """
    arrays = {name: record for name, record in content.items() if isinstance(record, ArrayRecord)}
    if not arrays or PACKED in arrays or sum(record.count_bytes() for record in arrays.values()) > _MOST_BYTES:
        return content
    data = records_to_bytes(RecordDict(dict(arrays)))
    packed = RecordDict({name: record for name, record in content.items() if name not in arrays})
    packed[PACKED] = ArrayRecord({_ENTRY: Array(dtype="uint8", shape=(len(data),), stype=_KIND, data=data)})
    return packed


def unpack(content: RecordDict) -> RecordDict:
    """Return the records that `pack` was given; what is not packed is returned as it is.

    Raises
    ------
    ValueError
        If a packed message holds anything else.
    """
    if not is_packed(content):
        return content
    record = content.array_records[PACKED]
    if list(content.array_records) != [PACKED] or list(record) != [_ENTRY] or record[_ENTRY].stype != _KIND:
        raise ValueError("a packed message must hold its arrays in one entry")
    found = records_from_bytes(record[_ENTRY].data)
    names = set(found) & set(content)
    if len(found.array_records) != len(found) or not found or names or PACKED in found:
        raise ValueError("a packed entry must hold records of arrays under names of their own")
    unpacked = RecordDict({name: record for name, record in found.items()})
    for name, other in content.items():
        if name != PACKED:
            unpacked[name] = other
    return unpacked


def unpack_message(message: Message) -> bool:
    """Unpack a message in place; an error reply has nothing to unpack.

    Returns
    -------
    bool
        Whether it was packed.

    Raises
    ------
    ValueError
        See `unpack`.
    """
    if not message.has_content() or not is_packed(message.content):
        return False
    message.content = unpack(message.content)
    return True

"""Records of a message as the bytes of Flower's protobuf, between a site's executor and its worker."""

from flwr.app import RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict


def records_to_bytes(records: RecordDict) -> bytes:
    """Return records as Flower's protobuf bytes."""
    content: bytes = recorddict_to_proto(records).SerializeToString()
    return content


def records_from_bytes(content: bytes) -> RecordDict:
    """Return what `records_to_bytes` wrote.

    Raises
    ------
    ValueError
        If it is something else.
    """
    proto = ProtoRecordDict()
    try:
        proto.ParseFromString(content)
        return recorddict_from_proto(proto)
    except Exception as error:
        raise ValueError("records must be Flower's protobuf bytes") from error

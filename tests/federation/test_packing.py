import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from medfl.federation.packing import PACKED, is_packed, pack, unpack
from medfl.federation.record_bytes import records_to_bytes
from medfl.federation.records import from_record, to_record

_DTYPES = st.sampled_from(["<f4", "<f8", "<i8", "|u1"])
_ARRAYS = _DTYPES.flatmap(lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)))


def message(*names: str) -> RecordDict:
    content = RecordDict({name: to_record({"w": np.arange(6.0).reshape(2, 3), "n": np.array(3)}) for name in names})
    content["order"] = ConfigRecord({"round": 3})
    content["report"] = MetricRecord({"loss": 0.5})
    return content


@given(st.dictionaries(st.text(min_size=1, max_size=5), _ARRAYS, max_size=5))
def test_unpacking_gives_back_every_array_bit_by_bit_in_its_order(values: dict[str, np.ndarray]) -> None:
    packed = pack(RecordDict({"model": to_record(values), "order": ConfigRecord({"round": 1})}))
    assert is_packed(packed)
    found = from_record(unpack(packed).array_records["model"])
    assert list(found) == list(values)
    for name, array in values.items():
        assert (found[name].dtype, found[name].shape, found[name].tobytes()) == (
            array.dtype,
            array.shape,
            array.tobytes(),
        )


def test_a_packed_message_has_one_array_however_many_there_were() -> None:
    packed = pack(message("model", "control"))
    assert [len(record) for record in packed.array_records.values()] == [1]
    assert set(unpack(packed)) == {"model", "control", "order", "report"}


def test_what_holds_no_arrays_and_what_is_not_packed_stays_as_it_is() -> None:
    without = RecordDict({"report": MetricRecord({"n": 1})})
    assert pack(without) is without
    assert unpack(message("model")).keys() == message("model").keys()
    assert pack(pack(message("model"))).keys() == pack(message("model")).keys()


def _entry(data: bytes, kind: str = "medfl.packed/1") -> ArrayRecord:
    return ArrayRecord({"records": Array(dtype="uint8", shape=(len(data),), stype=kind, data=data)})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no protobuf at all",
        records_to_bytes(RecordDict()),
        records_to_bytes(RecordDict({"order": ConfigRecord({"round": 9})})),
        records_to_bytes(RecordDict({PACKED: to_record({"a": np.ones(1)})})),
        records_to_bytes(RecordDict({"order": to_record({"a": np.ones(1)})})),
    ],
    ids=["nothing", "text", "no record", "an order", "packed again", "a name twice"],
)
def test_an_entry_that_holds_anything_else_than_records_of_arrays_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"packed|records"):
        unpack(RecordDict({PACKED: _entry(data), "order": ConfigRecord({"round": 1})}))


def test_a_packed_entry_beside_other_arrays_or_of_another_kind_is_refused() -> None:
    good = pack(message("model"))
    with pytest.raises(ValueError, match="one entry"):
        unpack(RecordDict({**good, "model": to_record({"a": np.ones(1)})}))
    data = good.array_records[PACKED]["records"].data
    with pytest.raises(ValueError, match="one entry"):
        unpack(RecordDict({PACKED: _entry(data, "numpy.ndarray")}))

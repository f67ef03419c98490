import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from medfl.federation.record_bytes import records_from_bytes, records_to_bytes


@given(
    values=st.lists(st.floats(width=32, allow_nan=False), max_size=8),
    order=st.dictionaries(st.text(max_size=5), st.integers(-(2**62), 2**62) | st.text(max_size=5) | st.booleans()),
)
def test_records_come_back_as_they_were(values: list[float], order: dict[str, int | str | bool]) -> None:
    records = RecordDict({"model": ArrayRecord(numpy_ndarrays=[np.array(values, np.float32)])})
    records["order"] = ConfigRecord(dict(order))
    records["report"] = MetricRecord({"subjects": len(values)})
    found = records_from_bytes(records_to_bytes(records))
    assert found.array_records["model"].to_numpy_ndarrays()[0].tolist() == np.array(values, np.float32).tolist()
    assert dict(found.config_records["order"]) == order
    assert dict(found.metric_records["report"]) == {"subjects": len(values)}


@pytest.mark.parametrize("content", [b"\xff", b"\x0a\x05ab", b"\x80\x04N."])
def test_other_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="protobuf"):
        records_from_bytes(content)

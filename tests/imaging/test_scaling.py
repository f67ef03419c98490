import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medfl.imaging.scaling import scale_into, scaled_dtype


@given(
    signed=st.booleans(),
    bits=st.integers(2, 16),
    intercepts=st.lists(st.integers(-70_000, 70_000), min_size=1, max_size=4),
)
def test_whole_numbers_are_added_without_loss(signed: bool, bits: int, intercepts: list[int]) -> None:
    stored_type = np.dtype(np.int16 if signed else np.uint16)
    first = -(2 ** (bits - 1)) if signed else 0
    stored = np.array([[first, first + 2**bits - 1]]).astype(stored_type)
    dtype = scaled_dtype(stored_type, bits, [(1.0, float(intercept)) for intercept in intercepts])
    for intercept in intercepts:
        target = np.empty((1, 2), dtype)
        scale_into(target, stored, 1.0, float(intercept))
        np.testing.assert_array_equal(target.astype(np.int64), stored.astype(np.int64) + intercept)


@given(slope=st.floats(-1e3, 1e3).filter(lambda value: abs(value) > 1e-3), intercept=st.floats(-1e6, 1e6))
def test_other_scalings_are_rounded_once(slope: float, intercept: float) -> None:
    stored = np.array([[-32768, -1, 0, 7, 32767]], np.int16)
    assert scaled_dtype(stored.dtype, 16, [(slope, intercept)]) in (np.float32, np.int16, np.int32)
    target = np.empty(stored.shape, np.float32)
    scale_into(target, stored, slope, intercept)
    np.testing.assert_array_equal(target, (stored.astype(np.float64) * slope + intercept).astype(np.float32))


def test_the_identity_keeps_the_stored_type() -> None:
    assert scaled_dtype(np.dtype(np.uint8), 8, [(1.0, 0.0)] * 3) == np.uint8
    assert scaled_dtype(np.dtype(np.uint8), 8, [(1.0, 0.0), (2.0, 0.0)]) == np.float32

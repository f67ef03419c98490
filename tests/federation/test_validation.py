import math

import numpy as np
import pytest

from medfl.errors import ReplyError
from medfl.federation.validation import check_arrays, check_count

EXPECTED = {"w": np.zeros((2, 3), np.float32), "n": np.array(0, np.int64)}
GOOD = {"w": np.ones((2, 3), np.float32), "n": np.array(4, np.int64)}


def refused(arrays: dict[str, np.ndarray]) -> ReplyError:
    with pytest.raises(ReplyError) as caught:
        check_arrays(arrays, EXPECTED)
    return caught.value


def test_what_was_asked_for_passes() -> None:
    check_arrays(GOOD, EXPECTED)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"w": np.full((2, 3), np.nan, np.float32)}, "not_finite"),
        ({"w": np.full((2, 3), np.inf, np.float32)}, "not_finite"),
        ({"w": np.ones((3, 2), np.float32)}, "shape"),
        ({"w": np.ones((), np.float32)}, "shape"),
        ({"n": np.array([4], np.int64)}, "shape"),
        ({"w": np.ones((2, 3), np.float64)}, "dtype"),
        ({"w": np.ones((2, 3), ">f4")}, "dtype"),
        ({"w": np.ones((2, 3), np.complex64)}, "dtype"),
        ({"n": np.array(4, np.int32)}, "dtype"),
        ({"extra": np.ones(1)}, "names"),
    ],
)
def test_anything_else_is_refused_with_its_reason(changed: dict[str, np.ndarray], reason: str) -> None:
    assert refused(GOOD | changed).reason == reason


def test_a_missing_array_is_named_and_an_unknown_name_is_not_repeated() -> None:
    assert "missing w" in str(refused({"n": GOOD["n"]}))
    error = refused(GOOD | {"Zzyzx^Quillfeather": np.ones(1)})
    assert "Zzyzx" not in str(error)
    assert "unknown: 1" in str(error)


@pytest.mark.parametrize("value", [1, 10, 10.0])
def test_a_whole_number_in_range_is_a_count(value: float) -> None:
    assert check_count("studies", value, highest=10) == value


@pytest.mark.parametrize("value", [0, -1, 11, 1e9, 2.5, math.nan, math.inf, True, None, "3", [3], 2**1025])
def test_anything_else_is_no_count(value: object) -> None:
    with pytest.raises(ReplyError) as caught:
        check_count("studies", value, highest=10)
    assert caught.value.reason == "count"

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from medfl.data.apportionment import apportion, deal


@settings(max_examples=100, deadline=None)
@given(total=st.integers(0, 500), weights=st.lists(st.floats(0.01, 10), min_size=1, max_size=8))
def test_apportioned_numbers_add_up_and_stay_within_one(total: int, weights: list[float]) -> None:
    shares = np.asarray(weights) / sum(weights)
    counts = apportion(total, list(shares))
    assert counts.sum() == total
    assert np.all(np.abs(counts - shares * total) < 1 + 1e-6)
    if total >= len(shares):
        assert apportion(total, list(shares), at_least_one=True).min() >= 1


@settings(max_examples=100, deadline=None)
@given(total=st.integers(1, 200), weights=st.lists(st.floats(0.05, 10), min_size=1, max_size=5))
def test_dealt_indices_have_the_apportioned_counts_and_are_spread_evenly(total: int, weights: list[float]) -> None:
    shares = np.asarray(weights) / sum(weights)
    dealt = deal(total, list(shares))
    counts = apportion(total, list(shares))
    assert np.array_equal(np.bincount(dealt, minlength=len(shares)), counts)
    half = np.bincount(dealt[: total // 2], minlength=len(shares))
    assert np.all(np.abs(half - counts / 2) <= len(shares))


def test_largest_remainder_by_hand() -> None:
    assert apportion(10, [0.47, 0.16, 0.37]).tolist() == [5, 1, 4]  # 4.7, 1.6, 3.7: the remainders .7 and .7 win
    assert apportion(10, [0.96, 0.04, 0.0], at_least_one=True).tolist() == [9, 1, 0]
    assert deal(4, [0.5, 0.5]).tolist() == [0, 1, 0, 1]

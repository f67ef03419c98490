import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfl.training.schedule import learning_rate


@given(st.floats(1e-6, 10), st.floats(0, 1), st.floats(0, 0.9))
def test_the_rate_is_positive_and_never_above_its_base(base: float, progress: float, warmup: float) -> None:
    assert 0 < learning_rate(base, "cosine", progress=progress, warmup=warmup) <= base * (1 + 1e-12)
    assert learning_rate(base, "constant", progress=progress, warmup=warmup) == base


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(0.0, 0.2), (0.1, 1.1), (0.2, 2.0), (0.6, 1.01), (1.0, 0.02)],  # warm-up over the first fifth, base 2
)
def test_the_rate_rises_from_a_tenth_and_falls_to_a_hundredth(progress: float, expected: float) -> None:
    assert learning_rate(2.0, "cosine", progress=progress, warmup=0.2) == pytest.approx(expected)


def test_without_warm_up_it_starts_at_its_base() -> None:
    assert learning_rate(2.0, "cosine", progress=0.0, warmup=0.0) == 2.0

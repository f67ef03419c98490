import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from medfl.results.history import History, RoundRecord, SiteRound
from medfl.results.metrics import MetricValue


def record(number: int) -> RoundRecord:
    return RoundRecord(number=number, seconds=0.5, sites=(SiteRound(site="a", loss=float(number)),))


@given(st.integers(0, 8), st.integers(-1, 9))
def test_until_keeps_the_rounds_up_to_and_including_a_number(rounds: int, number: int) -> None:
    history = History(rounds=tuple(record(n) for n in range(1, rounds + 1)))
    assert [r.number for r in history.until(number).rounds] == [n for n in range(1, rounds + 1) if n <= number]


def test_stored_values_are_closed_and_frozen() -> None:
    with pytest.raises(ValidationError):
        MetricValue.model_validate({"value": 0.5, "n": 3, "patient": "x"})
    with pytest.raises(ValidationError):
        MetricValue(value=0.5, n=-1)
    with pytest.raises(ValidationError):
        MetricValue(value=0.5, n=3).n = 4


def test_rounds_count_from_one() -> None:
    with pytest.raises(ValidationError):
        record(0)

from hypothesis import given
from hypothesis import strategies as st

from app.dashboard.progress import losses_of, progress_of, totals_of, validation_of
from dashboard.run_folders import round_record
from medfl.results.history import History


def history(rounds: int) -> History:
    return History(rounds=tuple(round_record(number) for number in range(1, rounds + 1)))


def test_time_left_is_the_rounds_to_come_at_their_usual_length() -> None:
    assert progress_of(history(4), 10).seconds_left == 6 * 3.0
    assert progress_of(history(10), 10).seconds_left is None
    assert progress_of(History(), 10).seconds_left is None
    assert progress_of(history(4), 0).seconds_left is None


@given(st.integers(0, 12), st.integers(0, 12))
def test_progress_never_promises_less_than_nothing(done: int, planned: int) -> None:
    progress = progress_of(history(done), planned)
    assert progress.done == done
    assert progress.seconds_left is None or progress.seconds_left > 0


def test_totals_tell_used_from_refused() -> None:
    north, south = totals_of(history(7))
    assert (north.used, north.refused, north.reasons) == (7, 0, ())
    assert (south.used, south.refused, south.reasons) == (5, 2, ("not_finite",))
    assert (north.bytes_up, north.bytes_down, north.seconds) == (14_000, 7_000, 2.0)
    assert totals_of(History()) == []


def test_losses_leave_out_what_was_refused() -> None:
    assert len(losses_of(history(3))) == 5


def test_the_validation_of_rounds_without_one_is_empty() -> None:
    name, rows = validation_of(history(3))
    assert (name, [row["x"] for row in rows]) == ("dice_mean", [1, 2, 3])
    bare = History(rounds=tuple(record.model_copy(update={"metrics": {}}) for record in history(3).rounds))
    assert validation_of(bare) == ("", [])

import os
import time
from pathlib import Path

import pytest

from dashboard.conftest import OpenScreen, texts
from dashboard.run_folders import round_record, segmentation_run
from medfl.results.history import History
from medfl.results.store import RunStore


@pytest.fixture
def live(tmp_path: Path) -> Path:
    return segmentation_run(tmp_path / "live", cases=1, finished=False)


def test_a_run_that_goes_on_tells_rounds_and_time_left(open_screen: OpenScreen, live: Path) -> None:
    said = texts(open_screen("training", live))
    assert "▶ Training goes on" in said
    assert "Round 2 of 4" in said
    assert "about 6 seconds left" in said
    assert "Every reply was used" in said


def test_a_new_round_is_seen_without_a_new_page(open_screen: OpenScreen, live: Path) -> None:
    test = open_screen("training", live)
    rounds = tuple(round_record(number) for number in (1, 2, 3))
    RunStore(live).write_history(History(rounds=rounds))
    assert "Round 3 of 4" in texts(test.run())


def test_refused_replies_are_named_with_a_reason_in_words(open_screen: OpenScreen, live: Path) -> None:
    RunStore(live).write_history(History(rounds=tuple(round_record(number) for number in (1, 2, 3))))
    said = texts(open_screen("training", live))
    assert "✗ refused" in said
    assert "not finite" in said
    assert "2 / 3" in said


def test_a_finished_run_says_so_and_has_no_time_left(open_screen: OpenScreen, tmp_path: Path) -> None:
    said = texts(open_screen("training", segmentation_run(tmp_path / "done", cases=1)))
    assert "✓ Training is finished" in said
    assert "left for training" not in said


def test_before_the_first_round_it_says_that_training_has_begun(open_screen: OpenScreen, live: Path) -> None:
    (live / "history.json").unlink()
    assert "first round is not finished" in texts(open_screen("training", live))


def test_a_run_that_stands_still_for_long_may_have_been_stopped(open_screen: OpenScreen, live: Path) -> None:
    past = time.time() - 7200
    for path in live.iterdir():
        if path.is_file():
            os.utime(path, (past, past))
    assert "may have been stopped" in texts(open_screen("training", live))


def test_a_broken_history_opens_with_a_sentence(open_screen: OpenScreen, live: Path) -> None:
    (live / "history.json").write_text('{"rounds": [')
    assert "history\\.json" in texts(open_screen("training", live))


def test_settings_that_cannot_be_read_leave_the_number_of_rounds_open(open_screen: OpenScreen, live: Path) -> None:
    (live / "config.yaml").write_text("nonsense")
    assert "Round 2 of ?" in texts(open_screen("training", live))


def test_everything_can_be_read_in_german(open_screen: OpenScreen, live: Path) -> None:
    assert "Runde 2 von 4" in texts(open_screen("training", live, language="de"))

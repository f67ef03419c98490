from pathlib import Path

import numpy as np
import pytest

from dashboard.conftest import OpenScreen, texts
from dashboard.run_folders import NASTY, classification_run, segmentation_run
from medfl.results.store import RunStore


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return segmentation_run(tmp_path / "run", cases=22)


def test_use_sites_quality_failures_and_unknowns_are_told(open_screen: OpenScreen, run: Path) -> None:
    said = texts(open_screen("model", run))
    assert "Not** for diagnosis" in said
    assert "left, right" in said.replace("\\", "")
    assert "north" in said
    assert "Dice per case" in said
    assert "1 replies of sites were refused" in said
    assert "lowest mean result" in said
    assert "What is not known" in said


def test_single_cases_are_named_only_to_those_who_may_see_them(open_screen: OpenScreen, run: Path) -> None:
    assert "Study south\\-s21" in texts(open_screen("model", run, role="clinician"))
    assert "Study south" not in texts(open_screen("model", run, role="privacy officer"))


def test_wrong_answers_are_counted(open_screen: OpenScreen, tmp_path: Path) -> None:
    assert "were classified wrongly" in texts(open_screen("model", classification_run(tmp_path / "xray")))


def test_a_card_with_html_links_and_pictures_is_shown_letter_by_letter(open_screen: OpenScreen, run: Path) -> None:
    RunStore(run).write_model({"w": np.zeros(1)}, f"# Card\n\n{NASTY}\n")
    said = texts(open_screen("model", run))
    assert "\\<img" in said
    assert "![x](http" not in said


@pytest.mark.parametrize("name", ["config.yaml", "history.json", "metrics.json", "cases.csv", "model_card.md"])
def test_whatever_is_broken_the_page_opens(open_screen: OpenScreen, run: Path, name: str) -> None:
    (run / name).write_bytes(b"\xff\x00{")
    assert "Research" in texts(open_screen("model", run))


def test_a_run_that_goes_on_shows_what_is_known(open_screen: OpenScreen, tmp_path: Path) -> None:
    said = texts(open_screen("model", segmentation_run(tmp_path / "live", cases=1, finished=False)))
    assert "has not been tested yet" in said


def test_everything_can_be_read_in_german(open_screen: OpenScreen, run: Path) -> None:
    assert "Was nicht bekannt ist" in texts(open_screen("model", run, language="de"))

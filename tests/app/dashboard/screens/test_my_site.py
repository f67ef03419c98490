import shutil
from pathlib import Path

import pytest

from app.dashboard.comparison import baselines_beside
from dashboard.conftest import OpenScreen, texts
from dashboard.run_folders import classification_run, segmentation_run
from medfl.results.store import RunStore
from pipelines.compare import ComparedModel, Comparison


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return segmentation_run(tmp_path_factory.mktemp("runs") / "tiny", cases=24)


@pytest.fixture
def run(base: Path, tmp_path: Path) -> Path:
    shutil.copytree(base, tmp_path / "runs" / "run")
    return tmp_path / "runs" / "run"


def test_the_site_is_told_in_words_beside_all_sites(open_screen: OpenScreen, run: Path) -> None:
    said = texts(open_screen("my_site", run))
    assert "How the model does at north" in said
    assert "Dice per case: 0.82" in said
    assert "No clear difference" in said


def test_another_site_can_be_chosen_and_a_suppressed_one_says_why(open_screen: OpenScreen, run: Path) -> None:
    test = open_screen("my_site", run)
    said = texts(test.selectbox(key="my site").set_value("west").run())
    assert "fewer than 5 subjects" in said
    assert "Numbers about so few people" in said


def test_subgroups_have_counts_and_intervals_and_small_ones_are_not_shown(open_screen: OpenScreen, run: Path) -> None:
    said = texts(open_screen("my_site", run))
    assert "Sex: F" in said
    assert "fewer than 10: not shown" in said
    assert "< 10" in said


def test_models_without_federation_stand_beside_it_where_they_were_compared(open_screen: OpenScreen, run: Path) -> None:
    alone = open_screen("my_site", run)
    assert "no comparison with local" in texts(alone)
    metrics = RunStore(run).read_metrics()
    models = tuple(ComparedModel(name=name, seed=0, metrics=metrics) for name in ("fedavg", "pooled", "local:north"))
    (run.parent / "compare.json").write_text(Comparison(config="tiny", models=models).model_dump_json())
    beside = open_screen("my_site", run)
    assert "no comparison with local" not in texts(beside)
    assert len(beside.get("vega_lite_chart")) == len(alone.get("vega_lite_chart")) + 1
    assert set(baselines_beside(run, 0)) == {"pooled", "local:north"}
    assert baselines_beside(run, 1) == {}


def test_calibration_and_sources_of_uncertainty_are_told(open_screen: OpenScreen, tmp_path: Path) -> None:
    said = texts(open_screen("my_site", classification_run(tmp_path / "xray", cases=80)))
    assert "its confidence is off by" in said
    assert "the image fits more than one answer" in said


def test_the_worst_cases_are_named_to_those_who_may_see_cases(open_screen: OpenScreen, run: Path) -> None:
    assert "Where it did worst" in texts(open_screen("my_site", run))
    assert "Where it did worst" not in texts(open_screen("my_site", run, role="administrator"))


def test_without_cases_the_metrics_are_still_there(open_screen: OpenScreen, run: Path) -> None:
    (run / "cases.csv").unlink()
    said = texts(open_screen("my_site", run))
    assert "Dice per case: 0.82" in said
    assert "need the site's own cases" in said


def test_a_running_run_says_that_results_come_later(open_screen: OpenScreen, tmp_path: Path) -> None:
    run = segmentation_run(tmp_path / "live", cases=1, finished=False)
    assert "has not been tested yet" in texts(open_screen("my_site", run))


def test_broken_metrics_open_with_a_sentence(open_screen: OpenScreen, run: Path) -> None:
    (run / "metrics.json").write_text('{"split": 3')
    assert "does not know" in texts(open_screen("my_site", run)).replace("knows not", "does not know")


def test_everything_can_be_read_in_german(open_screen: OpenScreen, run: Path) -> None:
    assert "So arbeitet das Modell in north" in texts(open_screen("my_site", run, language="de"))

import os
from pathlib import Path

from app.dashboard.runs import entry_of, find_runs
from dashboard.run_folders import segmentation_run


def test_a_run_folder_is_found_as_itself_and_below_a_folder(tmp_path: Path) -> None:
    run = segmentation_run(tmp_path / "runs" / "one", cases=1)
    assert [entry.name for entry in find_runs(run)] == ["one"]
    assert [entry.name for entry in find_runs(tmp_path / "runs")] == ["one"]
    assert [entry.name for entry in find_runs(tmp_path)] == ["runs/one"]


def test_states_are_told_by_the_files_that_are_there(tmp_path: Path) -> None:
    for name, files in (("a", ["config.yaml", "metrics.json"]), ("b", ["config.yaml"]), ("c", ["history.json"])):
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text("x")
    assert {entry.name: entry.state for entry in find_runs(tmp_path)} == {
        "a": "finished",
        "b": "running",
        "c": "incomplete",
    }


def test_the_run_that_changed_last_comes_first(tmp_path: Path) -> None:
    for time, name in ((10, "old"), (20, "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("x")
        os.utime(tmp_path / name / "config.yaml", (time, time))
    assert [entry.name for entry in find_runs(tmp_path)] == ["new", "old"]


def test_folders_of_other_things_and_runs_too_deep_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_text("x")
    (tmp_path / "1/2/3/4").mkdir(parents=True)
    (tmp_path / "1/2/3/4/config.yaml").write_text("x")
    assert find_runs(tmp_path) == ()
    assert find_runs(tmp_path / "nowhere") == ()


def test_what_was_read_is_out_of_date_when_a_file_changes(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("x")
    before = entry_of(tmp_path, tmp_path)
    (tmp_path / "config.yaml").write_text("xy")
    assert before != entry_of(tmp_path, tmp_path)


def test_a_very_large_file_is_known_without_opening_it(tmp_path: Path) -> None:
    with (tmp_path / "metrics.json").open("wb") as file:
        os.truncate(file.fileno(), 64_000_001)
    entry = entry_of(tmp_path, tmp_path)
    assert entry is not None
    assert entry.is_large("metrics.json")
    assert not entry.is_large("config.yaml")

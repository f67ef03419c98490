import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.test_audit_comparison import audited

Medfl = Callable[..., Any]


def test_run_leaves_a_run_folder_and_prints_its_path(medfl: Medfl, tiny: Path, tmp_path: Path) -> None:
    outcome = medfl("run", tiny, "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert "dice_mean" in outcome.out
    assert str(tmp_path / "run") in outcome.out
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"config.yaml", "plan.json", "history.json", "metrics.json", "privacy.json", "cases.csv"} <= left
    assert {"model.safetensors", "model_card.md", "curves.svg", "released", "predictions"} <= left


def test_json_is_one_object_on_stdout_and_nothing_else(medfl: Medfl, tiny: Path, tmp_path: Path) -> None:
    outcome = medfl("run", tiny, "--out", tmp_path / "run", "--json", "--set", "training.rounds=1")
    answer = json.loads(outcome.out)
    assert answer["run"] == str(tmp_path / "run")
    assert answer["metrics"]["pooled"]["dice_mean"]["n"] > 0
    assert outcome.err == ""


def test_a_second_run_never_overwrites_the_first(medfl: Medfl, tiny: Path, tmp_path: Path) -> None:
    assert medfl("run", tiny, "--out", tmp_path / "run", "--set", "training.rounds=1").code == 0
    before = (tmp_path / "run" / "metrics.json").read_bytes()
    outcome = medfl("run", tiny, "--out", tmp_path / "run", "--set", "training.rounds=1")
    assert outcome.code == 3
    assert "--resume" in outcome.err
    assert (tmp_path / "run" / "metrics.json").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("training: {rounds: 3", "training: {round: 3", "round"),
        ("learning_rate: 0.01", "learning_rate: -1", "learning_rate"),
        ("visits: 1", "visits: many", "visits"),
        ("kind: column", "kind: colum", "kind"),
    ],
)
def test_a_wrong_setting_is_named_with_its_place(
    medfl: Medfl, tiny: Path, tmp_path: Path, text: str, line: str, word: str
) -> None:
    tiny.write_text(tiny.read_text().replace(text, line))
    number = next(i for i, row in enumerate(tiny.read_text().splitlines(), start=1) if line in row)
    outcome = medfl("run", tiny, "--out", tmp_path / "run")
    assert outcome.code == 3
    assert f"tiny.yaml:{number}:" in outcome.err
    assert word in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "run").exists()


def test_missing_data_say_which_variable_to_set(medfl: Medfl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEDFL_DATA", raising=False)
    outcome = medfl("run", "configs/hippocampus.yaml", "--out", tmp_path / "run")
    assert outcome.code == 3
    assert "MEDFL_DATA" in outcome.err


def test_usage_errors_exit_with_2(medfl: Medfl) -> None:
    assert medfl("run").code == 2
    assert medfl("nonsense").code == 2


@pytest.mark.parametrize("option", ["--strategies", "--baselines"])
def test_an_unknown_name_to_compare_is_a_usage_error(medfl: Medfl, tiny: Path, option: str) -> None:
    outcome = medfl("compare", tiny, option, "nonsense")
    assert outcome.code == 2
    assert "nonsense" in outcome.err


def test_compare_prints_every_model_and_stores_them(medfl: Medfl, tiny: Path, tmp_path: Path) -> None:
    outcome = medfl(
        "compare",
        tiny,
        "--strategies",
        "fedavg,fedbn",
        "--baselines",
        "local,ensemble,pooled",
        "--out",
        tmp_path / "compared",
        "--set",
        "training.rounds=1",
    )
    assert outcome.code == 0, outcome.err
    stored = json.loads((tmp_path / "compared" / "compare.json").read_text())
    names = [model["name"] for model in stored["models"]]
    assert names[:3] == ["fedavg", "fedbn", "pooled"]
    assert {"local", "ensemble"} <= set(names)
    assert all(name in outcome.out for name in ("fedavg", "fedbn", "pooled", "ensemble"))


def test_predict_goes_on_past_a_broken_image(medfl: Medfl, tiny: Path, tmp_path: Path) -> None:
    assert medfl("run", tiny, "--out", tmp_path / "run", "--set", "training.rounds=1").code == 0
    images = tmp_path / "new"
    images.mkdir()
    found = next((tmp_path / "cache").rglob("*.png"))
    (images / "good.png").write_bytes(found.read_bytes())
    (images / "broken.png").write_bytes(b"no picture")
    outcome = medfl("predict", tmp_path / "run", images, "--out", tmp_path / "predicted")
    assert outcome.code == 0, outcome.err
    assert "1 studies predicted, 1 left out" in outcome.out
    assert (tmp_path / "predicted" / "good.png").exists()
    rows = (tmp_path / "predicted" / "predictions.csv").read_text().splitlines()
    assert len(rows) == 2
    assert "volume_px/a" in rows[0]


def test_predict_without_a_run_says_so(medfl: Medfl, tmp_path: Path) -> None:
    outcome = medfl("predict", tmp_path / "none", tmp_path, "--out", tmp_path / "predicted")
    assert outcome.code == 4
    assert "must exist in the run folder" in outcome.err


def test_resume_needs_the_folder_it_goes_on_in(medfl: Medfl, tiny: Path) -> None:
    outcome = medfl("run", tiny, "--resume")
    assert outcome.code == 2
    assert "--out" in outcome.err


def test_files_that_the_import_set_aside_are_announced(medfl: Medfl, tiny: Path, tmp_path: Path) -> None:
    assert medfl("run", tiny, "--out", tmp_path / "first", "--set", "training.rounds=1").code == 0
    found = sorted((tmp_path / "cache").rglob("images/*.png"))
    pictures = tmp_path / "pictures"
    for kind in ("yes", "no"):
        (pictures / kind).mkdir(parents=True)
    for number, path in enumerate(found):
        (pictures / ("yes" if number % 2 else "no") / path.name).write_bytes(path.read_bytes())
    (pictures / "yes" / "broken.png").write_bytes(b"no picture")
    imported = medfl("data", "import", "folder", pictures, "--out", tmp_path / "site")
    assert imported.code == 0, imported.err
    config = tmp_path / "classify.yaml"
    config.write_text(
        f"""
name: classify
task: {{kind: classification, dimensions: 2, classes: {{'no': ['no'], 'yes': ['yes']}}}}
data:
  source: {{kind: manifest, path: {tmp_path / "site" / "manifest.csv"}}}
  sites: {{kind: iid, count: 2}}
  split: {{train: 0.5, validation: 0.0, test: 0.5}}
preprocessing: {{size: [32, 32]}}
network: {{kind: densenet, initial_features: 4, growth_rate: 2, block_layers: [1, 1]}}
training: {{rounds: 1, batch_size: 4}}
evaluation: {{every: 0, minimum_subjects: 3}}
compute: {{threads: 1}}
"""
    )
    outcome = medfl("run", config, "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert "set aside at import: 1 files" in outcome.err


FEATURES = (
    "sharing=features",
    "task={kind: classification, dimensions: 2, classes: {normal: [normal], lesion: [lesion]}}",
    "preprocessing={size: [32, 32]}",
    "network={kind: efficientnet_lite0, hidden: 4}",
    "training.rounds=1",
)


def options(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def test_compare_prints_a_row_for_every_arm(medfl: Medfl, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "arms"
    outcome = medfl(
        "compare", tiny, "--arms", "none,matched-noise", "--std", "0.5,2", "--audit", "--out", out, *options(*FEATURES)
    )
    assert outcome.code == 0, outcome.err
    assert "matched-noise, std 0.5" in outcome.out
    assert "no figure" in outcome.err  # nobody has two studies here, so nobody can be linked
    rows = json.loads((out / "arms.json").read_text())["rows"]
    assert [(row["arm"], row["noise_std"]) for row in rows] == [
        ("none", 0),
        ("matched-noise", 0.5),
        ("matched-noise", 2),
    ]


def test_compare_draws_utility_against_what_attackers_find(medfl: Medfl, tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(tiny.read_text().replace("subjects: 20, visits: 1", "subjects: 40, visits: 2"))
    out = tmp_path / "arms"
    outcome = medfl("compare", tiny, "--arms", "none", "--audit", "--json", "--out", out, *options(*FEATURES))
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    assert json.loads(outcome.out)["rows"][0]["attacks"]
    assert (out / "utility.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--arms", "nonsense"),
        ("--arms", ","),
        ("--epsilon", "many"),
        ("--epsilon", "0"),
        ("--std", "much"),
        ("--std", ","),
    ],
)
def test_a_mistake_in_the_choice_of_arms_is_a_usage_error(medfl: Medfl, tiny: Path, option: str, value: str) -> None:
    extra = [] if option == "--arms" else ["--arms", "none"]
    outcome = medfl("compare", tiny, *extra, option, value, *options(*FEATURES))
    assert outcome.code == 2
    assert value in outcome.err


def test_a_protection_file_replaces_the_protection_and_nothing_else(medfl: Medfl, tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "protection.yaml"
    file.write_text("protection: {noise: {kind: plain, std: 0.5}}\n")
    run = tmp_path / "run"
    assert medfl("run", tiny, "--protection", file, "--out", run, *options(*FEATURES)).code == 0
    assert "std: 0.5" in (run / "config.yaml").read_text()
    file.write_text("protection: {noise: {kind: plain, std: -1}}\n")
    outcome = medfl("run", tiny, "--protection", file, "--out", tmp_path / "other", *options(*FEATURES))
    assert outcome.code == 3
    assert "protection.noise.std" in outcome.err
    file.write_text("training: {rounds: 5}\n")
    outcome = medfl("run", tiny, "--protection", file, "--out", tmp_path / "other", *options(*FEATURES))
    assert outcome.code == 3
    assert "nothing else" in outcome.err


def test_predictions_on_features_without_the_sites_key_are_refused(medfl: Medfl, tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    keyed = "protection={keyed: {kind: knt}}"
    assert medfl("run", tiny, "--out", run, *options(*FEATURES, keyed)).code == 0
    image = next((tmp_path / "cache").rglob("*.png"))
    (tmp_path / "nobody").mkdir()
    outcome = medfl("predict", run, image, "--out", tmp_path / "p", "--site", "site-1", "--keys", tmp_path / "nobody")
    assert outcome.code == 6
    assert "medfl key unwrap" in outcome.err
    assert medfl("predict", run, image, "--out", tmp_path / "p", "--site", "site-1").code == 0


def test_audited_runs_stand_in_one_table_and_one_figure(medfl: Medfl, tmp_path: Path) -> None:
    runs = [audited(tmp_path / name, arm=name, found=found) for name, found in (("none", 0.8), ("knt", 0.7))]
    outcome = medfl("compare", "--audit", *runs, "--out", tmp_path / "figures" / "arms.svg")
    assert outcome.code == 0, outcome.err
    assert all(word in outcome.out for word in ("auroc", "0.900 [0.880, 0.920]", "re-identification", "below margin"))
    assert (tmp_path / "figures" / "arms.svg").read_text().startswith("<svg")
    answer = json.loads(medfl("compare", "--audit", *runs, "--json").out)
    assert [row["arm"] for row in answer["rows"]] == ["none", "knt"]
    assert answer["limit"] == 0.55


def test_runs_that_cannot_be_put_into_a_table_end_in_one_sentence(medfl: Medfl, tiny: Path, tmp_path: Path) -> None:
    run = audited(tmp_path / "run")
    (run / "audit" / "report.json").unlink()
    outcome = medfl("compare", "--audit", run)
    assert outcome.code == 1
    assert "medfl audit" in outcome.err
    for extra in (("--seeds", "2"), ("--set", "seed=1"), ("--out", "figure.png")):
        outcome = medfl("compare", "--audit", run, *extra)
        assert outcome.code == 2
        assert extra[0] in outcome.err
    assert medfl("compare", tiny, tiny).code == 2
    assert medfl("compare", "--audit", tiny, tiny, "--arms", "none").code == 2

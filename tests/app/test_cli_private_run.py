import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Medfl = Callable[..., Any]


def _ledgers(medfl: Medfl, folder: Path, epsilon: float) -> Path:
    folder.mkdir()
    for site in ("site-1", "site-2"):
        assert medfl("ledger", "create", folder / f"{site}.db").code == 0
        budget = ("--data-set", "tiny", "--purpose", "research", "--epsilon", epsilon, "--delta", "1e-3")
        assert medfl("ledger", "budget", folder / f"{site}.db", *budget, "--adjacency", "add-remove").code == 0
    return folder


def test_a_spent_ledger_ends_a_run_with_code_7_and_says_where_to_look(medfl: Medfl, tiny: Path, tmp_path: Path) -> None:
    places = _ledgers(medfl, tmp_path / "ledgers", 5)
    private = tmp_path / "private.yaml"
    private.write_text("privacy: {kind: dp_sgd, epsilon: 4, delta: 1.0e-3, rate: 0.5}\n")
    call = ("run", tiny, "--protection", private, "--ledger", places)
    assert medfl(*call, "--out", tmp_path / "first").code == 0
    outcome = medfl(*call, "--out", tmp_path / "second")
    assert outcome.code == 7
    assert "medfl ledger show" in outcome.err
    assert "Traceback" not in outcome.err
    assert (tmp_path / "second" / "model.safetensors").is_file()
    shown = medfl("ledger", "show", places / "site-1.db")
    assert "budget: epsilon 5" in shown.out


def test_a_plan_beyond_the_ledger_is_a_mistake_in_the_settings(medfl: Medfl, tiny: Path, tmp_path: Path) -> None:
    places = _ledgers(medfl, tmp_path / "ledgers", 2)
    private = ("--set", "privacy={kind: dp_sgd, epsilon: 4, delta: 1.0e-3, rate: 0.5}")
    outcome = medfl("run", tiny, *private, "--ledger", places, "--out", tmp_path / "run")
    assert outcome.code == 3
    assert "no more than the ledger of site-1 allows" in outcome.err


def test_arms_of_shared_weights_are_compared_by_epsilon(medfl: Medfl, tiny: Path, tmp_path: Path) -> None:
    private = tmp_path / "private.yaml"
    private.write_text("privacy: {kind: dp_sgd, epsilon: 4, delta: 1.0e-3, rate: 0.5}\n")
    call = ("compare", tiny, "--protection", private, "--arms", "none,dp_sgd", "--epsilon", "2,8")
    outcome = medfl(*call, "--out", tmp_path / "arms", "--json")
    assert outcome.code == 0
    rows = json.loads(outcome.out)["rows"]
    assert [(row["arm"], row["epsilon"]) for row in rows] == [("none", "Infinity"), ("dp_sgd", 2.0), ("dp_sgd", 8.0)]
    assert medfl("compare", tiny, "--arms", "knt", "--out", tmp_path / "other").code == 3

"""Audited runs side by side; the runs are made up, their reports are signed in earnest."""

import json
from pathlib import Path

import pytest

from app.cli.display_audits import epsilons
from medfl.audit.signature import REPORT, SigningKey
from medfl.config.reading import dump_config, parse_config
from medfl.errors import AuditError
from medfl.governance.policy import AuditPolicy
from medfl.results.audit_store import AuditStore, report_bytes
from medfl.results.metrics import MetricValue, RunMetrics
from medfl.results.privacy import Release
from medfl.results.report import AuditReport
from medfl.results.store import RunStore
from pipelines.audit_comparison import audits_figure, compare_audits
from tests.audit.reports import attack, family, idle, report
from tests.pipelines.test_arms import TEXT

KEY = SigningKey.generate("a test")
NOISED = Release(
    site="a",
    what="features",
    subjects=10,
    times=1,
    mechanism="GaussianDpEvent",
    adjacency="replace one subject",
    accountant="PLD",
    release_model="once",
    delta=1e-5,
    epsilon=8.0,
)
PLAIN = Release(site="a", what="labels", subjects=10, times=1)


def audited(
    folder: Path,
    *,
    arm: str = "knt",
    found: float = 0.7,
    auroc: float = 0.9,
    text: str = TEXT,
    pooled: dict[str, MetricValue] | None = None,
    **changes: object,
) -> Path:
    """Leave a run folder with metrics and a signed report in it; pages are left out."""
    store = RunStore(folder)
    store.write_settings(dump_config(parse_config(text)), {"sha256": "a" * 64, "data": {"site-1": "d"}})
    metric = MetricValue(value=auroc, ci_low=auroc - 0.02, ci_high=auroc + 0.02, n=50)
    store.write_metrics(RunMetrics(split="test", pooled={"auroc": metric} if pooled is None else pooled, sites={}))
    linked = attack(found)
    pooled_images = attack(found + 0.1, name="lda, pooled", setting="8 images per side", validation=None)
    given = report().model_copy(
        update={
            "scope": report().scope.model_copy(update={"arm": arm}),
            "families": (family("re-identification", linked, pooled_images), idle("membership", "not run")),
            **changes,
        }
    )
    sign(folder, given)
    return folder


def sign(folder: Path, given: AuditReport) -> None:
    store = AuditStore.of(folder)
    store.write(store.report, report_bytes(given))
    store.write(store.signature, KEY.sign(report_bytes(given), REPORT).encode())


def test_a_table_holds_utility_epsilon_headlines_and_answers_of_every_run(tmp_path: Path) -> None:
    runs = [
        audited(tmp_path / "one", arm="none", found=0.8, releases=(PLAIN,)),
        audited(tmp_path / "two", arm="gaussian", auroc=0.8, releases=(NOISED, PLAIN)),
    ]
    table = compare_audits(runs)
    first, second = table.rows
    assert (first.run, first.arm, first.utility.name, first.utility.value, first.utility.n) == (
        "one",
        "none",
        "auroc",
        0.9,
        50,
    )
    assert epsilons(first) == ("none",)
    assert epsilons(second) == ("8 (delta 1e-05, per subject, replace one subject): features", "none: 1 other releases")
    worst = first.families[0]
    assert (worst.family, worst.status, worst.limit) == ("re-identification", "run", 0.55)
    assert worst.attack is not None
    assert worst.attack.name == "lda, pooled"
    assert (first.families[1].status, first.families[1].attack) == ("not run", None)
    assert set(first.verdicts) == {"singling out", "linkability", "inference"}
    assert table.notes == ()


def test_the_figure_shows_the_attacker_that_did_best_on_its_own_subjects_and_never_the_best_on_the_test(
    tmp_path: Path,
) -> None:
    table = compare_audits([audited(tmp_path / "one", found=0.6), audited(tmp_path / "two", arm="none", found=0.8)])
    assert [row.leakage.value for row in table.rows if row.leakage] == [0.6, 0.8]
    assert table.limit == 0.55
    alt = audits_figure(table).alt
    assert "knt: auroc 0.900 [0.880, 0.920]" in alt
    assert "The margin is 0.55." in alt


def test_runs_of_one_protection_are_named_by_their_folders(tmp_path: Path) -> None:
    table = compare_audits([audited(tmp_path / "seed0"), audited(tmp_path / "seed1")])
    assert all(f"{name}: auroc" in audits_figure(table).alt for name in ("seed0", "seed1"))


def test_a_void_family_shows_no_attack_and_no_point(tmp_path: Path) -> None:
    void = (family("re-identification", attack(0.9), null=False),)
    weak = (family("re-identification", attack(0.5), positive=False),)
    table = compare_audits([audited(tmp_path / "a", families=void), audited(tmp_path / "b", families=weak)])
    assert [row.families[0].status for row in table.rows] == ["void", "weak"]
    assert table.rows[0].families[0].attack is None
    assert table.leakage == ""
    assert any("no headline attack in common" in note for note in table.notes)
    with pytest.raises(AuditError, match="none in common"):
        audits_figure(table)


def test_a_run_that_was_never_audited_is_told_how(tmp_path: Path) -> None:
    run = audited(tmp_path / "run")
    AuditStore.of(run).report.unlink()
    with pytest.raises(AuditError, match=r"'run' was not. Run: medfl audit"):
        compare_audits([run])
    (run / "metrics.json").unlink()
    with pytest.raises(AuditError, match="has no metrics"):
        compare_audits([run])
    with pytest.raises(AuditError, match="at least one"):
        compare_audits([])


def test_an_edited_report_and_one_of_another_run_are_refused(tmp_path: Path) -> None:
    edited, moved = audited(tmp_path / "edited"), audited(tmp_path / "moved")
    path = AuditStore.of(edited).report
    path.write_bytes(path.read_bytes().replace(b'"budget":"quick"', b'"budget":"full"'))
    with pytest.raises(AuditError, match="not what was signed"):
        compare_audits([edited])
    plan = json.loads((moved / "plan.json").read_text())
    (moved / "plan.json").write_text(json.dumps(plan | {"sha256": "b" * 64}))
    with pytest.raises(AuditError, match="about the run it lies in"):
        compare_audits([moved])


def test_runs_that_cannot_be_compared_are_refused_with_the_reason(tmp_path: Path) -> None:
    usual = audited(tmp_path / "usual")
    other = audited(tmp_path / "other", text=TEXT.replace("lesion: [lesion]", "tumor: [lesion]"))
    with pytest.raises(AuditError, match="'usual' and 'other' differ in kind, dimensions or classes"):
        compare_audits([usual, other])
    strict = AuditPolicy.model_validate({"margins": {"verification_auc": 0.52}}).model_dump(mode="json", by_alias=True)
    with pytest.raises(AuditError, match="different margins"):
        compare_audits([usual, audited(tmp_path / "strict", policy=strict)])
    bare = audited(tmp_path / "bare", pooled={"auroc": MetricValue(value=None, n=0, note="suppressed")})
    with pytest.raises(AuditError, match="task metric"):
        compare_audits([usual, bare])


def test_what_makes_rows_less_comparable_is_said(tmp_path: Path) -> None:
    one, two = audited(tmp_path / "one"), audited(tmp_path / "two", budget="full")
    plan = json.loads((two / "plan.json").read_text())
    (two / "plan.json").write_text(json.dumps(plan | {"data": {"site-1": "e"}}))
    notes = " ".join(compare_audits([one, two]).notes)
    assert "different budgets" in notes
    assert "different data" in notes

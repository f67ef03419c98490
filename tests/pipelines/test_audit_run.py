"""An audit of a small run, from the release to the gate."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.main import cli
from medfl.config.reading import parse_config
from medfl.errors import AuditError, ConfigError
from medfl.governance.policy import AuditPolicy
from medfl.results.audit_store import AuditStore, parse_report
from medfl.results.report import AuditReport
from pipelines.audit_run import WantedAudit, audit_run
from pipelines.progress import Observer
from pipelines.simulate import simulate
from tests.pipelines.test_arms import TEXT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audited") / "run"
    simulate(parse_config(TEXT), folder)
    return folder


@pytest.fixture(scope="module")
def report(run: Path) -> AuditReport:
    return audit_run(run, AuditPolicy(), WantedAudit(budget="quick"), Observer(), lambda line: None)


def test_every_family_is_accounted_for_and_silence_is_never_below_margin(report: AuditReport) -> None:
    status = {family.family: family.status for family in report.families}
    assert status["re-identification"] == status["linkage"] == status["key hygiene"] == "run"
    assert len(status) == 8
    untested = {name for name, state in status.items() if state in ("not run", "failed")}
    for verdict in report.verdicts:
        assert verdict.status != "below margin" or not untested & set(verdict.families)


def test_no_key_is_found_in_the_run_folder(report: AuditReport) -> None:
    (hygiene,) = [family for family in report.families if family.family == "key hygiene"]
    assert hygiene.attacks[0].value == 0
    assert all(control.passed is not False for control in hygiene.controls)


def test_no_name_of_a_subject_is_in_the_report(report: AuditReport, run: Path) -> None:
    with (run / "cases.csv").open(encoding="utf-8") as file:
        subjects = {line.split(",")[1] for line in file.read().splitlines()[1:]}
    text = report.model_dump_json()
    assert subjects
    assert not any(f'"{name}"' in text for name in subjects)


def test_a_second_audit_goes_on_with_what_is_finished(report: AuditReport, run: Path) -> None:
    said: list[str] = []
    again = audit_run(run, AuditPolicy(), WantedAudit(budget="quick"), Observer(), said.append)
    assert sum("kept from before" in line for line in said) >= 3
    assert again.verdicts == report.verdicts


def test_a_family_left_out_forbids_below_margin(run: Path) -> None:
    wanted = WantedAudit(families=("key hygiene",), budget="quick")
    found = audit_run(run, AuditPolicy(), wanted, Observer(), lambda line: None)
    assert all(verdict.status == "inconclusive" for verdict in found.verdicts)
    with pytest.raises(ConfigError, match="--attacks"):
        WantedAudit(families=("nonsense",))


@pytest.mark.parametrize(
    ("change", "status"), [("features.head=sites", "not run"), ("sharing=weights", "not applicable")]
)
def test_features_that_leave_for_predictions_alone_are_not_run_and_not_called_inapplicable(
    tmp_path: Path, change: str, status: str
) -> None:
    config = parse_config(TEXT if "head" in change else TEXT.split("protection:")[0], overrides=(change,))
    simulate(config, tmp_path / "run")
    found = audit_run(tmp_path / "run", AuditPolicy(), WantedAudit(budget="quick"), Observer(), lambda line: None)
    states = {family.family: family.status for family in found.families}
    assert {states[name] for name in ("re-identification", "inversion", "attributes")} == {status}
    assert states["linkage"] == status
    assert "below margin" not in {verdict.status for verdict in found.verdicts}


def test_an_unfinished_or_mixed_run_is_refused(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    plan = json.loads((copy / "plan.json").read_text())
    (copy / "plan.json").write_text(json.dumps(plan | {"sha256": "0" * 64}))
    with pytest.raises(AuditError, match="mixed"):
        audit_run(copy, AuditPolicy(), WantedAudit(), Observer(), lambda line: None)
    (copy / "metrics.json").unlink()
    with pytest.raises(AuditError, match="finished run"):
        audit_run(copy, AuditPolicy(), WantedAudit(), Observer(), lambda line: None)


def test_from_the_command_line_to_the_gate_and_an_edit_is_named(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: AuditReport
) -> None:
    del report  # its families are kept
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    runner = CliRunner()
    done = runner.invoke(cli, ["audit", str(run), "--budget", "quick", "--json"])
    assert done.exit_code == 0, done.output
    store = AuditStore.of(run)
    assert parse_report(store.report.read_bytes()).budget == "quick"
    assert store.page("de").exists()
    assert runner.invoke(cli, ["audit", "verify", str(run)]).exit_code == 0
    decided = runner.invoke(
        cli,
        ["audit", "decide", str(run), "release", "--officer", "DPO", "--key", str(tmp_path / "config/medfl/audit.key")],
    )
    assert decided.exit_code == 0, decided.output
    officer = (tmp_path / "config/medfl/audit.key.pub").read_text().strip()
    statuses = "[below margin, above margin, inconclusive]"
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        f"officers: ['{officer}']\n"
        f"allowed: {{singling out: {statuses}, linkability: {statuses}, inference: {statuses}}}\n"
    )
    wide = runner.invoke(cli, ["gate", str(run), "--policy", str(policy)])
    valid = all(v.status != "invalid" for v in parse_report(store.report.read_bytes()).verdicts)
    assert wide.exit_code == (0 if valid else 1), wide.output
    policy.write_text(f"officers: ['{officer}']\n")
    assert runner.invoke(cli, ["gate", str(run), "--policy", str(policy)]).exit_code == 1
    content = store.report.read_text()
    store.report.write_text(content.replace('"budget":"quick"', '"budget":"full"'))
    with pytest.raises(AuditError, match="changed: /budget"):
        runner.invoke(cli, ["audit", "verify", str(run)], catch_exceptions=False)
    store.report.write_text(content)

"""Sites that run approved plans only, behind a real SuperLink, its stock SuperNodes and their executors."""

import json
import shutil
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.site.approving import approve
from app.site.init import init_site
from app.site.settings import load_settings
from medfl.data.manifest import write_manifest
from medfl.governance.audit_log import AuditLog
from medfl.governance.plan import Plan, write_plan
from pipelines.flower_bundle import bundle_files
from pipelines.run_config import HubSettings, run_config_toml
from pipelines.site_executor import ExecutorSettings
from tests.run_plans import run_plan

from .conftest import Reference
from .flower_processes import REPOSITORY, FlowerProcesses, free_port
from .run_folders import assert_same_run, files_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def _plan(reference: Reference, folder: Path) -> tuple[Plan, Path]:
    plan = run_plan(reference.config, *reference.manifest.sites())
    write_plan(plan, folder / "plan.json")
    return plan, folder / "plan.json"


def _site(reference: Reference, flower: FlowerProcesses, folder: Path, site: str) -> Path:
    """Make a site with its SuperNode and executor; return its state folder."""
    manifest = folder / f"{site}-data" / "manifest.csv"
    manifest.parent.mkdir()
    rows = tuple(replace(row, site="") for row in reference.manifest.where(site=site).rows)
    write_manifest(replace(reference.manifest, rows=rows), manifest)
    state = folder / site
    init_site(state, name=site, manifest=manifest, hub="", by="tester", now=datetime.now(UTC))
    settings = load_settings(state)
    secret, port = settings.secrets / "superexec", free_port()
    executor = ExecutorSettings(
        name=site,
        state=state,
        runtime=f"127.0.0.1:{port}",
        secret_file=secret,
        manifest=manifest,
        cache=folder / f"{site}-cache",
    )
    (state / "run").mkdir(exist_ok=True)
    (state / "run" / "executor.json").write_text(executor.model_dump_json())
    flower.start_isolated_supernode(port, secret)
    flower.start_program(
        f"executor-{site}", sys.executable, "-m", "pipelines.site_executor", str(state / "run" / "executor.json")
    )
    return state


def _submit(
    flower: FlowerProcesses,
    files: dict[str, bytes],
    settings: HubSettings,
    *,
    is_refused: bool = False,
) -> None:
    app = Path(tempfile.mkdtemp(prefix="bundle-", dir=flower.home))
    for name, content in files.items():
        (app / name).write_bytes(content)
    (flower.home / "run.toml").write_text(run_config_toml(settings))
    flower.run(app, "--run-config", str(flower.home / "run.toml"), timeout_s=400, is_refused=is_refused)


def test_sites_that_approved_come_to_the_same_run_as_simulated_ones(
    flower: FlowerProcesses, reference: Reference, tmp_path: Path
) -> None:
    plan, file = _plan(reference, tmp_path)
    flower.start_superlink()
    states = {site: _site(reference, flower, tmp_path, site) for site in plan.sites}
    for state in states.values():
        approve(file, state, by="tester", sha256=plan.sha256(), now=datetime.now(UTC))
    _submit(flower, bundle_files(plan), HubSettings(reference.config, tmp_path / "hub", sites=2))
    flower.stop()

    at_sites = [run for state in states.values() for run in (state / "runs").glob("tiny-*")]
    assert (tmp_path / "hub" / "metrics.json").exists(), flower.log()
    assert_same_run(files_of(*at_sites, tmp_path / "hub"), files_of(reference.run))
    for state in states.values():
        log = AuditLog(state / "audit.jsonl")
        assert log.verify() is None
        sent = [entry for entry in log.entries() if entry.operation == "reply.send"]
        assert len(sent) == 5, [entry.operation for entry in log.entries()]  # describe, 2 x train, evaluate, finish
        assert json.loads((state / "run" / "worker.json").read_text())["network"] == "locked"
    assert flower.alive() == []


def test_a_changed_bundle_and_a_changed_run_configuration_are_refused_and_no_code_of_them_runs(
    flower: FlowerProcesses, reference: Reference, tmp_path: Path
) -> None:
    plan, file = _plan(reference, tmp_path)
    marker = tmp_path / "code-of-the-hub-ran"
    flower.start_superlink()
    states = [_site(reference, flower, tmp_path, site) for site in plan.sites]
    for state in states:
        approve(file, state, by="tester", sha256=plan.sha256(), now=datetime.now(UTC))
    asked_for = HubSettings(reference.config, tmp_path / "first", sites=2)
    files = bundle_files(plan)
    project = files["pyproject.toml"].replace(b"pipelines.client_app:app", b"changed:app")
    assert project != files["pyproject.toml"]
    code = f"open({str(marker)!r}, 'w').close()\nimport pipelines.client_app\napp = pipelines.client_app.app\n".encode()
    _submit(flower, {**files, "pyproject.toml": project, "changed.py": code}, asked_for, is_refused=True)
    training = reference.config.training.model_copy(update={"learning_rate": 0.5})
    other = HubSettings(reference.config.model_copy(update={"training": training}), tmp_path / "second", sites=2)
    _submit(flower, files, other, is_refused=True)
    flower.stop()

    assert not marker.exists()
    for state in states:
        log = AuditLog(state / "audit.jsonl")
        assert log.verify() is None
        refused = [(entry.reason, entry.bytes_out) for entry in log.entries() if entry.operation == "message.refuse"]
        assert refused == [("not_approved", 0), ("settings", 0)], flower.log()
        assert not [entry for entry in log.entries() if entry.operation in ("task.start", "reply.send")]
        assert not list((state / "runs").glob("*"))
    for folder in ("first", "second"):
        assert not (tmp_path / folder / "model.safetensors").exists()


def test_a_hub_that_asks_for_more_than_the_plan_has_gets_one_word_each_time(
    flower: FlowerProcesses, reference: Reference, tmp_path: Path
) -> None:
    code = tmp_path / "hub-code"
    shutil.copytree(REPOSITORY / "pipelines", code / "pipelines", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(Path(__file__).with_name("malicious_hub.py"), code / "pipelines" / "server_app.py")
    plan, file = _plan(reference, tmp_path)
    flower.start_superlink(code=code)
    state = _site(reference, flower, tmp_path, "site-1")
    approve(file, state, by="tester", sha256=plan.sha256(), now=datetime.now(UTC))
    _submit(flower, bundle_files(plan), HubSettings(reference.config, tmp_path / "hub", sites=2))
    flower.stop()

    answers = json.loads((tmp_path / "hub" / "answers.json").read_text())
    expected = {name: "answered" if name.startswith("allowed") else "request_refused" for name, _ in answers}
    assert dict(answers) == expected
    assert len(answers) == 26
    log = AuditLog(state / "audit.jsonl")
    assert log.verify() is None
    entries = log.entries()
    refused = [entry for entry in entries if entry.operation == "message.refuse"]
    assert len(refused) == sum(answer == "request_refused" for _, answer in answers)
    assert not any(entry.bytes_out for entry in refused)
    assert [entry.operation for entry in entries].count("reply.send") == 5

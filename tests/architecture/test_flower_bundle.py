"""What `flwr run` would send to every site."""

import io
import tomllib
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_files

import medfl

_REPOSITORY = Path(__file__).parents[2]
_SMALL = 1024 * 1024


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # Flower's own use of pathspec
def test_the_bundle_is_small_and_holds_code_only() -> None:
    places = ("pyproject.toml", ".gitignore", "medfl/**/*", "pipelines/**/*", "app/**/*", "configs/*", "tests/**/*")
    files = {
        path.relative_to(_REPOSITORY).as_posix(): path
        for pattern in places
        for path in _REPOSITORY.glob(pattern)
        if path.is_file()
    }
    ignored = {"data/patients.json": b"{}", "runs/one/plan.json": b"{}", "runs/one/metrics.json": b"{}"}
    bundle, _ = build_fab_from_files(files | ignored)
    names = zipfile.ZipFile(io.BytesIO(bundle)).namelist()
    assert len(bundle) < _SMALL
    not_in_a_round = (
        "medfl/attacks/",
        "medfl/audit/",
        "medfl/federation/array_facts",
        "medfl/federation/network_lock",
        "medfl/federation/executor",
        "medfl/federation/file_lock",
        "medfl/federation/frames",
        "medfl/federation/inbound",
        "medfl/federation/kept_memory",
        "medfl/federation/request_counts",
        "medfl/federation/worker_process",
        "medfl/governance/approvals",
        "medfl/governance/audit_",
        "medfl/governance/case_flags",
        "medfl/governance/certificates",
        "medfl/governance/enrolment",
        "medfl/governance/egress",
        "medfl/governance/ledger_restore",
        "medfl/governance/plan",
        "medfl/governance/policy",
        "medfl/governance/site_",
        "medfl/governance/withdrawal",
        "medfl/data/catalog",
        "medfl/data/check",
        "medfl/data/inspection",
        "medfl/results/arms",
        "medfl/results/attack",
        "medfl/results/audit_store",
        "medfl/results/decision",
        "medfl/results/report",
        "pipelines/canary_check",
        "pipelines/split_inference",
        "pipelines/audit_",
        "pipelines/arms",
        "pipelines/baselines",
        "pipelines/bundle",
        "pipelines/compare",
        "pipelines/dry_step",
        "pipelines/flower_bundle",
        "pipelines/measure_rules",
        "pipelines/plan_",
        "pipelines/rehearsal",
        "pipelines/predict",
        "pipelines/site_answers",
        "pipelines/site_executor",
        "pipelines/site_plan",
        "pipelines/site_worker",
    )
    expected = {
        path.relative_to(_REPOSITORY).as_posix()
        for room in ("medfl", "pipelines")
        for path in (_REPOSITORY / room).rglob("*.py")
        if not path.relative_to(_REPOSITORY).as_posix().startswith(not_in_a_round)
    }
    assert set(names) == {*expected, "pyproject.toml", ".info/CONTENT"}


def test_project_and_package_name_one_version() -> None:
    project = tomllib.loads((_REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["version"] == medfl.__version__

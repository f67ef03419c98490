import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict
from typer.testing import CliRunner, Result

from app.cli.site import site_app
from app.site.init import init_site
from medfl.config.reading import dump_config, parse_config
from medfl.data.manifest import read_manifest
from medfl.data.phantoms import make_phantoms
from medfl.errors import DataError
from medfl.governance.audit_log import AuditLog
from medfl.governance.exclude_list import ExcludeList
from pipelines.client_app import program_of
from pipelines.run_config import PLAN
from pipelines.site_program import PipelineProgram
from pipelines.sources import load_site

CONFIG = parse_config(
    "name: tiny\n"
    "task: {kind: segmentation, dimensions: 2, classes: {a: 1, b: 2}, patch: [16, 16]}\n"
    "network: {kind: unet, channels: [4, 8], strides: [2], residual_units: 1, features: 4}\n"
    "data: {source: {kind: phantoms, dimensions: 2}, sites: {kind: column}}\n"
    "training: {rounds: 2}\n"
)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_phantoms(
        tmp_path / "data",
        dimensions=2,
        subjects=20,
        visits=2,
        sites=1,
        task="segmentation",
        seed=0,
        fractions=(0.5, 0.2, 0.3),
    )
    init_site(
        tmp_path / "state",
        name="north",
        manifest=tmp_path / "data" / "manifest.csv",
        hub="",
        by="Jo Admin",
        now=datetime.now(UTC),
    )
    monkeypatch.setenv("MEDFL_CACHE", str(tmp_path / "state" / "cache"))
    return tmp_path / "state"


def withdraw(state: Path, subject: str, *more: str) -> Result:
    return CliRunner().invoke(site_app, ["withdraw", str(state), subject, "--by", "Jo Admin", *more])


def program(state: Path) -> PipelineProgram:
    node = {"site": "north", "manifest": str(state.parent / "data" / "manifest.csv"), "state": str(state / "runs")}
    context = Context(7, 2, dict(node), RecordDict(), {PLAN: dump_config(CONFIG)})
    found = program_of(context)
    assert isinstance(found, PipelineProgram)
    return found


def used(found: PipelineProgram) -> dict[str, set[str]]:
    return {split: {study.row.subject for study in studies} for split, studies in found.studies.items()}


def test_a_subject_who_withdrew_is_never_used_again_and_nobody_else_changes_sides(state: Path) -> None:
    before = used(program(state))
    subject = min(before["train"])
    assert list((state / "cache").glob("*.safetensors"))
    done = withdraw(state, subject, "--json")
    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["new"], facts["studies"]) == (True, 2)
    assert [run["in_training"] for run in facts["runs"]] == []
    assert facts["unknown_runs"] == ["tiny-7"]
    assert not list((state / "cache").glob("*.safetensors"))
    after = used(program(state))
    assert after == before | {"train": before["train"] - {subject}}
    assert "nothing here makes them forget" in facts["limits"]
    entry = AuditLog(state / "audit.jsonl").entries()[-1]
    assert (entry.operation, entry.digest) == ("subject.withdraw", facts["digest"])
    assert subject not in (state / "audit.jsonl").read_text()


def test_the_runs_and_models_that_it_was_part_of_are_listed(state: Path) -> None:
    found = program(state)
    assert found.store is not None
    subject = min(used(found)["train"])
    found._write_release("round-0001", {}, "train")
    done = withdraw(state, subject)
    assert "Affected: run tiny-7: its models were trained on this subject; 1 releases left." in done.stdout
    again = withdraw(state, subject)
    assert "Excluded already." in again.stdout


def test_a_pseudonym_that_nothing_knows_is_refused_unless_it_is_meant(state: Path) -> None:
    done = withdraw(state, "DOE^JANE")
    assert isinstance(done.exception, DataError)
    assert "DOE" not in str(done.exception)
    assert ExcludeList(state).subjects() == frozenset()
    assert withdraw(state, "p-later", "--ahead").exit_code == 0
    assert ExcludeList(state).subjects() == {"p-later"}


def test_a_list_that_cannot_be_read_lets_nothing_be_computed(state: Path) -> None:
    (state / "exclude.json").write_text("{")
    with pytest.raises(DataError, match=r"exclude\.json"):
        program(state)


def test_a_new_import_does_not_bring_a_subject_back(state: Path) -> None:
    manifest = state.parent / "data" / "manifest.csv"
    subject = read_manifest(manifest).subjects()[0]
    ExcludeList(state).add(subject, "Jo Admin", AuditLog(state / "audit.jsonl")._clock())
    manifest.write_text(manifest.read_text())
    kept = load_site(manifest, "north", CONFIG, without=ExcludeList(state).subjects())
    assert subject not in kept.subjects()
    assert len(kept.subjects()) == 19

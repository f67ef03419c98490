import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from app.cli.main import main
from app.site.approving import approve
from app.site.doctor.examine import examine
from app.site.doctor.finding import Finding
from app.site.settings import load_settings
from medfl.config.reading import parse_config
from medfl.data.manifest import read_manifest, write_manifest
from medfl.data.phantoms import make_phantoms
from medfl.governance.exclude_list import ExcludeList
from medfl.governance.plan import Plan, write_plan
from tests.app.conftest import TINY
from tests.app.site.conftest import join, make_site
from tests.run_plans import run_plan

ROOT = Path(__file__).parents[4]
NOW = datetime.now(UTC)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A site with made-up patients, enrolled at a hub that is not there."""
    made = make_phantoms(tmp_path / "secret-clinic", dimensions=2, subjects=30, visits=1, sites=1)
    write_manifest(
        replace(made, rows=tuple(replace(row, split="", site="") for row in made.rows)),
        tmp_path / "secret-clinic" / "manifest.csv",
    )
    state = make_site(tmp_path / "state", tmp_path / "secret-clinic" / "manifest.csv", NOW)
    join(state, tmp_path, "127.0.0.1:9", NOW)
    return state


def found(state: Path, **options: bool) -> dict[str, Finding]:
    every = examine(state, NOW, is_offline=True, with_step=options.get("with_step", False))
    return {one.check: one for one in every}


def approved(state: Path, folder: Path, days: int = 100) -> Plan:
    plan = run_plan(parse_config(TINY), "north", expires=date.today() + timedelta(days=days))
    write_plan(plan, folder / "plan.json")
    approve(folder / "plan.json", state, by="Jo Admin", sha256=plan.sha256(), now=datetime.now(UTC))
    return plan


def test_a_site_that_is_well_has_no_problem(state: Path, tmp_path: Path) -> None:
    approved(state, tmp_path)
    assert [one for one in found(state).values() if one.status == "problem"] == []


def _spoil_manifest(state: Path) -> None:
    load_settings(state).data.manifest.write_text("nothing\n")


def _remove_image(state: Path) -> None:
    next(load_settings(state).data.manifest.parent.glob("images/*")).unlink()


def _spoil_images(state: Path) -> None:
    for path in load_settings(state).data.manifest.parent.glob("images/*"):
        path.write_bytes(b"not an image")


def _set_minimum(state: Path) -> None:
    path = state / "site.yaml"
    path.write_text(path.read_text().replace("minimum_subjects: 5", "minimum_subjects: 50"))


_DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "an unknown setting": (lambda s: (s / "site.yaml").write_text("nmae: x\n"), "configuration.settings"),
    "an open folder": (lambda s: s.chmod(0o755), "secrets.folder"),
    "an open key": (lambda s: (s / "keys" / "site_key").chmod(0o640), "secrets.modes"),
    "a missing secret": (lambda s: (s / "secrets" / "superexec").unlink(), "secrets.present"),
    "an edited log": (
        lambda s: (s / "audit.jsonl").write_bytes((s / "audit.jsonl").read_bytes().replace(b"Jo", b"Ja")),
        "log.sound",
    ),
    "no enrolment": (lambda s: (s / "hub" / "fingerprint").unlink(), "hub.enrolled"),
    "another certificate": (lambda s: (s / "hub" / "ca.crt").write_text("x"), "hub.enrolled"),
    "a spoiled exclude list": (lambda s: (s / "exclude.json").write_text("{"), "data.withdrawn"),
    "a spoiled manifest": (_spoil_manifest, "data.manifest"),
    "no data": (lambda s: load_settings(s).data.manifest.unlink(), "data.manifest"),
    "a missing image": (_remove_image, "data.files"),
    "spoiled images": (_spoil_images, "data.images"),
    "too few subjects": (_set_minimum, "data.counts"),
    "an approval by hand": (lambda s: (s / "approvals" / f"{'0' * 64}.json").write_text("{}"), "plans.files"),
}


@pytest.mark.parametrize("damage", list(_DAMAGES))
def test_every_damage_is_a_problem_with_its_own_name_and_a_fix(state: Path, damage: str) -> None:
    spoil, check = _DAMAGES[damage]
    spoil(state)
    one = found(state)[check]
    assert (one.status, bool(one.fix)) == ("problem", True), one


def test_nothing_that_is_said_names_a_path_to_patients_or_a_pseudonym(state: Path) -> None:
    subject = next(iter(sorted(row for row in _subjects(state))))
    ExcludeList(state).add(subject, "Jo Admin", NOW)
    for spoil in (_remove_image, _spoil_images, _spoil_manifest):
        said = json.dumps([vars(one) for one in found(state).values()])
        assert "secret-clinic" not in said
        assert "phantom-00" not in said
        spoil(state)


def test_a_variable_of_flower_that_is_not_handed_on_is_a_warning(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FLWR_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FLWR_DISABLE_UPDATE_CHECK", "1")
    assert found(state)["environment.variables"].status == "ok"
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "1")
    one = found(state)["environment.variables"]
    assert one.status == "warning"
    assert "FLWR_TELEMETRY_ENABLED" in one.found


def test_a_missing_file_is_found_by_its_line_although_somebody_before_it_withdrew(state: Path) -> None:
    manifest = read_manifest(load_settings(state).data.manifest)
    ExcludeList(state).add(manifest.rows[0].subject, "Jo Admin", NOW)
    manifest.image_path(manifest.rows[4]).unlink()
    assert "near line 6 " in found(state)["data.files"].found


def _subjects(state: Path) -> tuple[str, ...]:
    from medfl.data.manifest import read_manifest

    return read_manifest(load_settings(state).data.manifest).subjects()


def test_a_plan_that_ends_soon_and_one_for_another_version_are_named(state: Path, tmp_path: Path) -> None:
    assert found(state)["plans.approved"].status == "warning"
    approved(state, tmp_path, days=3)
    assert found(state)["plans.approved"].status == "warning"


@pytest.mark.slow
def test_one_training_step_says_its_memory_and_what_would_leave(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    approved(state, tmp_path)
    one = found(state, with_step=True)["plans.step"]
    assert one.status == "ok", one
    assert re.search(r"on \d+ studies took [\d.]+ s and [\d.]+ GiB; a round would send [\d,]+ bytes", one.found)
    monkeypatch.setenv("MEDFL_SITE_POLICY__REPLY_BYTES", "10")
    assert found(state, with_step=True)["plans.step"].status == "problem"
    monkeypatch.delenv("MEDFL_SITE_POLICY__REPLY_BYTES")
    _spoil_images(state)
    for path in load_settings(state).cache.rglob("*"):
        if path.is_file():
            path.unlink()
    assert found(state, with_step=True)["plans.step"].status == "problem"


def test_the_command_says_every_finding_and_fails_where_there_is_a_problem(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["medfl", "site", "doctor", str(state), "--offline", "--no-step", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().out

    code, out = run()
    assert code == 0
    assert "secrets.modes" in out
    (state / "keys" / "site_key").chmod(0o644)
    code, out = run("--json")
    assert code == 1
    facts = json.loads(out)
    assert not facts["ok"]
    assert {"check": "secrets.modes", "status": "problem"}.items() <= facts["findings"][3].items()


def test_the_documentation_lists_every_check_and_no_other() -> None:
    listed = set(re.findall(r"^\| `([a-z.]+)` \|", (ROOT / "docs" / "doctor.md").read_text(), flags=re.MULTILINE))
    in_code = {
        name
        for path in (ROOT / "app" / "site" / "doctor").glob("*.py")
        for name in re.findall(r'"([a-z]+\.[a-z]+)"', path.read_text())
        if not name.endswith((".pub", ".yaml"))
    }
    assert listed == in_code

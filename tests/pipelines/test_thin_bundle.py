import hashlib
import io
import zipfile
from datetime import date
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk, build_fab_from_files
from flwr.cli.config_utils import load_and_validate

from medfl.governance.plan import Plan
from pipelines.flower_bundle import bundle_files, bundle_sha256, thin_bundle

pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # Flower's use of pathspec


def a_plan(settings: str = "name: demo\n", **changes: object) -> Plan:
    values: dict[str, object] = {
        "name": "demo",
        "medfl_version": "0.1.0",
        "protocol": "Ethics vote 12/2026",
        "legal_basis": "Consent",
        "purpose": "Segmentation of phantoms",
        "contact": "Data office",
        "expires": date(2027, 6, 30),
        "sites": ("north", "south"),
        "settings": settings,
    }
    return Plan.model_validate(values | changes)


@pytest.mark.parametrize(
    "plan", [a_plan(), a_plan("name: ü\n" * 9000), a_plan(medfl_version="1.2.3rc4+local", contact="Ünal, “office”")]
)
def test_the_bundle_is_what_flower_itself_builds(plan: Plan, tmp_path: Path) -> None:
    for name, content in bundle_files(plan).items():
        (tmp_path / name).write_bytes(content)
    _, warnings = load_and_validate(tmp_path / "pyproject.toml", check_module=False)
    assert warnings == []
    built = build_fab_from_disk(tmp_path)
    assert built == thin_bundle(plan) == build_fab_from_files(bundle_files(plan))[0]
    assert hashlib.sha256(built).hexdigest() == bundle_sha256(plan)


def test_the_bundle_holds_the_plan_and_no_code() -> None:
    plan = a_plan()
    archive = zipfile.ZipFile(io.BytesIO(thin_bundle(plan)))
    assert archive.namelist() == ["pyproject.toml", "plan.json", ".info/CONTENT"]
    assert Plan.model_validate_json(archive.read("plan.json")) == plan
    assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_another_plan_is_another_bundle() -> None:
    assert bundle_sha256(a_plan()) == bundle_sha256(a_plan())
    assert bundle_sha256(a_plan(purpose="Another")) != bundle_sha256(a_plan())
    assert bundle_sha256(a_plan(medfl_version="0.1.1")) != bundle_sha256(a_plan())

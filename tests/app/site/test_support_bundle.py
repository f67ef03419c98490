import json
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.site.init import init_site
from app.site.pause import pause
from app.site.support_bundle import write_support_bundle
from medfl.data.manifest import write_manifest
from medfl.data.phantoms import make_phantoms
from medfl.errors import ConfigError
from medfl.governance.approvals import Approvals
from medfl.governance.audit_log import AuditLog
from medfl.governance.egress import Egress
from medfl.governance.exclude_list import ExcludeList
from tests.governance.plans import a_plan

NOW = datetime.now(UTC)
CANARY = "Mustermann"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A site with the canary everywhere that a person could leave it."""
    folder = tmp_path / f"{CANARY}-Erika"
    made = make_phantoms(folder, dimensions=2, subjects=8, visits=1, sites=1)
    rows = tuple(replace(row, split="", subject=f"{CANARY}-{place}") for place, row in enumerate(made.rows))
    write_manifest(replace(made, rows=rows), folder / "manifest.csv")
    state = tmp_path / "state"
    by = f"Dr {CANARY}"
    init_site(state, name=f"{CANARY}.clinic", manifest=folder / "manifest.csv", hub="", by=by, now=NOW)
    text = (state / "site.yaml").read_text()
    (state / "site.yaml").write_text(text.replace("account: site", f"account: {CANARY}"))
    (state / "secrets" / "medfl_site_proxy").write_text(f"http://{CANARY}:secret@proxy:3128")
    plan = a_plan(contact=f"{CANARY}, +49 1", protocol=CANARY)
    Approvals(state).approve(
        plan, bundle_sha256="b" * 64, egress=Egress(kinds=()), by=by, now=NOW, expires=plan.expires
    )
    ExcludeList(state).add(f"{CANARY}-1", by, NOW)
    pause(state, by=by, now=NOW)
    AuditLog(state / "audit.jsonl").append("reply.send", who="medfl", bytes_out=12, verdict="sent")
    lines = [
        f"WARNING {CANARY}",
        f"ERROR A message could not be answered (ValueError: {CANARY}).",
        "ERROR A message could not be answered (ValueError).",
        "WARNING A message was answered with not_approved (not_approved).",
        f"ValueError: patient {CANARY}",
        f"  File '/data/{CANARY}/x.nii', line 3",
        "\x1b[92mINFO \x1b[0m:      Receiving: train message (ID: 673ba9c9f049feab804b)",
        f"INFO :      Receiving: {CANARY} message",
        f"{CANARY}Error",
        f"{CANARY}Error: x",
    ]
    for name in ("executor", "supernode", CANARY):
        (state / "logs" / f"{name}.log").write_text("\n".join(lines))
    return state


def test_a_canary_anywhere_at_a_site_is_nowhere_in_the_bundle(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"FLWR_{CANARY.upper()}", CANARY)
    names = write_support_bundle(state, tmp_path / "bundle.zip", NOW)
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        assert tuple(archive.namelist()) == names
        content = {name: archive.read(name).decode() for name in names}
    for name, text in content.items():
        for word in (CANARY, "secret@", "/data/", str(tmp_path), "PRIVATE"):
            assert word.lower() not in text.lower(), (name, word)


def test_the_bundle_says_what_helps(state: Path, tmp_path: Path) -> None:
    write_support_bundle(state, tmp_path / "bundle.zip", NOW)
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        found = {name: json.loads(archive.read(name)) for name in archive.namelist()}
    assert found["versions.json"]["flwr"]
    assert found["settings.json"]["proxy"] is True
    assert found["settings.json"]["policy"]["minimum_subjects"] == 5
    assert found["status.json"]["paused_by"] == "person-1"
    assert found["status.json"]["withdrawn"] == 1
    assert [one["operation"] for one in found["audit.json"]] == ["site.init", "site.pause", "reply.send"]
    assert {one["who"] for one in found["audit.json"]} == {"person-1", "medfl"}
    log = found["logs.json"]["executor.log"]
    assert log["lines"] == [
        "ERROR A message could not be answered (ValueError).",
        "WARNING A message was answered with not_approved (not_approved).",
        "ValueError",
        "INFO Receiving: train message",
    ]
    assert log["others"] == 6
    assert {"check": "secrets.modes", "status": "problem"}.items() <= found["doctor.json"][3].items()
    assert (tmp_path / "bundle.zip").stat().st_mode & 0o077 == 0


def test_a_bundle_is_never_written_over(state: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle.zip").write_text("mine")
    with pytest.raises(ConfigError, match="new file"):
        write_support_bundle(state, tmp_path / "bundle.zip", NOW)
    assert (tmp_path / "bundle.zip").read_text() == "mine"

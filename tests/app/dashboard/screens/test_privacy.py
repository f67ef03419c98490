import shutil
from pathlib import Path

import numpy as np
import pytest
from audit.reports import report
from streamlit.testing.v1 import AppTest

from app.dashboard.audits import signed_files
from app.dashboard.screens.privacy import _archive, _plain
from dashboard.conftest import OpenScreen, texts
from dashboard.run_folders import NASTY, segmentation_run
from medfl.audit.findings import Findings
from medfl.audit.picture_digests import picture_digest
from medfl.audit.pictures import picture_of
from medfl.audit.signature import SigningKey
from medfl.governance.ledger import Ledger
from medfl.governance.ledger_events import Account, Budget, SubjectSet
from medfl.privacy.composition import REPLACE, Gaussian
from medfl.results.audit_store import AuditStore
from medfl.results.report import AuditReport
from medfl.results.store import RunStore
from pipelines.audit_files import part_key, write_report


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return segmentation_run(tmp_path_factory.mktemp("runs") / "tiny", cases=2)


@pytest.fixture
def run(base: Path, tmp_path: Path) -> Path:
    shutil.copytree(base, tmp_path / "run")
    return tmp_path / "run"


def audited(run: Path, found: AuditReport) -> Path:
    """Leave a signed report with one picture in a run folder."""
    panels = [("reconstruction", np.zeros((8, 8))), ("original", np.ones((8, 8)))]
    picture = picture_of("inversion", "The worst of all that were tried.", panels, (0.0, 1.0))
    named = found.model_copy(update={"pictures": (picture_digest(picture),)})
    family = named.families[0]
    key = part_key(named.scope.release_sha256, named.policy_sha256, named.budget, named.seed, named.tool.version)
    part = Findings(outcome=family, pictures=(picture,)).model_dump(mode="json")
    AuditStore.of(run).write_part(family.family, key, part)
    write_report(run, named, SigningKey.generate("test"), pictures=())
    return run


def html(test: AppTest) -> str:
    return "".join(str(one.proto.body) for one in test.get("html"))


@pytest.mark.parametrize(
    ("status", "sign"),
    [("below margin", "✓"), ("above margin", "▲"), ("inconclusive", "?"), ("invalid", "✗")],
)
def test_three_answers_stand_first_with_sign_and_word(
    open_screen: OpenScreen, run: Path, status: str, sign: str
) -> None:
    test = open_screen("privacy", audited(run, report(status=status)))
    assert html(test).count(f"{sign} {status}") == 3
    said = texts(test)
    assert "signed and unchanged" in said
    assert "No officer has decided" in said
    assert "membership\\: left out" in said


def test_a_report_that_was_changed_is_not_to_be_relied_on(open_screen: OpenScreen, run: Path) -> None:
    audited(run, report())
    store = AuditStore.of(run)
    store.report.write_bytes(store.report.read_bytes().replace(b'"value":0.52', b'"value":0.50'))
    assert "Do not rely on it" in texts(open_screen("privacy", run))
    store.signature.unlink()
    assert "Do not rely on it" in texts(open_screen("privacy", run))


def test_a_run_without_an_audit_says_that_nothing_is_known(open_screen: OpenScreen, run: Path) -> None:
    said = texts(open_screen("privacy", run))
    assert "was not audited yet" in said
    assert "model weights after local training" in said
    assert "no proof" in said


def test_a_broken_report_opens_with_a_sentence(open_screen: OpenScreen, run: Path) -> None:
    (run / "audit").mkdir()
    (run / "audit" / "report.json").write_text("{")
    assert "of another version" in texts(open_screen("privacy", run))


def test_what_left_is_counted_in_kinds_times_and_bytes(open_screen: OpenScreen, run: Path) -> None:
    said = texts(open_screen("privacy", run))
    assert "8.0 kB" in said
    assert "Nothing is proven" in said


def test_the_reconstruction_is_shown_on_request_and_to_the_right_role(open_screen: OpenScreen, run: Path) -> None:
    audited(run, report())
    assert len(open_screen("privacy", run, role="clinician").toggle) == 0
    assert len(open_screen("privacy", run, role="administrator").toggle) == 0
    test = open_screen("privacy", run, role="privacy officer")
    assert len(test.get("image")) == 0
    test.toggle[0].set_value(True).run()
    assert len(test.get("image")) == 2
    assert "The worst of all" in texts(test)


def test_a_picture_that_was_exchanged_is_not_shown(open_screen: OpenScreen, run: Path) -> None:
    audited(run, report())
    (part,) = (run / "audit" / "families").iterdir()
    part.write_text(part.read_text().replace("iVBOR", "iVBOS"))
    test = open_screen("privacy", run)
    test.toggle[0].set_value(True).run()
    assert len(test.get("image")) == 0
    assert "or were changed" in texts(test)


def test_the_sites_ledger_shows_what_is_spent_and_remains(open_screen: OpenScreen, run: Path, tmp_path: Path) -> None:
    account = Account("hippocampus", "research")
    with Ledger.create(tmp_path / "ledger.db") as ledger:
        ledger.open_account(account, Budget(2.0, 1e-5, REPLACE))
        for number in range(3):
            subjects = SubjectSet.of(f"p{place}" for place in range(50))
            release = ledger.reserve(
                account, run="r", round=number, release="sum", event=Gaussian(20.0), subjects=subjects
            )
            ledger.commit(release)
    said = texts(open_screen("privacy", run, site=tmp_path))
    assert "hippocampus" in said
    assert "ε 2.00, δ 1e\\-05" in said
    (tmp_path / "ledger.db.witness").unlink()
    assert "cannot be trusted" in texts(open_screen("privacy", run, site=tmp_path))


def test_what_is_handed_out_is_the_report_with_its_signature(run: Path) -> None:
    audited(run, report())
    files = signed_files(run)
    assert {"report.json", "report.json.sig", "tool.pub"} <= set(files)
    assert files["report.json"] == (run / "audit" / "report.json").read_bytes()
    assert _archive(files)[:2] == b"PK"
    assert _plain("../ä b/c") == "-----b-c"


def test_names_are_shown_letter_by_letter(open_screen: OpenScreen, run: Path) -> None:
    test = open_screen("privacy", audited(run, report(run=NASTY)))
    texts(test)
    record = RunStore(run).read_privacy()
    nasty = record.releases[0].model_copy(update={"what": NASTY})
    RunStore(run).write_privacy(record.model_copy(update={"releases": (nasty,), "statement": NASTY}))
    said = texts(open_screen("privacy", run))
    assert "\\<img src\\=x" in said
    assert "](http" not in said


def test_everything_can_be_read_in_german(open_screen: OpenScreen, run: Path) -> None:
    test = open_screen("privacy", audited(run, report()), language="de")
    assert html(test).count("✓ unter der Grenze") == 3
    assert "unterschrieben und unverändert" in texts(test)


def test_a_run_that_goes_on_shows_what_left_so_far(open_screen: OpenScreen, tmp_path: Path) -> None:
    assert texts(open_screen("privacy", segmentation_run(tmp_path / "live", cases=1, finished=False)))

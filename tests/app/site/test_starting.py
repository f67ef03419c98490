from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from app.site.starting import start_site
from medfl.errors import ConfigError, EnrolmentError, KeyFileError, MedFLError
from medfl.governance.audit_log import AuditLog
from tests.app.site.conftest import join


def _unknown_setting(state: Path) -> None:
    text = yaml.safe_load((state / "site.yaml").read_text())
    (state / "site.yaml").write_text(yaml.safe_dump(text | {"epsilonn": 3}))


def _other_authority(state: Path) -> None:
    (state / "hub" / "ca.crt").write_text("another")


def _changed_answer(state: Path) -> None:
    path = state / "hub" / "enrolment.json"
    path.write_text(path.read_text().replace("hub.example.org", "elsewhere.org"))


def _open_key(state: Path) -> None:
    (state / "keys" / "site_key").chmod(0o644)


@pytest.mark.parametrize(
    ("spoil", "error", "reason"),
    [
        (_unknown_setting, ConfigError, "settings"),
        (_other_authority, EnrolmentError, "hub_certificate"),
        (_changed_answer, EnrolmentError, "signature"),
        (_open_key, KeyFileError, "key"),
    ],
)
def test_a_site_that_may_not_start_says_why_and_logs_it(
    state: Path, tmp_path: Path, spoil: Callable[[Path], None], error: type[MedFLError], reason: str
) -> None:
    join(state, tmp_path)
    spoil(state)
    with pytest.raises(error):
        start_site(state, say=lambda line: None)
    last = AuditLog(state / "audit.jsonl").entries()[-1]
    assert (last.operation, last.verdict, last.reason) == ("site.start", "refused", reason)


def test_a_site_that_is_not_enrolled_does_not_start(state: Path) -> None:
    with pytest.raises(EnrolmentError, match="medfl site enroll"):
        start_site(state, say=lambda line: None)
    assert AuditLog(state / "audit.jsonl").entries()[-1].reason == "not_enrolled"


def test_a_folder_that_is_no_site_gets_no_log(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="medfl site init"):
        start_site(tmp_path, say=lambda line: None)
    assert list(tmp_path.iterdir()) == []

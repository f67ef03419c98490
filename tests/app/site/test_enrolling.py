import json
from pathlib import Path

import pytest

from app.site.enrolling import enroll, enrolled_link, enrolment, is_enrolled
from app.site.settings import load_settings
from medfl.errors import ConfigError, EnrolmentError
from medfl.governance.audit_log import AuditLog
from medfl.governance.certificates import Authority
from medfl.governance.enrolment import make_answer, read_request, write_signed
from tests.app.site.conftest import NOW


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "ca").mkdir()
    return Authority.create(tmp_path / "ca", "trial", NOW)


@pytest.fixture
def answer(state: Path, authority: Authority, tmp_path: Path) -> Path:
    made = make_answer(
        authority,
        read_request(state / "enrolment-request.json"),
        hub="trial",
        address="hub.example.org:8443",
        allowed_signers="hub ssh-ed25519 AAAA\n",
        medfl_version="0.1.0",
        now=NOW,
    )
    write_signed(made, tmp_path / "answer.json")
    return tmp_path / "answer.json"


def reason(state: Path) -> tuple[str, str]:
    last = AuditLog(state / "audit.jsonl").entries()[-1]
    return last.verdict, last.reason


def test_a_site_knows_its_hub_after_enrolment_only(state: Path, authority: Authority, answer: Path) -> None:
    with pytest.raises(EnrolmentError, match="medfl site enroll"):
        enrolled_link(load_settings(state))
    enroll(state, answer, fingerprint=authority.fingerprint, by="Jo Admin")
    link = enrolled_link(load_settings(state))
    assert link.address == "hub.example.org:8443"
    assert link.ca is not None
    assert link.ca.read_text() == authority.pem
    assert (state / "hub" / "allowed_signers").read_text() == "hub ssh-ed25519 AAAA\n"
    assert reason(state) == ("ok", "")


def test_the_address_in_the_sites_own_settings_wins(
    state: Path, authority: Authority, answer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enroll(state, answer, fingerprint=authority.fingerprint, by="Jo Admin")
    monkeypatch.setenv("MEDFL_SITE_HUB", "10.0.0.7:443")
    assert enrolled_link(load_settings(state)).address == "10.0.0.7:443"


def test_an_answer_with_another_fingerprint_changes_nothing_and_is_logged(state: Path, answer: Path) -> None:
    with pytest.raises(EnrolmentError, match="fingerprint"):
        enroll(state, answer, fingerprint="0" * 64, by="Jo Admin")
    assert not is_enrolled(load_settings(state))
    assert reason(state) == ("refused", "fingerprint")


def test_nobody_is_not_a_name(state: Path, authority: Authority, answer: Path) -> None:
    with pytest.raises(ConfigError, match="name"):
        enroll(state, answer, fingerprint=authority.fingerprint, by="  ")
    assert not is_enrolled(load_settings(state))


@pytest.mark.parametrize("part", ["enrolment.json", "ca.crt"])
def test_what_was_taken_is_checked_again_at_every_start(
    state: Path, authority: Authority, answer: Path, part: str, tmp_path: Path
) -> None:
    enroll(state, answer, fingerprint=authority.fingerprint, by="Jo Admin")
    (tmp_path / "other").mkdir()
    other = Authority.create(tmp_path / "other", "trial", NOW)
    if part == "ca.crt":
        (state / "hub" / part).write_text(other.pem)
    else:
        value = json.loads((state / "hub" / part).read_text())
        (state / "hub" / part).write_text(json.dumps(value | {"address": "evil.example.org:8443"}))
    with pytest.raises(EnrolmentError):
        enrolled_link(load_settings(state))


def test_a_site_with_a_new_name_enrolls_again(
    state: Path, authority: Authority, answer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enroll(state, answer, fingerprint=authority.fingerprint, by="Jo Admin")
    monkeypatch.setenv("MEDFL_SITE_NAME", "south")
    with pytest.raises(EnrolmentError, match="south"):
        enrolment(load_settings(state))

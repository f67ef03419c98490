import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from app.hub.enrolling import enroll, enrolled, unenroll
from app.hub.init import allowed_signers, init_hub, renew
from app.hub.settings import load_hub
from medfl.errors import ConfigError, EnrolmentError
from medfl.governance.certificates import read_certificate, valid_until
from medfl.governance.enrolment import make_request, read_answer, write_signed
from medfl.governance.site_keys import create_site_key

NOW = datetime(2026, 5, 4, 10, 30, tzinfo=UTC)


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    init_hub(tmp_path / "hub", name="Trial 7", host="hub.example.org", port=8443, now=NOW, other_hosts=("10.0.0.7",))
    return tmp_path / "hub"


def request(folder: Path, site: str, key: str = "") -> Path:
    private = folder / f"key-{key or site}"
    if not private.exists():
        create_site_key(private, "x")
    path = folder / f"request-{site}-{key}.json"
    write_signed(make_request(private, site=site, medfl_version="0.1.0", now=NOW), path)
    return path


def test_a_new_hub_is_its_owner_s_alone_and_says_its_fingerprint(tmp_path: Path) -> None:
    settings, fingerprint = init_hub(tmp_path / "hub", name="Trial 7", host="hub.example.org", port=8443, now=NOW)
    assert load_hub(tmp_path / "hub") == settings
    assert len(fingerprint) == 64
    private = [settings.ca / "ca.key", settings.private_key, settings.secret, settings.signing_key]
    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in settings.state.iterdir() if path.is_dir()} == {0o700}
    assert allowed_signers(settings).startswith("hub-Trial-7 ssh-ed25519 ")


def test_the_certificate_is_for_every_name_of_the_hub(hub: Path) -> None:
    text = str(read_certificate((hub / "tls" / "server.crt").read_bytes()).extensions)
    for name in ("hub.example.org", "10.0.0.7", "localhost", "127.0.0.1"):
        assert name in text


def test_nothing_that_exists_is_overwritten(hub: Path) -> None:
    before = (hub / "ca" / "ca.crt").read_bytes()
    with pytest.raises(ConfigError, match="new or empty"):
        init_hub(hub, name="Trial 7", host="hub.example.org", port=8443, now=NOW)
    assert (hub / "ca" / "ca.crt").read_bytes() == before


@pytest.mark.parametrize(("name", "host", "port"), [("", "h", 1), ("a", "a b", 1), ("a", "h", 0), ("a", "-h", 1)])
def test_a_hub_with_bad_values_is_not_made(tmp_path: Path, name: str, host: str, port: int) -> None:
    with pytest.raises(ConfigError):
        init_hub(tmp_path / "hub", name=name, host=host, port=port, now=NOW)
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize("extra", [{"hots": "x"}, {"state": "/x"}, {"port": "many"}, {5: 6}])
def test_an_unknown_or_wrong_setting_is_refused(hub: Path, extra: dict[object, object]) -> None:
    values = yaml.safe_load((hub / "hub.yaml").read_text())
    (hub / "hub.yaml").write_text(yaml.safe_dump({**values, **extra}))
    with pytest.raises(ConfigError, match=r"hub\.yaml"):
        load_hub(hub)


def test_a_renewed_certificate_is_by_the_same_authority(hub: Path) -> None:
    before = (hub / "ca" / "ca.crt").read_bytes()
    assert renew(hub, NOW + timedelta(days=300)) == NOW + timedelta(days=697)
    assert valid_until((hub / "tls" / "server.crt").read_bytes()) == NOW + timedelta(days=697)
    assert (hub / "ca" / "ca.crt").read_bytes() == before


def test_a_site_gets_an_answer_that_it_can_check(hub: Path, tmp_path: Path) -> None:
    made = enroll(hub, request(tmp_path, "north"), tmp_path / "answer.json", NOW)
    assert made.is_new
    fingerprint = made.answer.fingerprint
    key = tmp_path / "key-north"
    answer = read_answer(tmp_path / "answer.json", fingerprint=fingerprint, site="north", private_key=key)
    assert (answer.address, answer.hub) == ("hub.example.org:8443", "Trial 7")
    assert [one.site for one in enrolled(load_hub(hub))] == ["north"]


def test_the_same_request_gets_the_answer_again(hub: Path, tmp_path: Path) -> None:
    asked = request(tmp_path, "north")
    enroll(hub, asked, tmp_path / "answer.json", NOW)
    assert not enroll(hub, asked, tmp_path / "again.json", NOW).is_new
    with pytest.raises(ConfigError, match="new file"):
        enroll(hub, asked, tmp_path / "again.json", NOW)


@pytest.mark.parametrize(("site", "key", "reason"), [("north", "other", "site"), ("south", "north", "key")])
def test_a_name_or_a_key_is_taken_in_once(hub: Path, tmp_path: Path, site: str, key: str, reason: str) -> None:
    enroll(hub, request(tmp_path, "north"), tmp_path / "answer.json", NOW)
    with pytest.raises(EnrolmentError) as caught:
        enroll(hub, request(tmp_path, site, key), tmp_path / "second.json", NOW)
    assert caught.value.reason == reason
    assert not (tmp_path / "second.json").exists()


def test_a_site_that_is_shut_out_can_come_back_with_another_key(hub: Path, tmp_path: Path) -> None:
    enroll(hub, request(tmp_path, "north"), tmp_path / "answer.json", NOW)
    unenroll(hub, "north")
    assert enrolled(load_hub(hub)) == ()
    with pytest.raises(EnrolmentError, match="hub status"):
        unenroll(hub, "north")
    assert enroll(hub, request(tmp_path, "north", "other"), tmp_path / "second.json", NOW).is_new


def test_a_site_s_file_that_was_changed_stops_everything(hub: Path, tmp_path: Path) -> None:
    enroll(hub, request(tmp_path, "north"), tmp_path / "answer.json", NOW)
    path = hub / "sites" / "north.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"site": "south"}))
    with pytest.raises(EnrolmentError):
        enrolled(load_hub(hub))

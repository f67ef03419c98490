import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from medfl.errors import EnrolmentError, KeyFileError
from medfl.governance.certificates import Authority
from medfl.governance.enrolment import (
    EnrolmentAnswer,
    make_answer,
    make_request,
    read_answer,
    read_request,
    write_signed,
)
from medfl.governance.site_keys import create_site_key

NOW = datetime(2026, 5, 4, 10, 30, tzinfo=UTC)


@dataclass
class Joining:
    folder: Path
    key: Path
    authority: Authority

    @property
    def request(self) -> Path:
        return self.folder / "request.json"

    @property
    def answer(self) -> Path:
        return self.folder / "answer.json"

    def read(self, fingerprint: str | None = None, site: str = "north") -> EnrolmentAnswer:
        wanted = self.authority.fingerprint if fingerprint is None else fingerprint
        return read_answer(self.answer, fingerprint=wanted, site=site, private_key=self.key)


def answer_of(authority: Authority, request: Path) -> EnrolmentAnswer:
    return make_answer(
        authority,
        read_request(request),
        hub="trial",
        address="hub.example.org:8443",
        allowed_signers="hub ssh-ed25519 AAAA",
        medfl_version="0.1.0",
        now=NOW,
    )


@pytest.fixture
def joining(tmp_path: Path) -> Joining:
    create_site_key(tmp_path / "site_key", "north")
    made = Joining(tmp_path, tmp_path / "site_key", Authority.create(tmp_path, "trial", NOW))
    write_signed(make_request(made.key, site="north", medfl_version="0.1.0", now=NOW), made.request)
    write_signed(answer_of(made.authority, made.request), made.answer)
    return made


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(EnrolmentError) as caught:
        call()
    return caught.value.reason


def test_a_site_that_compares_the_fingerprint_is_taken_in(joining: Joining) -> None:
    answer = joining.read()
    assert (answer.site, answer.address, answer.made.isoformat()) == ("north", "hub.example.org:8443", "2026-05-04")
    assert answer.fingerprint == joining.authority.fingerprint
    spoken = ":".join(answer.fingerprint[i : i + 2] for i in range(0, 64, 2)).upper()
    assert joining.read(spoken) == joining.read(answer.fingerprint[:16]) == answer


def test_neither_file_holds_a_private_key(joining: Joining) -> None:
    assert b"PRIVATE" not in joining.request.read_bytes() + joining.answer.read_bytes()


@pytest.mark.parametrize("given", ["", "0" * 64, "first 15", "too long"])
def test_another_or_a_short_fingerprint_is_refused(joining: Joining, given: str) -> None:
    real = joining.authority.fingerprint
    wanted = {"first 15": real[:15], "too long": f"{real}0"}.get(given, given)
    assert refused(lambda: joining.read(wanted)) == "fingerprint"


def test_an_answer_by_another_authority_is_refused_even_if_it_signed_correctly(
    joining: Joining, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    stranger = Authority.create(tmp_path / "other", "trial", NOW)
    write_signed(answer_of(stranger, joining.request), joining.answer)
    assert refused(joining.read) == "fingerprint"


@pytest.mark.parametrize(
    ("field", "value"), [("address", "evil.example.org:443"), ("allowed_signers", ""), ("made", "2026-05-05")]
)
def test_an_answer_that_was_changed_is_refused(joining: Joining, field: str, value: str) -> None:
    change(joining.answer, lambda found: found.update({field: value}))
    assert refused(joining.read) == "signature"


def test_an_answer_for_another_site_or_key_is_refused(joining: Joining, tmp_path: Path) -> None:
    assert refused(lambda: joining.read(site="south")) == "site"
    create_site_key(tmp_path / "second", "north")
    joining.key = tmp_path / "second"
    assert refused(joining.read) == "key"


@pytest.mark.parametrize("field", ["site", "public_key", "medfl_version", "signature"])
def test_a_request_that_was_changed_is_refused(joining: Joining, tmp_path: Path, field: str) -> None:
    create_site_key(tmp_path / "second", "x")
    other = make_request(tmp_path / "second", site="south", medfl_version="9", now=NOW)
    change(joining.request, lambda found: found.update({field: getattr(other, field)}))
    assert refused(lambda: read_request(joining.request)) == "signature"


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"site": 1, "site": 2}', b"\xff", b"[" * 5000, b" " * 70_000],
    ids=["empty", "list", "object", "twice", "binary", "deep", "long"],
)
def test_what_is_no_enrolment_file_is_refused(joining: Joining, content: bytes) -> None:
    joining.request.write_bytes(content)
    joining.answer.write_bytes(content)
    assert refused(lambda: read_request(joining.request)) == "unreadable"
    assert refused(joining.read) == "unreadable"


def test_an_unknown_field_and_a_wrong_base64_are_refused(joining: Joining) -> None:
    change(joining.answer, lambda found: found.update({"insecure": True}))
    assert refused(joining.read) == "unreadable"
    change(joining.request, lambda found: found.update({"signature": "A" * 9}))
    assert refused(lambda: read_request(joining.request)) == "signature"


def test_a_certificate_that_is_none_is_refused(joining: Joining) -> None:
    change(joining.answer, lambda found: found.update({"ca": base64.b64encode(b"x").decode()}))
    assert refused(joining.read) == "signature"


def test_a_key_that_others_can_read_signs_nothing(joining: Joining) -> None:
    joining.key.chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        make_request(joining.key, site="north", medfl_version="1", now=NOW)

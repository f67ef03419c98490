from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.site.enrolling import enroll
from app.site.init import init_site
from medfl import __version__
from medfl.governance.certificates import Authority
from medfl.governance.enrolment import make_answer, read_request, write_signed

NOW = datetime(2026, 5, 4, 10, 30, tzinfo=UTC)


def make_site(state: Path, manifest: Path, now: datetime = NOW, hub: str = "") -> Path:
    init_site(state, name="north", manifest=manifest, hub=hub, by="Jo Admin", now=now)
    return state


def join(state: Path, folder: Path, address: str = "hub.example.org:8443", now: datetime = NOW) -> None:
    """Enroll a site at a hub that is not there."""
    (folder / "ca").mkdir()
    authority = Authority.create(folder / "ca", "trial", now)
    answer = make_answer(
        authority,
        read_request(state / "enrolment-request.json"),
        hub="trial",
        address=address,
        allowed_signers="",
        medfl_version=__version__,
        now=now,
    )
    write_signed(answer, folder / "answer.json")
    enroll(state, folder / "answer.json", fingerprint=authority.fingerprint, by="Jo Admin")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A new site."""
    return make_site(tmp_path / "state", tmp_path / "manifest.csv")

import json
import shutil
from pathlib import Path

import pytest

from medfl.errors import ConfigError
from medfl.governance import ledger_restore
from medfl.governance.ledger import Ledger
from medfl.governance.ledger_errors import LedgerError, LedgerExhaustedError
from medfl.governance.ledger_events import Account, Budget, SubjectSet
from medfl.governance.ledger_file import witness_path
from medfl.governance.ledger_restore import exported, restore
from medfl.privacy.composition import ADD_OR_REMOVE, REPLACE, DpEvent, Gaussian, NonPrivate, composed_epsilon

ACCOUNT = Account("chest x-ray", "research")
OTHER = Account("mri", "research")
BUDGET = Budget(8.0, 1e-5, REPLACE)
NOISE = Gaussian(5.0)
NOTE = "administrator: disk of 3 May lost"


def book(ledger: Ledger, event: DpEvent = NOISE, account: Account = ACCOUNT) -> None:
    subjects = SubjectSet.of(["a", "b", account.data_set])
    ledger.commit(ledger.reserve(account, run="r", round=0, release="sum", event=event, subjects=subjects))


def copy_of(ledger: Ledger) -> bytes:
    return json.dumps(exported(ledger.events())).encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    with Ledger.create(path) as ledger:
        ledger.open_account(ACCOUNT, BUDGET)
        book(ledger)
    return path


def test_an_exact_copy_takes_up_where_the_ledger_was(path: Path) -> None:
    with Ledger.open(path) as ledger:
        before, copy = ledger.head, copy_of(ledger)
    path.unlink()
    with restore(path, note=NOTE, copy=copy) as ledger:
        assert ledger.spent(ACCOUNT).epsilon == composed_epsilon({NOISE: 1}, 1e-5, REPLACE)
        assert ledger.verify(before).sequence == before.sequence + 1
        book(ledger)


def test_an_older_copy_charges_the_most_that_was_ever_allowed(path: Path) -> None:
    with Ledger.open(path) as ledger:
        ledger.change_budget(ACCOUNT, Budget(12.0, 1e-5, REPLACE), note="board")
        ledger.change_budget(ACCOUNT, Budget(6.0, 1e-6, REPLACE))
        copy = copy_of(ledger)
        book(ledger)
    path.write_bytes(b"")
    with restore(path, note=NOTE, copy=copy) as ledger:
        assert ledger.accounts() == {ACCOUNT: Budget(12.0, 1e-5, REPLACE)}
        assert ledger.spent(ACCOUNT).epsilon == 12.0
        with pytest.raises(LedgerExhaustedError):
            book(ledger, Gaussian(1000.0))


def test_without_a_copy_every_named_account_is_charged_in_full(path: Path) -> None:
    path.unlink()
    witness_path(path).unlink()
    unlimited = Budget(None, 1e-5, REPLACE)
    with restore(path, note=NOTE, charged={ACCOUNT: BUDGET, OTHER: unlimited}) as ledger:
        assert ledger.spent(ACCOUNT).epsilon == 8.0
        book(ledger, NonPrivate(), OTHER)
        with pytest.raises(LedgerExhaustedError):
            book(ledger, Gaussian(1000.0))
        with pytest.raises(LedgerError, match="after a lost ledger needs a note"):
            ledger.open_account(Account("ct", "research"), BUDGET)


def test_after_a_full_charge_more_is_granted_by_a_note_and_adds_up(path: Path) -> None:
    path.unlink()
    with restore(path, note=NOTE, charged={ACCOUNT: BUDGET}) as ledger:
        ledger.change_budget(ACCOUNT, Budget(12.0, 2e-5, REPLACE), note="board: 4 more at another 1e-5")
        book(ledger)
        expected = 8.0 + composed_epsilon({NOISE: 1}, 1e-5, REPLACE)
        assert ledger.spent(ACCOUNT).epsilon == pytest.approx(expected, rel=1e-9)


def test_a_rolled_back_ledger_is_no_copy_of_itself(path: Path, tmp_path: Path) -> None:
    shutil.copy(path, tmp_path / "old")
    with Ledger.open(path) as ledger:
        copy = copy_of(ledger)
        book(ledger)
    shutil.copy(tmp_path / "old", path)
    with restore(path, note=NOTE, copy=copy) as ledger:
        assert ledger.spent(ACCOUNT).epsilon == 8.0
    (kept,) = tmp_path.glob("ledger.db.damaged-*")
    assert kept.read_bytes() == (tmp_path / "old").read_bytes()


def test_a_sound_ledger_is_not_restored(path: Path) -> None:
    with pytest.raises(LedgerError, match="is sound"):
        restore(path, note=NOTE, charged={ACCOUNT: BUDGET})


def test_a_restoration_needs_a_note_and_something_to_charge(path: Path, tmp_path: Path) -> None:
    path.unlink()
    with pytest.raises(ConfigError, match="note must be"):
        restore(path, note="", charged={ACCOUNT: BUDGET})
    with pytest.raises(LedgerError, match="every account there was must be named"):
        restore(path, note=NOTE)
    assert not path.exists()
    with pytest.raises(LedgerError, match="must exist"):
        restore(tmp_path / "nowhere" / "ledger.db", note=NOTE, charged={ACCOUNT: BUDGET})


def test_a_forged_copy_is_refused(path: Path) -> None:
    with Ledger.open(path) as ledger:
        copy = copy_of(ledger)
    path.unlink()
    for forged, reason in (
        (copy.replace(b":5,", b":9,"), "row 3 is not"),
        (b"{}", "must be what 'medfl ledger show --json' prints"),
        (b"[]", "must be what 'medfl ledger show --json' prints"),
        (b"\xff", "must be what 'medfl ledger show --json' prints"),
    ):
        with pytest.raises(LedgerError, match=reason):
            restore(path, note=NOTE, copy=forged)
    assert not path.exists()


def test_two_adjacencies_of_one_data_set_cannot_be_charged(path: Path) -> None:
    path.unlink()
    quality = Account("chest x-ray", "quality control")
    with pytest.raises(LedgerError, match="one adjacency"):
        restore(path, note=NOTE, charged={ACCOUNT: BUDGET, quality: Budget(1.0, 1e-5, ADD_OR_REMOVE)})
    assert not path.exists()


def test_a_restoration_that_was_cut_off_is_begun_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with Ledger.open(path) as ledger:
        copy = copy_of(ledger)
    for step in ("install", "write_witness"):
        path.unlink(missing_ok=True)
        with monkeypatch.context() as patch:
            patch.setattr(ledger_restore, step, killed)
            with pytest.raises(Killed):
                restore(path, note=NOTE, copy=copy)
    with Ledger.open(path) as ledger:
        assert ledger.spent(ACCOUNT).events == 1
        assert ledger.verify().sequence == 5

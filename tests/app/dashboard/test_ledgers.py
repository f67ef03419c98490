import math
from pathlib import Path

import pytest

from app.dashboard.ledgers import _some, changes_of, ledger_files, read_ledger
from medfl.governance.ledger import Ledger
from medfl.governance.ledger_events import Account, Budget, SubjectSet
from medfl.privacy.composition import REPLACE, DpEvent, Gaussian, NonPrivate

ACCOUNT = Account("hippocampus", "research")
SUBJECTS = SubjectSet.of(f"p{number}" for number in range(50))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger" / "north.db"
    path.parent.mkdir()
    with Ledger.create(path) as ledger:
        ledger.open_account(ACCOUNT, Budget(3.0, 1e-5, REPLACE))
    return path


def book(path: Path, event: DpEvent, times: int = 1) -> None:
    with Ledger.open(path) as ledger:
        for number in range(times):
            made = ledger.reserve(ACCOUNT, run="r", round=number, release="sum", event=event, subjects=SUBJECTS)
            ledger.commit(made)


def test_what_is_shown_is_what_the_ledger_says(path: Path) -> None:
    book(path, Gaussian(20.0), 4)
    view = read_ledger("north", path)
    (account,) = view.accounts
    with Ledger.open(path) as ledger:
        spent = ledger.spent(ACCOUNT).epsilon
    assert account.spent == spent
    assert account.left == pytest.approx(3.0 - spent)
    assert [epsilon for _, epsilon in account.points] == sorted(epsilon for _, epsilon in account.points)
    assert account.points[-1][1] == pytest.approx(spent)
    assert len(account.points) == 4


def test_reading_leaves_no_trace_beside_the_ledger(path: Path) -> None:
    book(path, Gaussian(20.0))
    before = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in path.parent.iterdir()}
    folder = path.parent.stat().st_mtime_ns
    path.parent.chmod(0o500)
    assert not read_ledger("north", path).problem
    path.parent.chmod(0o700)
    assert {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in path.parent.iterdir()} == before
    assert path.parent.stat().st_mtime_ns == folder


def test_a_ledger_that_is_open_elsewhere_can_be_read(path: Path) -> None:
    with Ledger.open(path) as ledger:
        ledger.reserve(ACCOUNT, run="r", round=1, release="sum", event=Gaussian(20.0), subjects=SUBJECTS)
        (account,) = read_ledger("north", path).accounts
    assert (account.pending, len(account.points)) == (1, 1)


def test_what_has_no_proof_is_infinite_and_a_limitless_account_has_no_remainder(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger.create(path) as ledger:
        ledger.open_account(ACCOUNT, Budget(None, 1e-5, REPLACE))
    book(path, NonPrivate())
    (account,) = read_ledger("", path).accounts
    assert math.isinf(account.spent)
    assert math.isinf(account.left)


@pytest.mark.parametrize("damage", ["witness", "bytes", "empty", "gone"])
def test_a_ledger_that_cannot_be_trusted_is_a_problem_and_has_no_numbers(path: Path, damage: str) -> None:
    book(path, Gaussian(20.0))
    if damage == "witness":
        path.with_name("north.db.witness").unlink()
    elif damage == "bytes":
        path.write_bytes(path.read_bytes().replace(b"hippocampus", b"hippocampuz"))
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    view = read_ledger("north", path)
    assert (view.problem, view.accounts) == (True, ())


def test_the_sites_own_ledger_comes_before_those_of_a_simulation(path: Path, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "ledger.db").write_bytes(b"")
    assert [name for name, _ in ledger_files(tmp_path, tmp_path / "state")] == ["", "north"]
    assert [name for name, _ in ledger_files(tmp_path, None)] == ["north"]


def test_a_booking_changes_what_was_read(path: Path) -> None:
    before = changes_of(path)
    book(path, Gaussian(20.0))
    assert changes_of(path) != before


def test_of_many_bookings_some_are_drawn_with_the_first_and_the_last() -> None:
    numbers = list(range(1000))
    some = _some(numbers)
    assert (len(some), some[0], some[-1]) == (24, 0, 999)
    assert _some([1, 2]) == [1, 2]

import json
import math
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfl.errors import ConfigError, PrivacyError
from medfl.governance import ledger as ledger_module
from medfl.governance import ledger_file
from medfl.governance.ledger import Ledger, Reservation
from medfl.governance.ledger_chain import START, Head, row_after
from medfl.governance.ledger_errors import LedgerError, LedgerExhaustedError, LedgerUnreachableError
from medfl.governance.ledger_events import Account, Budget, Cancelled, Committed, Reserved, SubjectSet
from medfl.governance.ledger_file import witness_path
from medfl.privacy.composition import ADD_OR_REMOVE, REPLACE, DpEvent, Gaussian, NonPrivate, composed_epsilon
from medfl.results.canonical import sha256

ACCOUNT = Account("chest x-ray", "research")
OTHER = Account("chest x-ray", "quality control")
BUDGET = Budget(8.0, 1e-5, REPLACE)
SUBJECTS = SubjectSet.of(["anna", "bert"])
NOISE = Gaussian(5.0)


class Killed(BaseException):
    """A process that ends here and now."""


class SlowClock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger.create(path) as made:
        made.open_account(ACCOUNT, BUDGET)
        yield made


def book(ledger: Ledger, event: DpEvent = NOISE, account: Account = ACCOUNT, round_: int = 0) -> Reservation:
    return ledger.reserve(account, run="run-1", round=round_, release="weight update", event=event, subjects=SUBJECTS)


def test_what_is_reserved_counts_until_it_is_given_back(ledger: Ledger) -> None:
    assert ledger.spent(ACCOUNT).epsilon == 0.0
    first, second = book(ledger), book(ledger)
    assert ledger.pending(ACCOUNT) == 2
    ledger.commit(first)
    spent = ledger.spent(ACCOUNT)
    assert spent.epsilon == composed_epsilon({NOISE: 2}, 1e-5, REPLACE)
    assert (spent.delta, spent.adjacency, spent.events) == (1e-5, REPLACE, 2)
    ledger.cancel(second)
    assert ledger.spent(ACCOUNT).epsilon == composed_epsilon({NOISE: 1}, 1e-5, REPLACE)
    assert ledger.pending(ACCOUNT) == 0


def test_a_release_over_the_budget_is_refused_and_nothing_is_booked(ledger: Ledger) -> None:
    book(ledger, Gaussian(1.5))
    before = ledger.head
    with pytest.raises(LedgerExhaustedError, match=r"epsilon 8 at delta 1e-05.* is spent, and this would make it"):
        book(ledger, Gaussian(1.5))
    with pytest.raises(LedgerExhaustedError, match="infinite: nothing is proven"):
        book(ledger, NonPrivate())
    assert ledger.verify() == before
    book(ledger, Gaussian(500.0))
    assert ledger.spent(ACCOUNT).epsilon <= 8.0


def test_exhaustion_is_a_privacy_error() -> None:
    assert issubclass(LedgerExhaustedError, LedgerError)
    assert issubclass(LedgerError, PrivacyError)


def test_books_without_a_limit_take_what_is_not_private(ledger: Ledger) -> None:
    ledger.open_account(OTHER, Budget(None, 1e-5, REPLACE), note="board, 3 May: features are not private")
    ledger.commit(book(ledger, NonPrivate(), OTHER))
    assert ledger.spent(OTHER).epsilon == math.inf
    assert ledger.spent(ACCOUNT).epsilon == 0.0
    assert ledger.total("chest x-ray").epsilon == math.inf


def test_purposes_add_up_for_the_subjects_of_a_data_set(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="needs a note"):
        ledger.open_account(OTHER, BUDGET)
    with pytest.raises(LedgerError, match="one adjacency"):
        ledger.open_account(OTHER, Budget(8.0, 1e-5, ADD_OR_REMOVE), note="board, 3 May")
    ledger.open_account(OTHER, BUDGET, note="board, 3 May")
    book(ledger), book(ledger, account=OTHER)
    total = ledger.total("chest x-ray")
    assert total.epsilon == composed_epsilon({NOISE: 2}, 2e-5, REPLACE)
    assert (total.delta, total.events) == (2e-5, 2)
    with pytest.raises(LedgerError, match="must have an account"):
        ledger.total("mri")


def test_the_same_subjects_are_not_booked_under_two_names_of_their_data(ledger: Ledger) -> None:
    book(ledger)
    elsewhere = Account("chest x-ray, copy", "research")
    ledger.open_account(elsewhere, BUDGET)
    with pytest.raises(LedgerError, match="are booked under 'chest x-ray'"):
        book(ledger, account=elsewhere)


def test_an_account_is_opened_once(ledger: Ledger) -> None:
    head = ledger.head
    ledger.open_account(ACCOUNT, BUDGET)
    assert ledger.head == head
    with pytest.raises(LedgerError, match="open already"):
        ledger.open_account(ACCOUNT, replace(BUDGET, epsilon=9.0))
    with pytest.raises(LedgerError, match="must be opened with a budget first"):
        book(ledger, account=OTHER)


@pytest.mark.parametrize(
    "more", [Budget(9.0, 1e-5, REPLACE), Budget(8.0, 2e-5, REPLACE), Budget(None, 1e-5, REPLACE), BUDGET]
)
def test_allowing_more_needs_a_note_and_is_recorded(ledger: Ledger, more: Budget) -> None:
    with pytest.raises(LedgerError, match="needs a note"):
        ledger.change_budget(ACCOUNT, more)
    ledger.change_budget(ACCOUNT, more, note="data board, 3 May")
    assert ledger.accounts() == {ACCOUNT: more}
    assert ledger.events()[-1].content.model_dump()["note"] == "data board, 3 May"


def test_allowing_less_holds_at_once(ledger: Ledger) -> None:
    book(ledger)
    ledger.change_budget(ACCOUNT, Budget(0.1, 1e-6, REPLACE))
    with pytest.raises(LedgerExhaustedError):
        book(ledger, Gaussian(500.0))
    assert ledger.spent(ACCOUNT).epsilon == composed_epsilon({NOISE: 1}, 1e-6, REPLACE)
    with pytest.raises(LedgerError, match="adjacency of an account must stay"):
        ledger.change_budget(ACCOUNT, Budget(0.1, 1e-6, ADD_OR_REMOVE), note="data board, 3 May")


def test_delta_must_suit_the_number_of_subjects(ledger: Ledger) -> None:
    many = SubjectSet("0" * 64, 10_001)
    with pytest.raises(ConfigError, match=r"at most 1 / \(10 \* subjects\)"):
        ledger.reserve(ACCOUNT, run="r", round=0, release="sum", event=NOISE, subjects=many)
    ledger.reserve(ACCOUNT, run="r", round=0, release="sum", event=NOISE, subjects=replace(many, number=10_000))


def test_a_reservation_is_ended_once_and_by_its_owner(ledger: Ledger) -> None:
    made = book(ledger)
    with pytest.raises(LedgerError, match="only the process that made"):
        ledger.cancel(Reservation(made.sequence, "guessed"))
    ledger.commit(made)
    ledger.commit(made)
    with pytest.raises(LedgerError, match="it is committed"):
        ledger.cancel(made)
    taken = book(ledger)
    ledger.cancel(taken)
    ledger.cancel(taken)
    with pytest.raises(LedgerError, match="it is cancelled"):
        ledger.commit(taken)
    with pytest.raises(LedgerError, match="it is unknown"):
        ledger.commit(Reservation(1, ""))
    assert sum(isinstance(entry.content, Committed | Cancelled) for entry in ledger.events()) == 2
    assert made.token not in repr(made)


def test_two_open_ledgers_see_what_the_other_booked(ledger: Ledger, path: Path) -> None:
    with Ledger.open(path) as other:
        made = book(ledger)
        assert other.spent(ACCOUNT).events == 1
        book(other)
        ledger.commit(made)
        assert ledger.spent(ACCOUNT) == other.spent(ACCOUNT)


def test_no_name_of_a_subject_enters_the_file(ledger: Ledger, path: Path) -> None:
    book(ledger)
    content = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert SUBJECTS.digest.encode() in content
    assert b"anna" not in content
    assert b"bert" not in content


def test_a_set_of_subjects_is_the_same_in_any_order() -> None:
    assert SubjectSet.of(["b", "a", "a"]) == SubjectSet.of(["a", "b"])
    assert SubjectSet.of(["a", "b"]) != SubjectSet.of(["ab"])
    with pytest.raises(ConfigError, match="at least one subject"):
        SubjectSet.of([])
    with pytest.raises(ConfigError, match="every study must have a subject"):
        SubjectSet.of(["a", ""])


def test_the_file_belongs_to_its_owner_alone(ledger: Ledger, path: Path) -> None:
    book(ledger)
    assert {file.stat().st_mode & 0o077 for file in path.parent.iterdir()} == {0}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Budget(0.0, 1e-5, REPLACE),
        lambda: Budget(math.inf, 1e-5, REPLACE),
        lambda: Budget(1.0, 1.0, REPLACE),
        lambda: Budget(1.0, 1e-5, "images"),
        lambda: Account("", "research"),
        lambda: Account("two\nlines", "research"),
        lambda: Account("x" * 121, "research"),
        lambda: SubjectSet("anna", 1),
    ],
)
def test_what_has_no_meaning_is_refused_by_name(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        make()


# ---- the clock ----


def test_a_clock_far_behind_is_refused_until_somebody_confirms_it(path: Path) -> None:
    clock = SlowClock()
    with Ledger.create(path, clock=clock) as ledger:
        ledger.open_account(ACCOUNT, BUDGET)
        made = book(ledger)
        clock.now -= timedelta(minutes=4)
        book(ledger)
        clock.now -= timedelta(hours=1)
        with pytest.raises(LedgerError, match="clock must not run behind"):
            book(ledger)
        with pytest.raises(LedgerError, match="clock must not run behind"):
            ledger.change_budget(ACCOUNT, replace(BUDGET, epsilon=7.0))
        ledger.change_budget(ACCOUNT, BUDGET, note="the clock was an hour ahead until noon")
        ledger.commit(made)
        book(ledger)
        assert [entry.row.sequence for entry in ledger.events()] == list(range(1, 8))
        assert ledger.spent(ACCOUNT).events == 3


# ---- the chain ----


def edited(path: Path, row: int, column: str, value: bytes) -> None:
    """Change one value behind the ledger's back and leave everything else as it was."""
    with closing(sqlite3.connect(path)) as database, database:
        triggers = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            database.execute(f"DROP TRIGGER {name}")
        database.execute(f"UPDATE events SET {column} = CAST(? AS TEXT) WHERE sequence = ?", (value, row))
        for _, sql in triggers:
            database.execute(sql)


@pytest.fixture(scope="module")
def booked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a closed ledger of 7 rows."""
    path = tmp_path_factory.mktemp("booked") / "ledger.db"
    with Ledger.create(path) as ledger:
        ledger.open_account(ACCOUNT, BUDGET)
        for round_ in range(2):
            ledger.commit(book(ledger, round_=round_))
        ledger.cancel(book(ledger))
    return path


def copied(path: Path, folder: Path) -> Path:
    for file in (path, witness_path(path)):
        shutil.copy(file, folder / file.name)
    return folder / path.name


def stored(path: Path, row: int, column: str) -> bytes:
    with closing(sqlite3.connect(path)) as database:
        query = f"SELECT CAST({column} AS BLOB) FROM events WHERE sequence = ?"
        return bytes(database.execute(query, (row,)).fetchone()[0])


@given(st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_change_of_one_byte_is_found_and_its_row_is_named(booked: Path, data: st.DataObject) -> None:
    row = data.draw(st.integers(1, 8))
    column = data.draw(st.sampled_from(["content", "previous", "hash"]))
    value = bytearray(stored(booked, row, column))
    place = data.draw(st.integers(0, len(value) - 1))
    value[place] ^= data.draw(st.integers(1, 255))
    with TemporaryDirectory() as folder:
        path = copied(booked, Path(folder))
        edited(path, row, column, bytes(value))
        with pytest.raises(LedgerError, match=f"row {row} is not"):
            Ledger.open(path)


def test_the_edit_of_the_test_above_is_what_is_found(booked: Path, tmp_path: Path) -> None:
    path = copied(booked, tmp_path)
    edited(path, 3, "content", stored(path, 3, "content"))
    with Ledger.open(path) as ledger:
        assert ledger.verify().sequence == 8


def test_a_row_that_is_dropped_from_the_middle_is_named(booked: Path, tmp_path: Path) -> None:
    path = copied(booked, tmp_path)
    with closing(sqlite3.connect(path)) as database, database:
        sql = database.execute("SELECT sql FROM sqlite_master WHERE name = 'never_deleted'").fetchone()[0]
        database.execute("DROP TRIGGER never_deleted")
        database.execute("DELETE FROM events WHERE sequence = 4")
        database.execute(sql)
    with pytest.raises(LedgerError, match=r"row 4 is not.*the next one found is 5"):
        Ledger.open(path)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET content = '{}' WHERE sequence = 2",
        "DELETE FROM events WHERE sequence = 8",
        "INSERT OR REPLACE INTO events VALUES (8, '{}', '', '')",
        "INSERT INTO events VALUES (20, '{}', '', '')",
    ],
)
def test_the_database_itself_refuses_to_change_a_row(booked: Path, tmp_path: Path, statement: str) -> None:
    path = copied(booked, tmp_path)
    with closing(sqlite3.connect(path)) as database, pytest.raises(sqlite3.IntegrityError, match="only grows"):
        database.execute(statement)
    Ledger.open(path).close()


def test_a_trigger_that_is_gone_is_noticed(booked: Path, tmp_path: Path) -> None:
    path = copied(booked, tmp_path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DROP TRIGGER never_deleted")
    with pytest.raises(LedgerError, match="tables and triggers"):
        Ledger.open(path)


def test_a_well_formed_row_that_says_nonsense_is_named(booked: Path, tmp_path: Path) -> None:
    path = copied(booked, tmp_path)
    with Ledger.open(path) as ledger:
        head = ledger.head
    twice = {"kind": "committed", "recorded": "2026-01-01T00:00:00Z", "reservation": 3}
    for content, reason in ((json.dumps(twice), "does not fit"), ('{"kind":"gift"}', "no entry of")):
        path = copied(booked, tmp_path)
        row = row_after(head, content)
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(
                "INSERT INTO events VALUES (?, ?, ?, ?)", (row.sequence, row.content, row.previous, row.digest)
            )
        with pytest.raises(LedgerError, match=f"row 9 is not.*{reason}"):
            Ledger.open(path)


def test_a_change_while_the_ledger_is_open_is_found_and_frees_no_budget(booked: Path, tmp_path: Path) -> None:
    path = copied(booked, tmp_path)
    with Ledger.open(path) as ledger:
        spent = ledger.spent(ACCOUNT)
        edited(path, 3, "content", stored(path, 3, "content").replace(b"5", b"9"))
        assert ledger.spent(ACCOUNT) == spent
        with pytest.raises(LedgerError, match="row 3 is not"):
            ledger.verify()


def test_the_hash_of_a_row_is_that_of_its_canonical_json(booked: Path) -> None:
    previous = "0" * 64
    with Ledger.open(booked) as ledger:
        for entry in ledger.events():
            row = entry.row
            assert row.previous == previous
            content = json.loads(row.content)
            previous = sha256({"sequence": row.sequence, "content": content, "previous": previous})
            assert row.digest == previous


def test_a_head_that_was_noted_must_be_passed(ledger: Ledger) -> None:
    noted = ledger.head
    book(ledger)
    assert ledger.verify(noted) == ledger.head
    with pytest.raises(LedgerError, match="another history"):
        ledger.verify(Head(noted.sequence, "0" * 64))
    with pytest.raises(LedgerError, match="another history"):
        ledger.verify(Head(99, noted.digest))
    assert START.sequence == 0


# ---- the witness ----


def test_a_ledger_that_was_rolled_back_is_refused(path: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    with Ledger.create(path) as ledger:
        ledger.open_account(ACCOUNT, BUDGET)
    shutil.copy(path, old)
    with Ledger.open(path) as ledger:
        book(ledger)
    shutil.copy(old, path)
    with pytest.raises(LedgerError, match="rolled back, truncated or swapped"):
        Ledger.open(path)


def test_a_ledger_that_was_swapped_for_a_longer_one_is_refused(ledger: Ledger, path: Path, booked: Path) -> None:
    ledger.close()
    shutil.copy(booked, path)
    with pytest.raises(LedgerError, match="another chain"):
        Ledger.open(path)


def test_an_old_witness_is_refused(ledger: Ledger, path: Path) -> None:
    old = witness_path(path).read_bytes()
    book(ledger)
    witness_path(path).write_bytes(old)
    book(ledger)
    witness_path(path).write_bytes(old)
    with pytest.raises(LedgerError, match="the witness is an old one"):
        book(ledger)


def test_entries_that_were_only_in_the_log_are_missed(ledger: Ledger, path: Path, tmp_path: Path) -> None:
    book(ledger)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    whole = copied(path, elsewhere)
    shutil.copy(f"{path}-wal", f"{whole}-wal")
    with Ledger.open(whole) as again:
        assert again.head == ledger.head
    lost = copied(path, elsewhere)
    with pytest.raises(LedgerError, match="must"):
        Ledger.open(lost)


@pytest.mark.parametrize("victim", ["ledger.db", "ledger.db.witness"])
@pytest.mark.parametrize("content", [None, b"", b"SQLite format 3\0 and so on", b"{}"])
def test_a_missing_or_damaged_file_refuses_everything(
    booked: Path, tmp_path: Path, victim: str, content: bytes | None
) -> None:
    path = copied(booked, tmp_path)
    (tmp_path / victim).unlink()
    if content is not None:
        (tmp_path / victim).write_bytes(content)
    with pytest.raises(LedgerError, match="Nothing may be released"):
        Ledger.open(path)
    with pytest.raises(LedgerError, match=r"is there already|must be as it was written"):
        Ledger.create(path)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_database_is_refused(booked: Path, tmp_path: Path, share: float) -> None:
    path = copied(booked, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(LedgerError, match="Nothing may be released"):
        Ledger.open(path)


def test_a_database_replaced_while_it_is_open_is_refused(ledger: Ledger, path: Path, booked: Path) -> None:
    path.unlink()
    with pytest.raises(LedgerError, match="replaced while it was open"):
        book(ledger)
    shutil.copy(booked, path)
    with pytest.raises(LedgerError, match="replaced while it was open"):
        ledger.spent(ACCOUNT)


def test_a_ledger_belongs_to_one_process(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(LedgerError, match="open it anew after a fork"):
        book(ledger)


def test_a_closed_ledger_says_so(ledger: Ledger) -> None:
    ledger.close()
    with pytest.raises(LedgerError, match="not after it is closed"):
        book(ledger)


def test_a_full_disk_refuses_and_what_was_booked_counts(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ledger_file, "write_bytes", full)
        for _ in range(3):
            with pytest.raises(LedgerUnreachableError, match="no space left"):
                book(ledger)
    assert ledger.spent(ACCOUNT).events == 1


def test_a_creation_that_was_cut_off_is_begun_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(part: Path, path: Path) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(ledger_module, "install", killed)
        with pytest.raises(Killed):
            Ledger.create(path)
    with pytest.raises(LedgerError, match=r"ledger\.db is missing"):
        Ledger.open(path)
    Ledger.create(path).close()
    with pytest.raises(LedgerError, match="is there already"):
        Ledger.create(path)


def test_the_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="must exist"):
        Ledger.create(tmp_path / "nowhere" / "ledger.db")


# ---- any order of events ----

ACTIONS = st.lists(
    st.sampled_from(["reserve", "commit", "cancel", "reopen", "killed in reserve", "killed in commit"]), max_size=12
)


@given(ACTIONS)
@settings(max_examples=20, deadline=None, derandomize=True)
def test_no_order_of_bookings_and_kills_reports_too_little(actions: list[str]) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "ledger.db"
        ledger = Ledger.create(path)
        ledger.open_account(ACCOUNT, Budget(100.0, 1e-5, REPLACE))
        open_, owed, spent = list[Reservation](), 0, 0.0
        for action in actions:
            if action == "reserve":
                open_.append(book(ledger))
                owed += 1
            elif action == "commit" and open_:
                ledger.commit(open_.pop())
            elif action == "cancel" and open_:
                ledger.cancel(open_.pop())
                owed -= 1
                spent = 0.0
            elif action == "reopen":
                ledger.close()
                ledger = Ledger.open(path)
            elif action.startswith("killed"):
                with patch.context() as cut:
                    cut.setattr(ledger_file, "write_witness", _killed)
                    with pytest.raises(Killed):
                        book(ledger) if action.endswith("reserve") or not open_ else ledger.commit(open_.pop())
                ledger.close()
                ledger = Ledger.open(path)
            now = ledger.spent(ACCOUNT)
            assert now.events >= owed
            assert now.epsilon >= composed_epsilon({NOISE: owed}, 1e-5, REPLACE) * (1 - 1e-9)
            assert now.epsilon >= spent * (1 - 1e-9)
            owed, spent = now.events, now.epsilon
        ledger.verify()
        numbers = Counter(entry.row.sequence for entry in ledger.events() if isinstance(entry.content, Reserved))
        assert max(numbers.values(), default=1) == 1
        ledger.close()


def _killed(path: Path, head: Head) -> None:
    raise Killed

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.cli.ledger import ledger_app
from medfl.errors import ConfigError
from medfl.governance.ledger import Ledger
from medfl.governance.ledger_errors import LedgerError
from medfl.governance.ledger_events import Account, SubjectSet
from medfl.privacy.composition import Gaussian, NonPrivate

NAMES = ("--data-set", "chest x-ray", "--purpose", "research")
ACCOUNT = Account("chest x-ray", "research")


def medfl_ledger(*arguments: object) -> Result:
    return CliRunner().invoke(ledger_app, [str(argument) for argument in arguments])


def reserve(path: Path, noise: float = 5.0) -> None:
    with Ledger.open(path) as ledger:
        ledger.reserve(
            ACCOUNT, run="r", round=0, release="sum", event=Gaussian(noise), subjects=SubjectSet.of(["a", "b"])
        )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    assert medfl_ledger("create", path).exit_code == 0
    assert medfl_ledger("budget", path, *NAMES, "--epsilon", 8, "--delta", 1e-5).exit_code == 0
    return path


def test_show_says_what_is_allowed_spent_and_pending(path: Path) -> None:
    reserve(path)
    lines = medfl_ledger("show", path).stdout.splitlines()
    assert lines[:4] == [
        "'chest x-ray' for 'research'",
        "  budget: epsilon 8 at delta 1e-05 (replace one subject)",
        "  spent:  epsilon 1.555 at delta 1e-05 (replace one subject), 1 entries",
        "  1 reserved and not committed; they count as spent",
    ]
    assert lines[4].startswith("'chest x-ray', all purposes together: epsilon 1.555")
    assert lines[5].startswith("head 3:")


def test_show_prints_one_json_object_that_restore_takes(path: Path, tmp_path: Path) -> None:
    reserve(path)
    shown = json.loads(medfl_ledger("show", path, "--json").stdout)
    assert shown["accounts"][0]["budget"] == 8.0
    assert shown["accounts"][0]["pending"] == 1
    assert shown["data_sets"][0]["epsilon"] == pytest.approx(shown["accounts"][0]["epsilon"])
    copy = tmp_path / "copy.json"
    copy.write_text(json.dumps(shown))
    path.unlink()
    restored = medfl_ledger("restore", path, "--copy", copy, "--note", "disk lost")
    assert "nothing is lost" in restored.stdout
    again = json.loads(medfl_ledger("show", path, "--json").stdout)
    assert again["accounts"] == shown["accounts"]


def test_verify_takes_a_head_that_was_noted(path: Path) -> None:
    head = json.loads(medfl_ledger("verify", path, "--json").stdout)["head"]
    reserve(path)
    passed = medfl_ledger("verify", path, "--head", head)
    assert "All 3 rows are as they were written." in passed.stdout
    other = medfl_ledger("verify", path, "--head", "2:" + "0" * 64)
    assert isinstance(other.exception, LedgerError)
    assert medfl_ledger("verify", path, "--head", "last week").exit_code == 2


def test_verify_names_what_is_wrong(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])
    assert isinstance(medfl_ledger("verify", path).exception, LedgerError)


def test_more_is_granted_with_a_note_only(path: Path) -> None:
    more = ("budget", path, *NAMES, "--epsilon", 10, "--delta", 1e-5)
    assert isinstance(medfl_ledger(*more).exception, LedgerError)
    granted = medfl_ledger(*more, "--note", "data board, 3 May")
    assert "The budget of 'chest x-ray' for 'research' is epsilon 10" in granted.stdout


def test_no_limit_must_be_said(path: Path) -> None:
    books = ("budget", path, "--data-set", "mri", "--purpose", "features", "--delta", 1e-5)
    assert medfl_ledger(*books).exit_code == 2
    assert medfl_ledger(*books, "--no-limit", "--epsilon", 1).exit_code == 2
    assert "without a limit" in medfl_ledger(*books, "--no-limit").stdout
    with Ledger.open(path) as ledger:
        mri = Account("mri", "features")
        ledger.reserve(mri, run="r", round=0, release="f", event=NonPrivate(), subjects=SubjectSet.of(["a"]))
    shown = json.loads(medfl_ledger("show", path, "--json").stdout)
    assert shown["accounts"][1]["epsilon"] == "Infinity"


def test_restore_charges_the_accounts_of_a_file(path: Path, tmp_path: Path) -> None:
    accounts = tmp_path / "accounts.yaml"
    accounts.write_text(
        "- {data_set: chest x-ray, purpose: research, epsilon: 8, delta: 1.0e-5, adjacency: replace}\n"
        "- {data_set: mri, purpose: research, epsilon: null, delta: 1.0e-5, adjacency: add-remove}\n"
    )
    path.unlink()
    restored = medfl_ledger("restore", path, "--accounts", accounts, "--note", "disk lost")
    assert "charged in full" in restored.stdout
    assert [one["epsilon"] for one in json.loads(medfl_ledger("show", path, "--json").stdout)["accounts"]] == [
        8.0,
        "Infinity",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "nothing",
        "- {data_set: a}",
        "- {data_set: a, purpose: b, epsilon: many, delta: 1.0e-5, adjacency: replace}",
        "- {data_set: a, purpose: b, epsilon: 1, delta: 1.0e-5, adjacency: image}",
        "- {data_set: a, purpose: b, epsilon: -1, delta: 1.0e-5, adjacency: replace}",
        2 * "- {data_set: a, purpose: b, epsilon: 1, delta: 1.0e-5, adjacency: replace}\n",
        "- {",
    ],
)
def test_a_file_of_accounts_that_cannot_be_read_is_refused(path: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "accounts.yaml").write_text(text)
    path.unlink()
    refused = medfl_ledger("restore", path, "--accounts", tmp_path / "accounts.yaml", "--note", "disk lost")
    assert isinstance(refused.exception, ConfigError)
    assert not path.exists()

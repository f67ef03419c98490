import stat
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from medfl.errors import DataError
from medfl.governance.exclude_list import ExcludeList
from medfl.governance.withdrawal import affected_runs
from medfl.results.store import RunStore

NOW = datetime(2027, 1, 5, 12, tzinfo=UTC)


def test_a_subject_is_excluded_for_good(tmp_path: Path) -> None:
    listed = ExcludeList(tmp_path)
    assert listed.subjects() == frozenset()
    first = listed.add("p-7", "Jo Admin", NOW)
    again = listed.add("p-7", "Jo Admin", NOW)
    assert (first.is_new, again.is_new, first.digest) == (True, False, again.digest)
    assert listed.add("p-8", "Jo Admin", NOW).digest != first.digest
    assert ExcludeList(tmp_path).subjects() == {"p-7", "p-8"}
    assert stat.S_IMODE((tmp_path / "exclude.json").stat().st_mode) == 0o600
    assert "p-7" not in first.digest


def test_two_sites_give_one_subject_two_digests(tmp_path: Path) -> None:
    digests = set()
    for name in ("north", "south"):
        (tmp_path / name).mkdir()
        digests.add(ExcludeList(tmp_path / name).add("p-7", "Jo Admin", NOW).digest)
    assert len(digests) == 2


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"schema": "medfl/exclude/2"}', "p-7\n"])
def test_a_list_that_cannot_be_read_stops_everything(tmp_path: Path, content: str) -> None:
    (tmp_path / "exclude.json").write_text(content)
    for act in (ExcludeList(tmp_path).subjects, lambda: ExcludeList(tmp_path).add("p-7", "Jo", NOW)):
        with pytest.raises(DataError, match="nothing is computed"):
            act()
    assert (tmp_path / "exclude.json").read_text() == content


@pytest.mark.parametrize(("subject", "by"), [("", "Jo"), ("p" * 201, "Jo"), ("p-7", ""), ("p-7", "a/b")])
def test_a_withdrawal_needs_a_pseudonym_and_a_name(tmp_path: Path, subject: str, by: str) -> None:
    with pytest.raises(DataError, match="pseudonym and the name"):
        ExcludeList(tmp_path).add(subject, by, NOW)
    assert not (tmp_path / "exclude.json").exists()


def test_runs_that_a_subject_was_part_of_are_found(tmp_path: Path) -> None:
    array = {"weight": np.zeros(2, dtype=np.float32)}
    for name, members in (("trained-1", ("p-7", "p-8")), ("other-2", ("p-8",)), ("judged-3", ("p-8",)), ("bare-4", ())):
        store = RunStore(tmp_path / name)
        store.write_settings("name: x\n", {"sha256": "ab" * 32})
        if members:
            store.write_release("north", "round-0001", array, members)
    RunStore(tmp_path / "judged-3").write_release("north", "measures-test", array, ("p-7",))
    (tmp_path / "damaged-5").mkdir()
    (tmp_path / "damaged-5" / "config.yaml").write_text("name: x\n")
    found = affected_runs(tmp_path, "p-7")
    assert [(run.name, run.releases, run.in_training) for run in found.runs] == [
        ("judged-3", ("measures-test",), False),
        ("trained-1", ("round-0001",), True),
    ]
    assert found.runs[0].plan == "ab" * 32
    assert found.unknown == ("bare-4", "damaged-5")
    assert affected_runs(tmp_path / "missing", "p-7").runs == ()

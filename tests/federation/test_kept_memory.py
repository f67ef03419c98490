"""A round that is asked for again starts from where it started the first time."""

from pathlib import Path

from medfl.federation.kept_memory import KeptMemory


def test_a_round_starts_from_what_the_rounds_before_it_left(tmp_path: Path) -> None:
    memory = KeptMemory(tmp_path / "memory")
    assert memory.before(1) == b""
    memory.keep(1, b"one")
    memory.keep(2, b"two")
    assert (memory.before(1), memory.before(2), memory.before(3), memory.after(2)) == (b"", b"one", b"two", b"two")
    memory.keep(2, b"two again")
    assert KeptMemory(tmp_path / "memory").before(3) == b"two again"


def test_a_round_that_was_missed_takes_the_last_one_before(tmp_path: Path) -> None:
    memory = KeptMemory(tmp_path)
    memory.keep(0, b"start")
    memory.keep(4, b"four")
    assert (memory.before(3), memory.before(9)) == (b"start", b"four")


def test_old_rounds_do_not_pile_up(tmp_path: Path) -> None:
    memory = KeptMemory(tmp_path)
    for number in range(1, 11):
        memory.keep(number, b"x")
    assert len(list(tmp_path.iterdir())) == 3

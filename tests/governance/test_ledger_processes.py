"""Real processes: killed while they write, and spending one budget at once."""

from pathlib import Path

import pytest

from benchmarks.ledger import spend_at_once, survive
from medfl.privacy.composition import Gaussian

pytestmark = pytest.mark.slow


def test_fifty_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    found = survive(tmp_path, kills=50, seed=0)
    assert (found.lost, found.doubled) == (0, 0)
    assert found.acknowledged > 50
    assert found.unacknowledged <= found.kills
    assert found.rows == 2 + found.acknowledged + found.unacknowledged


def test_eight_processes_at_once_never_spend_more_than_the_budget(tmp_path: Path) -> None:
    found = spend_at_once(tmp_path, processes=8, budget=6.0, event=Gaussian(6.0))
    assert found.spent <= found.budget < found.one_more
    assert found.booked == found.acknowledged
    assert found.booked > 8

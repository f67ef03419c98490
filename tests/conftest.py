"""What every test may ask for."""

import os
from pathlib import Path

import pytest


def skip_or_fail(reason: str) -> None:
    """Skip with the reason; fail instead where the environment promised that everything is there."""
    if os.environ.get("MEDFL_REQUIRE_ALL") == "1":
        pytest.fail(f"MEDFL_REQUIRE_ALL=1, yet: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data sets."""
    folder = os.environ.get("MEDFL_DATA")
    if not folder or not Path(folder).is_dir():
        skip_or_fail("MEDFL_DATA does not name the folder with the real data sets")
    return Path(str(folder)).resolve()

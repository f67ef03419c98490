"""What every test may ask for."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # networks here are tiny; a second thread would only wait


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


@pytest.fixture(scope="session")
def require() -> Callable[[bool, str], None]:
    """Return a check for what a test needs: (is it there, else the reason to skip)."""

    def check(there: bool, reason: str) -> None:
        if not there:
            skip_or_fail(reason)

    return check


@pytest.fixture(autouse=True)
def _main_module_is_put_back() -> Iterator[None]:
    """Put `__main__` back after each test.

    Streamlit's AppTest leaves the page it ran there, and every process that a later test spawns would start by
    running that page.
    """
    before = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = before

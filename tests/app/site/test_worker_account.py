import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from app.site.init import init_site
from app.site.settings import load_settings
from app.site.withdrawing import withdraw
from app.site.worker_account import prepare_worker_account

USER = 12345
_PROBE = """
import os, sys
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
for path in sys.argv[2:]:
    try:
        if os.path.isdir(path):
            open(os.path.join(path, "new"), "w").close()
        else:
            open(path).read()
    except OSError:
        print("no", os.path.basename(path))
    else:
        print("yes", os.path.basename(path))
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    for folder in (tmp_path, *tmp_path.parents[:3]):
        if folder != Path("/tmp"):
            folder.chmod(0o755)
    state = tmp_path / "state"
    init_site(state, name="north", manifest=tmp_path / "manifest.csv", hub="", by="Jo Admin", now=datetime.now(UTC))
    text = yaml.safe_load((state / "site.yaml").read_text())
    (state / "site.yaml").write_text(yaml.safe_dump(text | {"worker": {"user": USER}}))
    return state


def can(*paths: Path) -> dict[str, bool]:
    """Return what the worker's account can read (files) and write into (folders)."""
    command = [sys.executable, "-c", _PROBE, str(USER), *map(str, paths)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {line.split()[1]: line.startswith("yes") for line in said.splitlines()}


def test_another_account_reads_who_withdrew_and_writes_runs_and_nothing_else(
    state: Path, require: Callable[[bool, str], None]
) -> None:
    require(os.geteuid() == 0, "only root can change accounts")
    withdraw("p-1", state, by="Jo Admin", now=datetime.now(UTC), is_expected=False)
    (state / "runs" / "old").mkdir()
    prepare_worker_account(load_settings(state))
    withdraw("p-2", state, by="Jo Admin", now=datetime.now(UTC), is_expected=False)
    writable = [
        state / "runs",
        state / "runs" / "old",
        state / "cache",
        state / "keys" / "transforms",
        state / "ledger",
    ]
    closed = [state, state / "approvals", state / "secrets", state / "keys", state / "run"]
    files = [state / "keys" / "site_key", state / "audit.jsonl", state / "secrets" / "superexec", state / "site.yaml"]
    found = can(*writable, *closed, state / "exclude.json", *files)
    expected = {path.name: True for path in (*writable, state / "exclude.json")}
    assert found == expected | {path.name: False for path in (*closed, *files)}


def test_without_an_account_of_its_own_nothing_is_opened(state: Path) -> None:
    text = yaml.safe_load((state / "site.yaml").read_text())
    (state / "site.yaml").write_text(yaml.safe_dump(text | {"worker": {"user": 0}}))
    withdraw("p-1", state, by="Jo Admin", now=datetime.now(UTC), is_expected=False)
    prepare_worker_account(load_settings(state))
    for path in (state, state / "run", state / "keys", state / "runs", state / "exclude.json"):
        assert path.stat().st_mode & 0o077 == 0

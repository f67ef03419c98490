"""A worker that gives up files must not get at them again, and must still be able to work."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from medfl.errors import ConfigError
from medfl.federation.file_lock import lock_files

_CODE = """
import json, os, subprocess, sys
from pathlib import Path
from medfl.federation.file_lock import lock_files
root = Path(sys.argv[1])
lock_files([root / "secret", root / "approvals"], [root / "runs"])

def tried(path, mode):
    try:
        with open(root / path, mode) as file:
            if mode == "r":
                file.read()
        return True
    except OSError:
        return False

child = f"open({str(root / 'secret')!r})"
print(json.dumps({
    "secret": tried("secret", "r"), "secret w": tried("secret", "w"), "approval": tried("approvals/a.json", "r"),
    "approval w": tried("approvals/b.json", "w"), "link": tried("runs/link", "r"), "data": tried("data.csv", "r"),
    "data w": tried("data.csv", "w"), "new": tried("new", "w"),
    "run": tried("runs/x", "w"), "run r": tried("runs/x", "r"),
    "child": subprocess.run([sys.executable, "-c", child], capture_output=True).returncode == 0,
}))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "approvals").mkdir()
    (tmp_path / "runs").mkdir()
    for name in ("secret", "approvals/a.json", "data.csv"):
        (tmp_path / name).write_text("x")
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "secret")
    return tmp_path


def test_hidden_files_stay_closed_and_only_named_folders_can_be_written(
    root: Path, require: Callable[[bool, str], None]
) -> None:
    done = subprocess.run([sys.executable, "-c", _CODE, str(root)], capture_output=True, text=True, check=False)
    require("Landlock" not in done.stderr, "this kernel has no Landlock")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {name for name, worked in found.items() if worked} == {"data", "run", "run r"}


def test_a_writable_folder_must_not_hold_a_secret(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"must not hold|Landlock"):
        lock_files([root / "runs" / "key"], [root / "runs"])

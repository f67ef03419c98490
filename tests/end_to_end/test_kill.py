"""A process that is killed at any moment leaves a readable run folder, and the run can go on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medfl.results.store import RunStore
from tests.app.conftest import TINY

ROUNDS = 6


def _command(config: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-c", "from app.cli.main import main; main()", "run", str(config), "--out", str(out), *more]


@pytest.mark.slow
def test_a_killed_run_is_readable_and_resumes_to_the_same_model(tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(TINY.replace("rounds: 3", f"rounds: {ROUNDS}"))
    environment = {**os.environ, "MEDFL_CACHE": str(tmp_path / "cache")}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(_command(config, whole), env=environment, check=True, capture_output=True, timeout=240)
    process = subprocess.Popen(_command(config, killed), env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (killed / "checkpoint.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    store = RunStore(killed)
    checkpoint = store.read_checkpoint()
    assert checkpoint is not None
    assert len(store.read_history().rounds) >= checkpoint.round
    assert not [path for path in killed.rglob("*.json") if not json.loads(path.read_text())]
    subprocess.run(_command(config, killed, "--resume"), env=environment, check=True, capture_output=True, timeout=240)
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert len(store.read_history().rounds) == ROUNDS

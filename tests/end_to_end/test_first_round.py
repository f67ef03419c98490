"""`docs/first-round.md`, typed as it stands."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .flower_processes import free_port, missing_programs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_ROOT = Path(__file__).parents[2]
_PORT = "8443"


@pytest.fixture
def folder(require: Callable[[bool, str], None]) -> Iterator[Path]:
    missing = missing_programs()
    require(not missing, f"Flower's programs are not installed: {', '.join(missing)}")
    made = Path(tempfile.mkdtemp(prefix="medfl-"))
    shutil.copytree(_ROOT / "configs", made / "configs")
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _commands() -> list[tuple[list[str], bool]]:
    """Return the guide's commands, and whether each keeps running."""
    found = []
    text = (_ROOT / "docs" / "first-round.md").read_text()
    for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL):
        for line in block.splitlines():
            command, _, remark = line.partition("#")
            found.append((shlex.split(command), "keeps running" in remark))
    return found


def test_the_guide_leads_to_a_finished_run(folder: Path) -> None:
    known = {"FINGERPRINT": "", "HASH": "", _PORT: str(free_port())}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    running: list[subprocess.Popen[bytes]] = []
    printed: dict[str, str] = {}
    try:
        for words, keeps_running in _commands():
            command = [known.get(word, word) for word in words]
            if keeps_running:
                log = folder / f"{'-'.join(words[1:])}.out"
                with log.open("wb") as out:
                    running.append(
                        subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT)
                    )
                _wait_for(log, "runs")
                continue
            if words[1:3] == ["hub", "submit"]:
                _wait_until_connected(folder, environment)
            ran = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400, check=False
            )
            assert ran.returncode == 0, f"{' '.join(words)}\n{ran.stdout}\n{ran.stderr}"
            printed[" ".join(words[1:4])] = ran.stdout + ran.stderr
            for name, pattern in (("FINGERPRINT", r"^([0-9a-f]{64})$"), ("HASH", r"^sha256 ([0-9a-f]{64})$")):
                match = re.search(pattern, ran.stdout, flags=re.MULTILINE)
                if match and not known[name]:
                    known[name] = match[1]
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            process.wait(60)

    assert "round 3 of 3: 2 of 2 sites" in printed["hub submit hub"]
    assert "connected" in printed["hub status hub"] or "never seen" in printed["hub status hub"]
    assert list(folder.glob("hub/runs/phantom-*/metrics.json"))
    assert list(folder.glob("north/runs/*/cases*"))
    assert not list(folder.glob("hub/runs/phantom-*/cases*"))


def _wait_for(log: Path, word: str) -> None:
    deadline = time.monotonic() + 120
    while word not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def _wait_until_connected(folder: Path, environment: dict[str, str]) -> None:
    deadline = time.monotonic() + 120
    while True:
        ran = subprocess.run(
            ["medfl", "hub", "status", "hub"], cwd=folder, env=environment, capture_output=True, text=True, check=True
        )
        if ran.stdout.count(": connected") == 2:
            return
        assert time.monotonic() < deadline, ran.stdout
        time.sleep(0.5)

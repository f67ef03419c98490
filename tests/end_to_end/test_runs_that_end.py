"""A run that the operator cancels, whose process is killed, or whose disk is full goes on to the same model."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from medfl.data.manifest import Manifest
from medfl.results.store import RunStore

from .federation import Federation, federation, rounds_of
from .flower_processes import missing_programs
from .run_folders import assert_same_run, files_of
from .three_sites import SITES, config_of, plan_of, simulated

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_MEBIBYTE = 2**20


def run_facts(lent: Federation) -> dict[str, str]:
    found = json.loads(lent.medfl("hub", "status", lent.hub, "--json").splitlines()[-1])
    (one,) = found["runs"]
    return one


def all_replied(store: RunStore) -> bool:
    return all(not site.refused for record in rounds_of(store) for site in record.sites)


def fill(ballast: Path) -> None:
    """Write until nothing more fits."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def kill_run(lent: Federation) -> None:
    """Kill the process in which the hub's part of a run goes on."""
    (number,) = [number for number in lent.alive() if b"flwr-serverapp" in Path(f"/proc/{number}/cmdline").read_bytes()]
    os.kill(number, signal.SIGKILL)


def test_a_run_that_is_cancelled_and_then_killed_comes_to_the_same_when_it_is_submitted_again(
    joined: Federation, patients: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDFL_CACHE", str(tmp_path / "cache"))
    config = config_of(patients, "cancelled", strategy="scaffold", every=2, rounds=8)
    plan = plan_of(config, joined)
    store = joined.submit(plan)
    joined.wait_for_round(store, 2)
    joined.medfl("hub", "cancel", joined.hub, store.folder.name)
    facts = run_facts(joined)
    assert facts["state"] == "stopped"
    assert "cancelled" in facts["reason"]
    assert len(rounds_of(store)) < 8
    joined.submit(plan)
    joined.wait_for_round(store, 4)
    kill_run(joined)
    joined.wait_for(lambda: run_facts(joined)["state"] == "stopped", "the hub to notice")
    assert "without a word" in run_facts(joined)["reason"]
    joined.submit(plan)
    joined.wait_for_end(store)
    joined.stop()

    assert all_replied(store), joined.logs()
    found = files_of(*(run for name in SITES for run in (joined.site(name) / "runs").glob("cancelled-*")), store.folder)
    assert_same_run(found, files_of(simulated(config, tmp_path / "undisturbed")))


@pytest.fixture
def on_a_small_disk(patients: Manifest, require: Callable[[bool, str], None]) -> Iterator[Federation]:
    """A hub whose folder has a disk of its own, and three sites that are connected."""
    missing = missing_programs()
    require(not missing, f"Flower's programs are not installed: {', '.join(missing)}")
    with federation() as lent:
        lent.hub.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", "size=48m,mode=0700", "none", str(lent.hub)]
        made = subprocess.run(words, check=False, capture_output=True).returncode == 0
        require(made, "a small disk cannot be mounted here")
        try:
            lent.bring_together(patients, *SITES)
            yield lent
        finally:
            lent.stop()
            subprocess.run(["umount", str(lent.hub)], check=False)


def test_a_full_disk_at_the_hub_stops_the_run_and_nothing_else(
    on_a_small_disk: Federation, patients: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent = on_a_small_disk
    monkeypatch.setenv("MEDFL_CACHE", str(tmp_path / "cache"))
    config = config_of(patients, "full", rounds=8)
    plan = plan_of(config, lent)
    store = lent.submit(plan)
    lent.wait_for_round(store, 2)
    ballast = lent.hub / "ballast"
    fill(ballast)
    lent.wait_for(lambda: run_facts(lent)["state"] == "stopped", "the run to stop")
    assert "disk must have room" in run_facts(lent)["reason"], lent.logs()
    ballast.unlink()
    lent.submit(plan)
    lent.wait_for_end(store)
    lent.stop()

    expected = simulated(config, tmp_path / "undisturbed")
    assert (store.folder / "model.safetensors").read_bytes() == (expected / "model.safetensors").read_bytes()
    assert all_replied(store), lent.logs()

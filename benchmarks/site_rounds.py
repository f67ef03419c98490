"""Seconds from asking for a run to the end of round 1, and per round, with three sites on loopback.

Three ways to run the very same federation of made-up patients: `medfl` (hub and sites as the guides start them: TLS,
keys, approved plan, warm workers), `stock` (Flower's SuperLink, SuperNodes and grid as they come, without TLS, running
the same two apps: a fresh Python process for every message), `loopback` (one process). Two settings: training only,
and with a validation after every round, which travels with the next round's training; after the last round it is a
message of its own, except in one process, where every validation is. The first round has the start of the
hub's program, of each site's worker and the preparation of the images in it; rounds after it are *steady*. Everything
runs on this machine, so its cores are shared by hub and sites.

    python benchmarks/site_rounds.py --out site_rounds.json
"""

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from medfl.config.reading import dump_config, parse_config
from medfl.config.settings import Config
from medfl.data.manifest import Manifest, write_manifest
from medfl.data.phantoms import make_phantoms
from medfl.results.store import RunStore
from pipelines.run_config import HubSettings, run_config_toml
from pipelines.simulate import simulate

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
SITES = ("site-1", "site-2", "site-3")
WAYS = ("medfl", "stock", "loopback")
PATIENCE_S = 900.0
CONFIG = """
name: rounds
seed: 3
task: {{kind: segmentation, dimensions: 2, classes: {{structure-a: 1, structure-b: 2}}, patch: [32, 32]}}
data:
  source: {{kind: manifest, path: '{manifest}'}}
  sites: {{kind: column}}
  split: {{train: 0.5, validation: 0.2, test: 0.3}}
network: {{kind: unet, channels: [8, 16, 32], strides: [2, 2], residual_units: 1, features: 8}}
training: {{rounds: {rounds}, batch_size: 4, learning_rate: 0.01}}
federation: {{minimum_replies: 3, join_timeout_s: 300, round_timeout_s: 300}}
evaluation: {{every: {every}, minimum_subjects: 5, uncertainty_passes: 1}}
compute: {{threads: 1, device: cpu}}
"""


class Programs:
    """Processes that are ended at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        self.environment = kept | {
            "OMP_NUM_THREADS": "1",
            "FLWR_HOME": str(folder / "flwr"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "MEDFL_CACHE": str(folder / "cache"),
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
        }
        (folder / "flwr").mkdir()

    def start(self, name: str, *words: str | Path) -> Path:
        """Start a program; returns its log."""
        log = self.folder / f"{name}.out"
        with log.open("wb") as out:
            self.started.append(
                subprocess.Popen(
                    [str(BIN / words[0]), *map(str, words[1:])],
                    env=self.environment,
                    cwd=self.folder,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
        return log

    def run(self, *words: str | Path) -> str:
        """Run a program to its end."""
        command = [str(BIN / words[0]), *map(str, words[1:])]
        ran = subprocess.run(
            command,
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        if ran.returncode:
            raise SystemExit(f"{' '.join(map(str, words))} ended with {ran.returncode}:\n{ran.stdout}\n{ran.stderr}")
        return ran.stdout

    def stop(self) -> None:
        """End everything."""
        for process in reversed(self.started):
            process.terminate()
        for process in self.started:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def programs() -> Iterator[Programs]:
    """Lend a folder and programs in it."""
    folder = Path(tempfile.mkdtemp(prefix="medfl-"))
    made = Programs(folder)
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


def medfl_seconds(config: Config, manifest: Manifest) -> dict[str, Any]:
    """Run hub and sites as the guides do; the clock starts with `medfl hub submit`."""
    with programs() as at:
        hub, port = at.folder / "hub", free_port()
        made = at.run(
            "medfl", "hub", "init", hub, "--name", "trial", "--host", "localhost", "--port", str(port), "--json"
        )
        fingerprint = json.loads(made)["fingerprint"]
        (at.folder / "run.yaml").write_text(yaml_of(config))
        created = at.run(
            "medfl", "plan", "create", "run.yaml", "--out", "plan.json", "--sites", ",".join(SITES), "--expires",
            "2099-12-31", "--protocol", "x", "--legal-basis", "x", "--purpose", "x", "--contact", "x", "--json",
        )  # fmt: skip
        digest = json.loads(created)["sha256"]
        for site in SITES:
            own = site_manifest(manifest, site, at.folder / f"data-{site}")
            at.run("medfl", "site", "init", site, "--name", site, "--manifest", own, "--by", "Jo")
            at.run("medfl", "hub", "enroll", hub, f"{site}/enrolment-request.json", "--out", f"{site}.json")
            at.run("medfl", "site", "enroll", site, f"{site}.json", "--fingerprint", fingerprint, "--by", "Jo")
            at.run("medfl", "plan", "approve", "plan.json", "--site", site, "--by", "Jo", "--sha256", digest)
        log = at.start("hub", "medfl", "hub", "start", hub)
        wait_for(lambda: "runs at" in log.read_text(), log)
        for site in SITES:
            at.start(site, "medfl", "site", "run", site)
        wait_for(lambda: at.run("medfl", "hub", "status", hub).count(": connected") == len(SITES), log)
        started = time.perf_counter()
        out = Path(json.loads(at.run("medfl", "hub", "submit", hub, "plan.json", "--json").splitlines()[-1])["folder"])
        return measured(RunStore(out), started, log)


def stock_seconds(config: Config, manifest: Manifest) -> dict[str, Any]:
    """Run the same two apps behind Flower as it comes; the clock starts with `flwr run`."""
    with programs() as at:
        app, port = at.folder / "app", free_port()
        app.mkdir()
        shutil.copy(ROOT / "pyproject.toml", app)
        for house in ("medfl", "pipelines"):
            shutil.copytree(ROOT / house, app / house, ignore=shutil.ignore_patterns("__pycache__"))
        server = app / "pipelines" / "server_app.py"
        text = server.read_text()
        if "serve(PollingGrid(grid)," not in text:
            raise SystemExit("The server app no longer wraps Flower's grid as this script expects.")
        server.write_text(text.replace("serve(PollingGrid(grid),", "serve(grid,"))
        (at.folder / "flwr" / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
        )
        log = at.start("superlink", "flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(port))
        wait_for(lambda: is_open(port), log)
        for site in SITES:
            own = site_manifest(manifest, site, at.folder / f"data-{site}")
            node = f'site="{site}" manifest="{own}" state="{at.folder / site}"'
            words = (
                "--insecure",
                "--superlink",
                f"127.0.0.1:{port}",
                "--host",
                "127.0.0.1",
                "--port",
                str(free_port()),
            )
            at.start(site, "flower-supernode", *words, "--node-config", node)
        wait_for(lambda: at.run("flwr", "supernode", "list", "here").count("online") >= len(SITES), log)
        store = RunStore(at.folder / "run")
        (at.folder / "run.toml").write_text(run_config_toml(HubSettings(config, store.folder, len(SITES))))
        started = time.perf_counter()
        at.run("flwr", "run", app, "here", "--run-config", at.folder / "run.toml")
        return measured(store, started, log)


def loopback_seconds(config: Config, _manifest: Manifest) -> dict[str, Any]:
    """Run the same in this process."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MEDFL_CACHE"] = str(Path(folder) / "cache")
        store, started = RunStore(Path(folder) / "run"), time.perf_counter()
        simulate(config, store.folder)
        seconds = [record.seconds for record in store.read_history().rounds]
        whole = time.perf_counter() - started
        return {"first_s": None, "whole_s": whole, "rounds_s": seconds, "steady_s": statistics.median(seconds[1:])}


def measured(store: RunStore, started: float, log: Path) -> dict[str, Any]:
    """Wait for the first round and for the end; look at the history."""
    wait_for(lambda: store.has_history() and bool(store.read_history().rounds), log, step_s=0.02)
    first = time.perf_counter() - started
    wait_for(store.is_finished, log)
    whole = time.perf_counter() - started
    rounds = store.read_history().rounds
    if any(site.refused for record in rounds for site in record.sites):
        raise SystemExit(f"A site missed a round: {rounds}")
    seconds = [record.seconds for record in rounds]
    return {"first_s": first, "whole_s": whole, "rounds_s": seconds, "steady_s": statistics.median(seconds[1:])}


def site_manifest(manifest: Manifest, site: str, folder: Path) -> Path:
    """Write the manifest of one site; the images stay where they are."""
    folder.mkdir()
    rows = tuple(replace(row, site="") for row in manifest.where(site=site).rows)
    write_manifest(replace(manifest, rows=rows), folder / "manifest.csv")
    return folder / "manifest.csv"


def yaml_of(config: Config) -> str:
    """Return the settings as they stand in a file."""
    return dump_config(config)


def wait_for(is_so: Callable[[], bool], log: Path, *, step_s: float = 0.2) -> None:
    """Wait; show the log of what did not come."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline:
            raise SystemExit(log.read_text()[-4000:])
        time.sleep(step_s)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def is_open(port: int) -> bool:
    """Tell whether somebody listens."""
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every way, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--ways", default=",".join(WAYS))
    options = parser.parse_args(arguments)
    run_of = {"medfl": medfl_seconds, "stock": stock_seconds, "loopback": loopback_seconds}
    found: list[dict[str, Any]] = []
    print(f"{'way':10} {'messages':22} {'to end of round 1':>18} {'steady round':>13} {'whole run':>10}")
    with tempfile.TemporaryDirectory() as patients:
        made = make_phantoms(Path(patients), dimensions=2, subjects=66, visits=1, sites=len(SITES), seed=3)
        manifest = replace(made, rows=tuple(replace(row, split="") for row in made.rows))
        write_manifest(manifest, Path(patients) / "manifest.csv")
        for every, label in ((0, "train"), (1, "train and validate")):
            text = CONFIG.format(manifest=Path(patients) / "manifest.csv", rounds=options.rounds, every=every)
            for way in options.ways.split(","):
                result = run_of[way](parse_config(text), manifest)
                found.append({"way": way, "messages": label, "load": os.getloadavg()[0]} | result)
                first = "-" if result["first_s"] is None else f"{result['first_s']:.1f} s"
                print(
                    f"{way:10} {label:22} {first:>18} {result['steady_s']:>11.2f} s {result['whole_s']:>8.1f} s",
                    flush=True,
                )
    if options.out:
        cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
        machine = {"cpu": cpu[1] if cpu else platform.processor(), "cores": os.cpu_count()}
        options.out.write_text(
            json.dumps({"date": datetime.date.today().isoformat(), "machine": machine, "results": found}, indent=1)
        )


if __name__ == "__main__":
    main()

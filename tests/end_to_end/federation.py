"""A hub and its sites as an operator and administrators start them: the command line, TLS, keys, approved plans."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from app.supervision.running import read_running
from medfl.data.manifest import Manifest, write_manifest
from medfl.results.history import RoundRecord
from medfl.results.store import RunStore

from .flower_processes import free_port

_START_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 60


class Federation:
    """A hub on loopback, and sites with their own data.

    Parameters
    ----------
    folder : Path
        New; everything lies in it.
    inside : sequence of str
        Stands before every command, such as ``ip netns exec NAME``.
    """

    def __init__(self, folder: Path, inside: Sequence[str] = ()) -> None:
        self._inside = tuple(inside)
        self.folder, self.hub, self.port = folder, folder / "hub", free_port()
        self.fingerprint = ""
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        self._environment: Mapping[str, str] = kept | {"OMP_NUM_THREADS": "1"}

    def medfl(self, *words: str | Path, timeout_s: float = 120, code: int = 0) -> str:
        """Run a command to its end; returns what it printed on both outputs."""
        ran = subprocess.run(
            self._command(*words),
            env=self._environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert ran.returncode == code, f"{' '.join(map(str, words))}\n{ran.stdout}\n{self.logs()}"
        return ran.stdout

    def make_hub(self, host: str = "localhost") -> None:
        """Make the hub's folder."""
        made = self.medfl(
            "hub", "init", self.hub, "--name", "trial", "--host", host, "--port", str(self.port), "--json"
        )
        self.fingerprint = json.loads(made)["fingerprint"]

    def make_site(self, name: str, manifest: Manifest) -> Path:
        """Make a site with its rows of a manifest, and enroll it; returns its folder."""
        data, state, answer = self.folder / f"data-{name}", self.site(name), self.folder / f"answer-{name}.json"
        data.mkdir()
        rows = tuple(replace(row, site="") for row in manifest.where(site=name).rows)
        write_manifest(replace(manifest, rows=rows), data / "manifest.csv")
        self.medfl("site", "init", state, "--name", name, "--manifest", data / "manifest.csv", "--by", "Jo Admin")
        self.medfl("hub", "enroll", self.hub, state / "enrolment-request.json", "--out", answer)
        self.medfl("site", "enroll", state, answer, "--fingerprint", self.fingerprint, "--by", "Jo Admin")
        return state

    def bring_together(self, manifest: Manifest, *names: str) -> None:
        """Make and start a hub and sites; returns when all are connected."""
        self.make_hub()
        for name in names:
            self.make_site(name, manifest)
        self.start_hub()
        for name in names:
            self.start_site(name)
        self.wait_for_sites(*names)

    def site(self, name: str) -> Path:
        """Folder of a site."""
        return self.folder / name

    def start_hub(self) -> None:
        """Start the hub and wait until its door answers."""
        self._start("hub", "hub", "start", self.hub)
        self.wait_for(lambda: "runs at" in self._said("hub"), "the hub")

    def start(self, name: str, *words: str | Path) -> None:
        """Start any other command that keeps running."""
        self._start(name, *words)

    def start_site(self, name: str) -> None:
        """Start a site; returns at once."""
        self._start(name, "site", "run", self.site(name))

    def wait_for_sites(self, *names: str) -> None:
        """Return when the hub says that all are connected."""

        def connected() -> bool:
            found = json.loads(self.medfl("hub", "status", self.hub, "--json").splitlines()[-1])
            return {one["site"] for one in found["sites"] if one["status"] == "connected"} >= set(names)

        self.wait_for(connected, "sites")

    def approve(self, plan: Path, digest: str, *names: str) -> None:
        """Approve a plan at sites."""
        for name in names:
            self.medfl("plan", "approve", plan, "--site", self.site(name), "--by", "Jo Admin", "--sha256", digest)

    def submit(self, plan: Path) -> RunStore:
        """Start a run; returns the hub's run folder."""
        facts = json.loads(self.medfl("hub", "submit", self.hub, plan, "--json").splitlines()[-1])
        return RunStore(Path(facts["folder"]))

    def wait_for_end(self, store: RunStore, timeout_s: float = 300) -> None:
        """Return when a run has finished."""
        self.wait_for(lambda: store.is_finished() or bool(store.read_stopped()), "the run", timeout_s)
        assert store.is_finished(), f"{store.read_stopped()}\n{self.logs()}"

    def wait_for_round(self, store: RunStore, number: int) -> None:
        """Return when a round has ended."""
        self.wait_for(lambda: len(rounds_of(store)) >= number, f"round {number}")

    def kill(self, name: str) -> None:
        """Kill the hub's or a site's supervisor, as a power cut or the kernel would."""
        process = self._processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def kill_program(self, state: Path, name: str) -> None:
        """Kill one of the programs that a hub or a site keeps running."""
        running = read_running(state)
        assert running is not None
        (number,) = [one.number for one in running.programs if one.name == name]
        assert number is not None
        os.kill(number, signal.SIGKILL)

    def stop(self) -> None:
        """Ask everything to end, then end what is left."""
        processes = list(self._processes.values())
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        for number in self.alive():
            os.kill(number, signal.SIGKILL)

    def alive(self) -> list[int]:
        """Return the processes that have to do with this folder."""
        mark, found = str(self.folder).encode(), []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    text = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if mark in text:
                    found.append(int(entry.name))
        return found

    def wait_for(self, is_so: Callable[[], bool], what: str, timeout_s: float = _START_TIMEOUT_S) -> None:
        """Wait for something; every process must live meanwhile."""
        deadline = time.monotonic() + timeout_s
        while not is_so():
            ended = [name for name, process in self._processes.items() if process.poll() is not None]
            assert not ended, f"{ended} ended early\n{self.logs()}"
            assert time.monotonic() < deadline, f"waited for {what}\n{self.logs()}"
            time.sleep(0.05)

    def logs(self) -> str:
        """Return the end of every log."""
        found = [*self.folder.glob("*.out"), *self.folder.glob("*/logs/*.log")]
        return "\n".join(f"--- {path.relative_to(self.folder)}\n{path.read_text()[-2500:]}" for path in sorted(found))

    # --- inside ---------------------------------------------------------------------------------------------------

    def _start(self, name: str, *words: str | Path) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            self._processes[name] = subprocess.Popen(
                self._command(*words), env=self._environment, cwd=self.folder, stdout=out, stderr=subprocess.STDOUT
            )

    def _said(self, name: str) -> str:
        return (self.folder / f"{name}.out").read_text()

    def _command(self, *words: str | Path) -> list[str]:
        return [*self._inside, str(Path(sys.executable).with_name("medfl")), *map(str, words)]


def rounds_of(store: RunStore) -> tuple[RoundRecord, ...]:
    """Return the rounds that have ended."""
    return store.read_history().rounds if store.has_history() else ()


@contextmanager
def federation(inside: Sequence[str] = ()) -> Iterator[Federation]:
    """Lend a federation, and clean it up."""
    folder = Path(tempfile.mkdtemp(prefix="medfl-"))
    lent = Federation(folder, inside)
    try:
        yield lent
    finally:
        lent.stop()
        shutil.rmtree(folder, ignore_errors=True)

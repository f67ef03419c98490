"""Flower's own programs on loopback: started on free ports, offline, and gone at the end whatever happens."""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("flower-superlink", "flower-supernode", "flwr")
REPOSITORY = Path(__file__).parents[2]
_LOOPBACK = "127.0.0.1"
_START_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 15
_MARK = "FLWR_HOME"


def missing_programs() -> list[str]:
    """Return Flower's programs that are not beside this interpreter."""
    return [name for name in PROGRAMS if not _program(name).exists()]


def write_app(folder: Path) -> Path:
    """Copy what makes up the Flower app; `flwr run` would look at every file of a checkout, its environment too."""
    folder.mkdir()
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    for package in ("medfl", "pipelines"):
        shutil.copytree(REPOSITORY / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


class FlowerProcesses:
    """A SuperLink, its SuperNodes and everything they start, all with one mark in their environment.

    Parameters
    ----------
    home : Path
        Flower's home; short, since Ray keeps sockets below it.
    cache : Path
        Where medfl keeps prepared data.
    """

    def __init__(self, home: Path, cache: Path) -> None:
        self.home = home
        self._started: list[subprocess.Popen[bytes]] = []
        self._address = ""
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        self._environment = kept | {
            _MARK: str(home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
            "MEDFL_CACHE": str(cache),
            "RAY_TMPDIR": str(home),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        }

    def start_superlink(self, *arguments: str, code: Path | None = None) -> None:
        """Start a SuperLink and wait until it answers; it finds what it runs in `code` first."""
        port = free_port()
        self._address = f"{_LOOPBACK}:{port}"
        settings = f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "{self._address}"\ninsecure = true\n'
        (self.home / "config.toml").write_text(settings)
        variables = {} if code is None else {"PYTHONPATH": str(code)}
        listening = ("--insecure", "--host", _LOOPBACK, "--port", str(port))
        process = self._start("flower-superlink", *listening, *arguments, variables=variables)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"The SuperLink did not start.\n{self.log()}")
            time.sleep(0.2)

    def start_supernode(self, node_config: str) -> None:
        """Start a SuperNode; it may join later."""
        ports = ("--host", _LOOPBACK, "--port", str(free_port()))
        self._start(
            "flower-supernode", "--insecure", "--superlink", self._address, *ports, "--node-config", node_config
        )

    def start_isolated_supernode(self, port: int, secret: Path) -> None:
        """Start a SuperNode that starts nothing by itself and waits for an executor who knows the secret."""
        isolated = ("--isolation", "process", "--superexec-auth-secret-file", str(secret))
        ports = ("--host", _LOOPBACK, "--port", str(port))
        self._start("flower-supernode", "--insecure", "--superlink", self._address, *ports, *isolated)

    def start_program(self, name: str, *command: str) -> "subprocess.Popen[bytes]":
        """Start another program with the mark; it is ended like Flower's own."""
        with (self.home / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env=self._environment,
                cwd=self.home,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def run(self, app: Path, *arguments: str, timeout_s: float, is_refused: bool = False) -> None:
        """Submit a run and follow it to its end; one that sites refuse may end with any code."""
        command = [str(_program("flwr")), "run", str(app), *arguments, "--stream"]
        with (self.home / "flwr-run.log").open("wb") as log:
            process = subprocess.Popen(
                command, env=self._environment, cwd=self.home, stdout=log, stderr=subprocess.STDOUT
            )
            self._started.append(process)
            try:
                code = process.wait(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"The run did not end within {timeout_s:g} s.\n{self.log()}") from None
        if code and not is_refused:
            raise AssertionError(f"`flwr run` ended with code {code}.\n{self.log()}")

    def stop(self) -> None:
        """Ask all processes to end, then end all that carry the mark."""
        for process in reversed(self._started):
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        for process in self._started:
            try:
                process.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        while left := self.alive():
            for number in left:
                _kill(number)
            if time.monotonic() > deadline + _STOP_TIMEOUT_S:
                raise AssertionError(f"{len(left)} processes could not be ended.")
            time.sleep(0.1)

    def alive(self) -> list[int]:
        """Return the processes that carry the mark."""
        mark = f"{_MARK}={self.home}".encode()
        numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        return [number for number in numbers if mark in _environment_of(number)]

    def log(self) -> str:
        """Return the end of every log."""
        logs = sorted(self.home.glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-6000:]}" for log in logs)

    def _start(
        self, program: str, *arguments: str, variables: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        with (self.home / f"{program}-{len(self._started)}.log").open("wb") as log:
            process = subprocess.Popen(
                [str(_program(program)), *arguments],
                env={**self._environment, **(variables or {})},
                cwd=self.home,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(process)
        return process


@contextmanager
def flower_processes(cache: Path) -> Iterator[FlowerProcesses]:
    """Lend a place to start Flower's programs in, and clean it up."""
    home = Path(tempfile.mkdtemp(prefix="medfl-"))
    processes = FlowerProcesses(home, cache)
    try:
        yield processes
    finally:
        processes.stop()
        shutil.rmtree(home, ignore_errors=True)


def free_port() -> int:
    """Return a port nobody listens on now."""
    with socket.socket() as listener:
        listener.bind((_LOOPBACK, 0))
        port: int = listener.getsockname()[1]
    return port


def _program(name: str) -> Path:
    return Path(sys.executable).parent / name


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(_LOOPBACK, port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _environment_of(number: int) -> list[bytes]:
    try:
        return Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _kill(number: int) -> None:
    try:
        os.kill(number, signal.SIGKILL)
    except ProcessLookupError:
        return

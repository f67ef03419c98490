"""The real `medfl dashboard` in a process of its own, with everything it asks of the network written down."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).parents[3]
_PATIENCE_S = 90.0
_HOOK = """
import os, sys
def _hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        with open(os.environ["NETWORK_LOG"], "a") as log:
            log.write(f"{event} {arguments[1] if event == 'socket.connect' else arguments[0]}\\n")
sys.addaudithook(_hook)
"""


@dataclass(frozen=True)
class Server:
    """A running dashboard.

    Attributes
    ----------
    address : str
    process : Popen
    network : Path
        One line for every connection and look-up that the server's process tried.
    """

    address: str
    process: subprocess.Popen[bytes]
    network: Path

    def asked(self) -> list[str]:
        """Return what the server asked of the network, but for sockets of its own on this computer."""
        lines = self.network.read_text().splitlines() if self.network.exists() else []
        return [line for line in lines if "127.0.0.1" not in line and "localhost" not in line and "/" not in line]


@contextmanager
def dashboard(
    folder: Path, runs: Path, *arguments: str, environment: Sequence[tuple[str, str]] = ()
) -> Iterator[Server]:
    """Start `medfl dashboard RUNS ARGUMENTS` and end it afterwards.

    Parameters
    ----------
    folder : Path
        For the log of the network.
    runs : Path
    arguments : str
    environment : sequence of (str, str)
    """
    hook = folder / "hook"
    hook.mkdir(exist_ok=True)
    (hook / "sitecustomize.py").write_text(_HOOK)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    network = folder / f"network-{port}.log"
    paths = os.pathsep.join((str(hook), str(ROOT)))
    code = "import sys; from app.cli.main import main; sys.argv[0] = 'medfl'; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "dashboard", str(runs), "--port", str(port), *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths, "NETWORK_LOG": str(network)} | dict(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/health", process)
        yield Server(address, process, network)
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urlopen(address):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("The dashboard did not start.")

"""A hub's three programs: Flower's SuperLink and its executor on loopback, and the door that sites come through."""

import os
import sys
from pathlib import Path

from app.hub.settings import HubSettings
from app.supervision.environment import program_environment
from app.supervision.leftovers import marked
from app.supervision.ports import LOOPBACK
from app.supervision.supervised import Program

SUPERLINK, SUPEREXEC, PROXY = "superlink", "superexec", "proxy"
_POLL_S = "0.2"


def superlink_program(settings: HubSettings, port: int) -> Program:
    """Return the SuperLink: TLS, keys of sites asked for, nothing run by itself."""
    command = [
        _flower("flower-superlink"),
        "--ssl-certfile", str(settings.certificate),
        "--ssl-keyfile", str(settings.private_key),
        "--ssl-ca-certfile", str(settings.ca / "ca.crt"),
        "--enable-supernode-auth",
        "--isolation", "process",
        "--superexec-auth-secret-file", str(settings.secret),
        "--database", str(settings.state / "superlink.db"),
        "--disable-runtime-dependency-installation",
        "--host", LOOPBACK,
        "--port", str(port),
    ]  # fmt: skip
    return Program(SUPERLINK, command, _environment(settings), settings.logs / f"{SUPERLINK}.log")


def superexec_program(settings: HubSettings, port: int) -> Program:
    """Return the executor, which starts the hub's side of a run."""
    command = [
        _flower("flower-superexec"),
        "--root-certificates", str(settings.ca / "ca.crt"),
        "--runtime-api-address", f"localhost:{port}",
        "--superexec-auth-secret-file", str(settings.secret),
    ]  # fmt: skip
    environment = _environment(settings) | {"FLWR_SUPEREXEC_TASK_POLL_INTERVAL": _POLL_S}
    return Program(SUPEREXEC, command, environment, settings.logs / f"{SUPEREXEC}.log")


def proxy_program(settings: HubSettings, settings_file: Path) -> Program:
    """Return the door."""
    command = [sys.executable, "-P", "-m", "app.hub.serve_proxy", str(settings_file)]
    return Program(PROXY, command, _environment(settings), settings.logs / f"{PROXY}.log")


def _flower(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _environment(settings: HubSettings) -> dict[str, str]:
    """Return a program's variables; what Flower starts is looked up beside this interpreter first."""
    variables = program_environment()
    path = f"{Path(sys.executable).parent}{os.pathsep}{variables.get('PATH', os.defpath)}"
    own = {"PATH": path, "FLWR_HOME": str(settings.flower_home), "MEDFL_CACHE": str(settings.state / "cache")}
    return variables | own | marked(settings.state)

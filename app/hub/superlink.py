"""Flower's own command line, for the hub's SuperLink on loopback: sites' keys, runs."""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.hub.settings import HubSettings
from app.supervision.environment import program_environment
from medfl.errors import FederationError
from medfl.results.atomic import write_text

_TIMEOUT_S = 60.0
_NAME = "hub"
_LONGEST_SAID = 200
_EVERY = 1_000_000


@dataclass(frozen=True)
class Node:
    """A site's connection, as Flower knows it.

    Attributes
    ----------
    number : int
        Flower's id.
    status : str
        "registered", "online" or "offline".
    """

    number: int
    status: str


@dataclass(frozen=True)
class FlowerRun:
    """A run, as Flower knows it.

    Attributes
    ----------
    number : int
    status : str
        Such as "running" or "finished:completed".
    """

    number: int
    status: str

    @property
    def is_over(self) -> bool:
        """Whether it has ended, however."""
        return self.status.startswith("finished")


class SuperLink:
    """Asks the hub's SuperLink, which must run.

    Parameters
    ----------
    settings : HubSettings
    """

    def __init__(self, settings: HubSettings) -> None:
        self._settings = settings

    def configure(self, port: int) -> None:
        """Write down where the SuperLink listens."""
        values = {"address": f"localhost:{port}", "root-certificates": str(self._settings.ca / "ca.crt")}
        lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        text = "\n".join(["[superlink]", f'default = "{_NAME}"', f"[superlink.{_NAME}]", *lines, ""])
        write_text(self._settings.flower_home / "config.toml", text)

    def nodes(self) -> tuple[Node, ...]:
        """Return every site that is registered."""
        found = self._ask("supernode", "list").get("nodes", [])
        return tuple(Node(int(one["node-id"]), str(one["status"])) for one in found if one["status"] != "unregistered")

    def register(self, site: str, public_key: str) -> int:
        """Let a site connect; returns Flower's id for it."""
        with tempfile.NamedTemporaryFile("w", suffix=".pub", dir=self._settings.state / "run") as file:
            file.write(f"{public_key}\n")
            file.flush()
            return int(self._ask("supernode", "register", file.name, options=("--name", site))["node-id"])

    def unregister(self, number: int) -> None:
        """Shut a site out; its connection ends."""
        self._ask("supernode", "unregister", str(number))

    def runs(self) -> tuple[FlowerRun, ...]:
        """Return all runs, the newest first; without a limit Flower lists 20."""
        found = self._ask("list", options=("--limit", str(_EVERY))).get("runs", [])
        return tuple(FlowerRun(int(one["run-id"]), str(one["status"])) for one in found)

    def submit(self, bundle: Path, run_config: Path) -> int:
        """Start a run; returns its id."""
        return int(self._ask("run", str(bundle), options=("--run-config", str(run_config)))["run-id"])

    def stop(self, number: int) -> None:
        """End a run."""
        self._ask("stop", str(number))

    # --- inside ---------------------------------------------------------------------------------------------------

    def _ask(self, *words: str, options: tuple[str, ...] = ()) -> dict[str, Any]:
        command = [str(Path(sys.executable).with_name("flwr")), *words, _NAME, *options, "--format", "json"]
        try:
            ran = subprocess.run(
                command,
                env=program_environment() | {"FLWR_HOME": str(self._settings.flower_home)},
                cwd=self._settings.flower_home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise FederationError(f"The SuperLink must answer within {_TIMEOUT_S:g} s; it does not.") from None
        found = _first_object(ran.stdout)
        if ran.returncode or found is None or found.get("success") is False:
            said = (found or {}).get("error-message") or (ran.stderr.strip() or ran.stdout.strip())[-_LONGEST_SAID:]
            raise FederationError(f"Flower refused '{' '.join(words[:2])}': {said}")
        return found


def _first_object(text: str) -> dict[str, Any] | None:
    """Return the first JSON object of an output; Flower prints other lines around it."""
    start = text.find("{")
    while start >= 0:
        try:
            found, _ = json.JSONDecoder().raw_decode(text[start:])
        except ValueError:
            start = text.find("{", start + 1)
        else:
            return found if isinstance(found, dict) else None
    return None

"""A running hub: its three programs, the sites that may connect, and runs that a stop or a crash interrupted."""

import os
import ssl
import threading
from datetime import UTC, datetime
from pathlib import Path

import httpx

from app.hub.programs import proxy_program, superexec_program, superlink_program
from app.hub.register import register_sites
from app.hub.serve_proxy import ProxySettings
from app.hub.settings import HubSettings, load_hub
from app.hub.submit import resume_all
from app.hub.superlink import SuperLink
from app.supervision.ending import ending_event
from app.supervision.leftovers import end_leftovers
from app.supervision.ports import free_port, is_free, is_open
from app.supervision.running import FOLDER, only_one
from app.supervision.supervised import Patience, Supervised
from app.supervision.telling import Say, Telling, unwritable
from medfl.errors import ConfigError, FederationError, MedFLError
from medfl.federation.executor_runtime import check_flower_version
from medfl.governance.certificates import valid_until
from medfl.results.atomic import write_text

_STEP_S = 0.25
_READY_S = 120.0
_LOOK_S = 1.0
_TRY_AGAIN_S = 30.0


def start_hub(state: Path, *, say: Say, stop: threading.Event | None = None, patience: Patience | None = None) -> None:
    """Run a hub until it is told to stop; what it started ends with it.

    Parameters
    ----------
    state : Path
        The hub's folder.
    say : callable
        Takes one line for the operator.
    stop : Event or None
        Ends it; None stands for SIGTERM, SIGINT and SIGHUP.
    patience : Patience or None

    Raises
    ------
    ConfigError
        If the hub runs already, its port is taken, its certificate has ended, or its settings have a mistake.
    FederationError
        If the SuperLink does not start.
    """
    check_flower_version()
    settings = load_hub(state)
    _check_certificate(settings, datetime.now(UTC))
    os.umask(0o077)
    with only_one(settings.state), ending_event(stop) as ending:
        if end_leftovers(settings.state):
            say("Programs of an earlier start were still there and were ended.")
        if not is_free(settings.port, settings.listen):
            raise ConfigError(
                f"Port {settings.port} must be free on {settings.listen}; another program listens there. End it, or "
                "change 'port' in hub.yaml and enroll every site again."
            )
        supervisor = _Supervisor(settings, say, patience or Patience())
        try:
            supervisor.start(ending)
            supervisor.run(ending)
        finally:
            supervisor.stop()
            end_leftovers(settings.state)


class _Supervisor:
    def __init__(self, settings: HubSettings, say: Say, patience: Patience) -> None:
        self._settings, self._say = settings, say
        self._port = free_port()
        self._superlink = SuperLink(settings)
        self._superlink.configure(self._port)
        door = settings.state / FOLDER / "proxy.json"
        inside = ProxySettings(
            listen=settings.listen,
            port=settings.port,
            certificate=settings.certificate,
            private_key=settings.private_key,
            ca=settings.ca / "ca.crt",
            superlink=self._port,
        )
        write_text(door, inside.model_dump_json())
        self._link = Supervised(superlink_program(settings, self._port), patience)
        self._others = [
            Supervised(superexec_program(settings, self._port), patience),
            Supervised(proxy_program(settings, door), patience),
        ]
        self._telling = Telling(settings.state, (self._link, *self._others), say)
        self._seen: tuple[object, ...] = ()
        self._look_at = 0.0

    def start(self, stop: threading.Event) -> None:
        """Start the SuperLink, tell it the sites, and go on with what was interrupted."""
        self._telling.note()
        self._link.start()
        self._wait_until_ready(stop)
        if stop.is_set():
            return
        self._register()
        for line in resume_all(self._settings, self._superlink):
            self._say(line)
        for one in self._others:
            one.start()
        self._wait_until_open(stop)
        self._telling.phase = "running"
        self._telling.note()
        self._say(f"The hub '{self._settings.name}' runs at {self._settings.address}.")

    def run(self, stop: threading.Event) -> None:
        """Keep everything running."""
        while not stop.is_set():
            for one in (self._link, *self._others):
                if one.step():
                    self._telling.tell(_ending(one))
                if one.is_due:
                    one.start()
                    self._telling.note()
            self._register_if_changed()
            is_settled = all(one.is_settled for one in (self._link, *self._others))
            if self._telling.problem and is_settled and self._is_registered():
                self._telling.over()
            stop.wait(_STEP_S)

    def stop(self) -> None:
        """End everything; the door first, so that nothing new comes in."""
        programs = (*reversed(self._others), self._link)
        for one in programs:
            one.ask_to_end()
        for one in programs:
            one.stop()
        self._say("The hub has stopped.")

    # --- inside ---------------------------------------------------------------------------------------------------

    def _wait_until_ready(self, stop: threading.Event) -> None:
        context = ssl.create_default_context(cafile=str(self._settings.ca / "ca.crt"))
        waited = 0.0
        with httpx.Client(verify=context, trust_env=False, timeout=5.0) as client:
            while not stop.is_set():
                if self._link.step():
                    raise FederationError(
                        f"The SuperLink must start; it ended with code {self._link.last_exit}. See logs/superlink.log."
                    )
                try:
                    if client.get(f"https://localhost:{self._port}/health").status_code == httpx.codes.OK:
                        return
                except httpx.HTTPError:
                    pass
                if waited > _READY_S:
                    raise FederationError(
                        f"The SuperLink must answer within {_READY_S:g} s; it does not. See logs/superlink.log."
                    )
                stop.wait(_STEP_S)
                waited += _STEP_S

    def _wait_until_open(self, stop: threading.Event) -> None:
        """Return when the door takes connections, or it has ended and is left to `run`."""
        waited = 0.0
        while not stop.is_set() and waited < _READY_S and all(one.number is not None for one in self._others):
            if is_open(self._settings.port, self._settings.listen):
                return
            for one in self._others:
                if one.step():
                    self._telling.tell(_ending(one))
            stop.wait(_STEP_S)
            waited += _STEP_S

    def _register(self) -> None:
        seen = self._signature()
        added, removed = register_sites(self._settings, self._superlink)
        self._seen = seen
        for site in added:
            self._say(f"The site '{site}' can connect.")
        for site in removed:
            self._say(f"The site '{site}' is shut out.")

    def _register_if_changed(self) -> None:
        self._look_at -= _STEP_S
        if self._look_at > 0:
            return
        self._look_at = _LOOK_S
        if self._is_registered() or self._link.number is None:
            return
        try:
            self._register()
        except MedFLError as error:
            self._telling.tell(str(error))
            self._look_at = _TRY_AGAIN_S
        except OSError as error:
            self._telling.tell(unwritable(error))
            self._look_at = _TRY_AGAIN_S

    def _is_registered(self) -> bool:
        return self._signature() == self._seen

    def _signature(self) -> tuple[object, ...]:
        """Return something that is another where a site came or went."""
        files = sorted(self._settings.sites.glob("*.json"))
        return ("read", *((path.name, path.stat().st_mtime_ns) for path in files if path.exists()))


def _check_certificate(settings: HubSettings, now: datetime) -> None:
    for path, advice in (
        (settings.certificate, "Make a new one with 'medfl hub renew'."),
        (settings.ca / "ca.crt", "Make a new hub and enroll every site again."),
    ):
        try:
            ends = valid_until(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"The hub's certificate {path.name} must be readable; it is not.") from error
        if ends <= now:
            raise ConfigError(f"The hub's certificate {path.name} must be valid; it ended on {ends:%Y-%m-%d}. {advice}")


def _ending(one: Supervised) -> str:
    return f"The {one.program.name} ended with code {one.last_exit} and is started again."

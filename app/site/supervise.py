"""A running site: Flower's own SuperNode, which talks to the hub, and medfl's executor, which answers approved plans.

The SuperNode runs nothing by itself (process isolation); the executor is the only program that knows the secret to take
its tasks. Either is started again whatever its exit code: a SuperNode ends with code 0 where the hub lost its memory.
"""

import os
import sys
import threading
from pathlib import Path

from app.site.hub_link import HubCheckError, HubLink, check_hub
from app.site.settings import SiteSettings, load_settings
from app.site.worker_account import prepare_worker_account, transform_keys
from app.supervision.ending import ending_event
from app.supervision.environment import program_environment
from app.supervision.ports import LOOPBACK, free_port, is_free
from app.supervision.running import FOLDER, only_one
from app.supervision.supervised import Patience, Program, Supervised
from app.supervision.telling import Say, Telling
from medfl.federation.executor_runtime import check_flower_version
from medfl.governance.audit_log import AuditLog
from medfl.results.atomic import write_text
from pipelines.site_executor import ExecutorSettings

SUPERNODE, EXECUTOR = "supernode", "executor"
_STEP_S = 0.25
_LONGEST_WAIT_S = 60.0
_LONGEST_LINE = 300
_WHO = "medfl"


def run_site(
    state: Path, link: HubLink, *, say: Say, stop: threading.Event | None = None, patience: Patience | None = None
) -> None:
    """Run a site until it is told to stop; what it started ends with it, also where it is killed.

    Parameters
    ----------
    state : Path
        The site's folder.
    link : HubLink
        The way to its hub.
    say : callable
        Takes one line for the administrator.
    stop : Event or None
        Ends it; None stands for SIGTERM, SIGINT and SIGHUP.
    patience : Patience or None

    Raises
    ------
    ConfigError
        If the site runs already, or its settings have a mistake.
    HubCheckError
        If the hub is another one than the site was enrolled at, or the clocks differ.
    AuditLogError
        If the audit log cannot be written.
    """
    check_flower_version()
    settings = load_settings(state)
    os.umask(0o077)
    with only_one(settings.state), ending_event(stop) as ending:
        log = AuditLog(settings.audit_log)
        supervisor = _Supervisor(settings, link, say, patience or Patience())
        try:
            if not supervisor.wait_for_hub(ending):
                return
        except HubCheckError as error:
            log.append("site.start", who=_WHO, verdict="refused", reason=error.reason)
            raise
        log.append("site.start", who=_WHO, verdict="ok")
        try:
            supervisor.run(ending)
        finally:
            supervisor.stop()
            log.append("site.stop", who=_WHO, verdict="ok", reason="stopped")


def supernode_program(settings: SiteSettings, link: HubLink, port: int) -> Program:
    """Return Flower's SuperNode as this site starts it.

    Parameters
    ----------
    settings : SiteSettings
    link : HubLink
    port : int
        On loopback, for the executor.
    """
    command = [
        str(Path(sys.executable).with_name("flower-supernode")),
        "--superlink", link.address,
        "--host", LOOPBACK,
        "--port", str(port),
        "--isolation", "process",
        "--superexec-auth-secret-file", str(settings.secrets / "superexec"),
    ]  # fmt: skip
    command += ["--insecure"] if link.ca is None else ["--root-certificates", str(link.ca)]
    if link.private_key is not None:
        command += ["--auth-supernode-private-key", str(link.private_key)]
    environment = program_environment() | {"FLWR_HOME": str(settings.state / "flwr")}
    if link.proxy:
        environment |= {"HTTPS_PROXY": link.proxy, "NO_PROXY": f"{LOOPBACK},localhost"}
    return Program(SUPERNODE, command, environment, settings.state / "logs" / f"{SUPERNODE}.log", is_watched=True)


def executor_program(settings: SiteSettings) -> Program:
    """Return the executor as this site starts it."""
    command = [sys.executable, "-P", "-m", "pipelines.site_executor", str(settings.state / FOLDER / "executor.json")]
    environment = program_environment() | {
        "FLWR_HOME": str(settings.state / "flwr"),
        "MEDFL_CACHE": str(settings.cache),
    }
    return Program(EXECUTOR, command, environment, settings.state / "logs" / f"{EXECUTOR}.log")


def executor_settings(settings: SiteSettings, port: int) -> ExecutorSettings:
    """Return what the executor has to know; the site's private key is among what its worker can never open."""
    keys = transform_keys(settings)
    return ExecutorSettings(
        name=settings.name,
        state=settings.state,
        runtime=f"{LOOPBACK}:{port}",
        secret_file=settings.secrets / "superexec",
        manifest=settings.data.manifest,
        cache=settings.cache,
        keys=keys if keys.is_dir() else None,
        ledger=settings.ledger if settings.ledger.exists() else None,
        data_set=settings.data.account,
        purpose=settings.data.purpose,
        hidden=(settings.private_key,),
        user=settings.worker.user,
        memory_bytes=settings.worker.memory_bytes,
        deadline_s=settings.worker.deadline_s,
        most_bytes_out=settings.policy.run_bytes,
    )


class _Supervisor:
    def __init__(self, settings: SiteSettings, link: HubLink, say: Say, patience: Patience) -> None:
        self._settings, self._link, self._say = settings, link, say
        self._port = free_port()
        for name in ("logs", "flwr"):
            (settings.state / name).mkdir(mode=0o700, exist_ok=True)
        self._supernode = Supervised(supernode_program(settings, link, self._port), patience)
        self._executor = Supervised(executor_program(settings), patience)
        self._telling = Telling(settings.state, (self._supernode, self._executor), say)

    def wait_for_hub(self, stop: threading.Event) -> bool:
        """Return once the hub answers, whether to go on; a hub that is down is waited for."""
        delay = 1.0
        while not stop.is_set():
            try:
                check_hub(self._link)
            except HubCheckError as error:
                if error.reason not in ("hub_unreachable", "hub_answer"):
                    raise
                self._telling.tell(str(error))
                stop.wait(delay)
                delay = min(2 * delay, _LONGEST_WAIT_S)
            else:
                self._telling.problem = ""
                self._telling.phase = "running"
                return True
        return False

    def run(self, stop: threading.Event) -> None:
        """Keep both programs running."""
        prepare_worker_account(self._settings)
        self._write_executor_settings()
        self._say(f"The site '{self._settings.name}' runs; its hub is {self._link.address}.")
        while not stop.is_set():
            for one in (self._supernode, self._executor):
                if one.step():
                    self._telling.tell(_ending(one))
            if self._supernode.is_due:
                self._start_supernode()
            if self._executor.is_due:
                self._executor.start()
                self._telling.note()
            if self._telling.problem and self._supernode.is_settled and self._executor.is_settled:
                self._telling.over()
            stop.wait(_STEP_S)

    def stop(self) -> None:
        """End both; the executor first, so that nothing new is taken."""
        for one in (self._executor, self._supernode):
            one.ask_to_end()
        for one in (self._executor, self._supernode):
            one.stop()
        self._say("The site has stopped.")

    # --- inside ---------------------------------------------------------------------------------------------------

    def _start_supernode(self) -> None:
        if self._supernode.restarts:
            try:
                check_hub(self._link)
            except HubCheckError as error:
                if error.reason != "hub_unreachable":  # a SuperNode waits for its hub by itself
                    self._supernode.postpone()
                    self._telling.tell(str(error))
                    return
        if not is_free(self._port):
            self._port = free_port()
            self._write_executor_settings()
            self._executor.stop()
        self._supernode.start(supernode_program(self._settings, self._link, self._port))
        self._telling.note()

    def _write_executor_settings(self) -> None:
        path = self._settings.state / FOLDER / "executor.json"
        write_text(path, executor_settings(self._settings, self._port).model_dump_json())


def _ending(one: Supervised) -> str:
    """Say that a program ended; what the executor said is medfl's own text and may be shown."""
    name = one.program.name
    said = f"The {name} ended with code {one.last_exit} and is started again."
    if name == EXECUTOR:
        last = _last_error(one.program.log)
        return f"{said} {last}" if last else said
    return f"{said} See logs/{one.program.log.name}."


def _last_error(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()[-20:]
    except OSError:
        return ""
    found = [line.removeprefix("ERROR ") for line in lines if line.startswith("ERROR ")]
    return found[-1][:_LONGEST_LINE] if found else ""

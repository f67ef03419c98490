"""A site's executor as a program: `python -m pipelines.site_executor SETTINGS.json`; see `medfl.federation.executor`.

`medfl site run` writes the settings and starts it beside the SuperNode. It never imports torch.
"""

import ctypes
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import medfl
from medfl.errors import ConfigError, MedFLError
from medfl.federation.executor import Executor, SiteLimits
from medfl.federation.executor_runtime import Runtime
from medfl.federation.executor_task import TaskLostError
from medfl.federation.worker_process import WorkerProcess, WorkerSettings
from medfl.governance.approvals import Approvals
from medfl.governance.audit_log import AuditLog
from medfl.results.atomic import write_text

WORKER = "pipelines.site_worker"
JOURNAL, WORKER_FACTS, PAUSED = "task.json", "worker.json", "paused.json"
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_BUSY_POLL_S, _IDLE_POLL_S, _BUSY_FOR_S, _LOST_WAIT_S = 0.1, 0.5, 60.0, 0.5
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "MEDFL_CACHE", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")

logger = logging.getLogger("medfl.site")


class ExecutorSettings(BaseModel):
    """What the executor of one site has to know.

    Attributes
    ----------
    name : str
        Of the site.
    state : Path
        The site's state folder, with ``approvals`` and ``audit.jsonl``.
    runtime : str
        HOST:PORT where the SuperNode's Runtime API listens.
    secret_file : Path
        Secret that SuperNode and executor share; only this process reads it.
    manifest : Path
        Of the site's data.
    cache : Path
        Where prepared data are kept.
    keys, ledger : Path or None
        Folder of the site's keys of keyed transforms, and its privacy ledger.
    data_set, purpose : str
        Account in the ledger.
    hidden : tuple of Path
        Files that the worker can no longer open; the secret, the approvals and the audit log are among them anyway.
    user : int
        Account number that the worker changes to where the executor runs as root; 0 keeps the account.
    memory_bytes : int
        Address space of the worker; 0 for no limit.
    deadline_s : float
        Longest time for one message.
    most_bytes_out : int
        Most bytes that may leave for one plan.
    most_bytes : int
        Longest message or reply.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    state: Path
    runtime: str
    secret_file: Path
    manifest: Path
    cache: Path
    keys: Path | None = None
    ledger: Path | None = None
    data_set: str = ""
    purpose: str = ""
    hidden: tuple[Path, ...] = ()
    user: int = Field(default=0, ge=0)
    memory_bytes: int = Field(default=0, ge=0)
    deadline_s: float = Field(default=3600.0, gt=0)
    most_bytes_out: int = Field(default=2**34, ge=0)
    most_bytes: int = Field(default=2**31 - 1, ge=1)


def read_settings(path: Path) -> ExecutorSettings:
    """Read the settings that `medfl site run` wrote.

    Raises
    ------
    ConfigError
        If they cannot be used.
    """
    try:
        return ExecutorSettings.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ConfigError(f"The executor's settings must be as written by 'medfl site run': {error}.") from error


def worker_settings(settings: ExecutorSettings) -> WorkerSettings:
    """Return how the worker is started: what it may see, and what it is told."""
    state = settings.state
    runs, scratch = state / "runs", state / "run" / "worker"
    writable = [runs, scratch, settings.cache]
    if settings.ledger is not None:
        writable.append(settings.ledger.parent)
    if settings.keys is not None:
        writable.append(settings.keys)
    for folder in (runs, scratch, settings.cache):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    hidden = {settings.secret_file, state / "approvals", state / "audit.jsonl", *settings.hidden}
    hidden |= {state / "run" / JOURNAL, state / "secrets"}
    node = {"site": settings.name, "manifest": str(settings.manifest), "state": str(runs)}
    for name, value in (("keys", settings.keys), ("ledger", settings.ledger)):
        node |= {} if value is None else {name: str(value)}
    node |= {"data-set": settings.data_set, "purpose": settings.purpose}
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    environment |= {"MEDFL_CACHE": str(settings.cache), "TMPDIR": str(scratch), "FLWR_TELEMETRY_ENABLED": "0"}
    start = {
        "node": node,
        "hidden": sorted(str(path) for path in hidden),
        "writable": [str(path) for path in writable],
        "memory_bytes": settings.memory_bytes,
        "user": settings.user,
        "most_bytes": settings.most_bytes,
    }
    return WorkerSettings(WORKER, environment, start, settings.most_bytes)


def run(settings: ExecutorSettings, stop: threading.Event) -> None:
    """Answer messages until told to stop.

    Parameters
    ----------
    settings : ExecutorSettings
    stop : Event

    Raises
    ------
    ConfigError
        If Flower has another version, or the secret cannot be read.
    """
    folder = settings.state / "run"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        secret = settings.secret_file.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"The executor must read the site's secret; it cannot ({error.strerror}).") from error
    runtime = Runtime(settings.runtime, secret, folder / JOURNAL)
    worker = WorkerProcess(worker_settings(settings))
    executor = Executor(
        runtime,
        Approvals(settings.state),
        AuditLog(settings.state / "audit.jsonl"),
        worker,
        settings.state / "runs",
        SiteLimits(settings.name, medfl.__version__, settings.deadline_s, settings.most_bytes_out),
        is_paused=(folder / PAUSED).exists,
    )
    try:
        executor.recover()
        executor.warm()
        _loop(executor, worker, folder, stop)
    finally:
        worker.stop()
        runtime.close()


def _loop(executor: Executor, worker: WorkerProcess, folder: Path, stop: threading.Event) -> None:
    last, told = time.monotonic(), dict[str, object]()
    while not stop.is_set():
        try:
            busy = executor.step()
        except TaskLostError as error:
            logger.debug("%s", error)
            stop.wait(_LOST_WAIT_S)
            continue
        if worker.facts != told:
            told = dict(worker.facts)
            write_text(folder / WORKER_FACTS, json.dumps(told))
        if busy:
            last = time.monotonic()
            continue
        stop.wait(_BUSY_POLL_S if time.monotonic() - last < _BUSY_FOR_S else _IDLE_POLL_S)


def main() -> int:
    """Run until SIGTERM or the end of the program that started it."""
    os.umask(0o077)
    library = ctypes.CDLL(None)
    library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    library.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("medfl").setLevel(logging.INFO)
    for name in ("flwr", "httpx", "httpcore"):  # may quote what a hub sent
        logging.getLogger(name).disabled = True
    stop = threading.Event()

    def ended(number: int, frame: object) -> None:
        stop.set()
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, ended)
    signal.signal(signal.SIGINT, ended)
    try:
        run(read_settings(Path(sys.argv[1])), stop)
    except MedFLError as error:
        logger.error("%s", error)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())

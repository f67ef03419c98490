"""The site's machine: programs, versions, memory, disk, account."""

import os
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import medfl
from app.site.doctor.finding import Finding, ok, problem, warning
from app.site.settings import SiteSettings
from app.supervision.environment import program_environment
from medfl.errors import ConfigError
from medfl.federation.executor_runtime import check_flower_version

_FLOWER_FOLDER = "FLWR_HOME"
_LEAST_DISK = 5 * 2**30
_LEAST_MEMORY = 4 * 2**30
_GIB = 2**30


def check_environment(settings: SiteSettings) -> Iterator[Finding]:
    """Look at this machine.

    Parameters
    ----------
    settings : SiteSettings
    """
    yield _versions()
    yield _variables()
    yield _programs()
    yield _disk(settings)
    yield _memory(settings)
    yield _account(settings)


def _versions() -> Finding:
    try:
        check_flower_version()
    except ConfigError as error:
        return problem("environment.versions", str(error), "Install medfl into an environment of its own.")
    found = []
    for name in ("flwr", "torch", "monai"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            return problem("environment.versions", f"{name} is not installed.", "Install medfl again.")
    return ok("environment.versions", f"medfl {medfl.__version__}, {', '.join(found)}")


def _variables() -> Finding:
    """Flower's programs get the variables that medfl sets, so that they call nobody but the hub, and no others."""
    given = program_environment()
    others = sorted(name for name in os.environ if name.startswith("FLWR_") and os.environ[name] != given.get(name))
    others = [name for name in others if name != _FLOWER_FOLDER]
    if others:
        return warning(
            "environment.variables",
            f"{len(others)} variables of Flower in this environment are not used: {', '.join(others)}.",
            "Remove them; medfl switches off Flower's telemetry, update check and installing itself.",
        )
    return ok("environment.variables", "Flower's telemetry, update check and installing are off.")


def _programs() -> Finding:
    name = "flower-supernode"
    if not os.access(Path(sys.executable).with_name(name), os.X_OK):
        return problem(
            "environment.programs", f"{name} is not beside this Python.", "Install medfl again; it brings the program."
        )
    return ok("environment.programs", "Flower's SuperNode is installed.")


def _disk(settings: SiteSettings) -> Finding:
    places = {"STATE": settings.state, "cache": settings.cache if settings.cache.exists() else settings.state}
    free = {name: shutil.disk_usage(path).free for name, path in places.items()}
    name = min(free, key=free.__getitem__)
    said = f"{free[name] / _GIB:.1f} GiB are free for {name}."
    if free[name] < _LEAST_DISK:
        return problem("environment.disk", said, f"Make room: at least {_LEAST_DISK // _GIB} GiB.")
    if not os.access(settings.state, os.W_OK):
        return problem("environment.disk", "STATE cannot be written.", "Give it to the account that runs the site.")
    return ok("environment.disk", said)


def _memory(settings: SiteSettings) -> Finding:
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = settings.worker.memory_bytes
    ends = f"; the worker may take {limit / _GIB:.1f}." if limit else "."
    said = f"This machine has {there / _GIB:.1f} GiB of memory{ends}"
    if limit > there:
        return problem("environment.memory", said, "Lower worker.memory_bytes, or use a larger machine.")
    if (limit or there) < _LEAST_MEMORY:
        return warning("environment.memory", said, f"Training needs about {_LEAST_MEMORY // _GIB} GiB or more.")
    return ok("environment.memory", said)


def _account(settings: SiteSettings) -> Finding:
    if os.geteuid() == 0 and not settings.worker.user:
        return warning(
            "environment.account",
            "The site runs as root, and its worker too.",
            "Run it under an account of its own, or set worker.user to an account without rights.",
        )
    return ok("environment.account", "The computing process is not root.")

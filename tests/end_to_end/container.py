"""The site's image, built and started without an engine: podman with runc, a base made of Debian's packages."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "app" / "site" / "container"
PROGRAMS = ("podman", "runc", "mmdebstrap", "ip", "nft")
HUB, SITE = "10.213.77.1", "10.213.77.2"
_NAMESPACE = "medfl-site"
_BASE, _IMAGE = "localhost/medfl-test-base", "localhost/medfl-site-test"
_PODMAN = ("podman", "--runtime", "runc")


def missing_programs() -> list[str]:
    """Return what is not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def build_image(scratch: Path) -> str:
    """Build the shipped Dockerfile from wheels of this checkout and return the image's name."""
    base = scratch / "base.tar"
    packages = "python3,python3-venv,ca-certificates"
    _done("mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", "bookworm", str(base))
    _done(*_PODMAN, "import", "--quiet", str(base), _BASE)
    base.unlink()
    context = scratch / "context"
    context.mkdir()
    constraints = ("--constraint", str(REPOSITORY / "constraints.txt"))
    _done(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", *constraints),
        *("--wheel-dir", str(context / "wheels"), f"{REPOSITORY}[backbones]"),
    )
    build = ("build", "--quiet", "--isolation=chroot", "--build-arg", f"BASE={_BASE}", "--format=docker")
    _done(*_PODMAN, *build, "--file", str(FOLDER / "Dockerfile"), "--tag", _IMAGE, str(context))
    return _IMAGE


def remove_images() -> None:
    """Remove what the build made."""
    subprocess.run([*_PODMAN, "rmi", "--force", _IMAGE, _BASE], capture_output=True, check=False)


def compose_service() -> dict[str, Any]:
    """Return the shipped service."""
    read: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    service: dict[str, Any] = read["services"]["site"]
    return service


def hardened(state: Path, data: Path) -> list[str]:
    """Return the shipped service's settings as podman's arguments, so that what is tested is what is shipped."""
    service = compose_service()
    places = {"/data": data, "/state": state}
    arguments = ["--rm", "--no-healthcheck", "--user", service["user"]]
    arguments += ["--read-only", "--read-only-tmpfs=false"] if service["read_only"] else []
    arguments += [f"--cap-drop={name}" for name in service["cap_drop"]]
    arguments += [f"--security-opt={option.replace(':true', '')}" for option in service["security_opt"]]
    arguments += [f"--tmpfs={folder}" for folder in service["tmpfs"]]
    for mount in service["volumes"]:
        _, inside, *mode = mount.split(":")
        arguments.append("--volume=" + ":".join([str(places[inside]), inside, *mode]))
    arguments += [f"--ulimit={name}={most}:{most}" for name, most in service["ulimits"].items()]
    return arguments


def run(
    image: str, arguments: Sequence[str], *command: str, timeout_s: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a command in a container to its end."""
    return subprocess.run(
        [*_PODMAN, "run", *arguments, image, *command], capture_output=True, text=True, timeout=timeout_s, check=False
    )


@contextmanager
def running(image: str, arguments: Sequence[str], log: Path, *command: str) -> Iterator[None]:
    """Run a container meanwhile; it is asked to end, as an engine asks it."""
    with log.open("wb") as out:
        process = subprocess.Popen([*_PODMAN, "run", *arguments, image, *command], stdout=out, stderr=out)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def allow_listed_network(port: int) -> Iterator[str]:
    """Lend podman's argument for a network that reaches one port of the hub, by the shipped rules."""
    _done("ip", "netns", "add", _NAMESPACE)
    try:
        _done("ip", "link", "add", "medfl-hub", "type", "veth", "peer", "name", "medfl-site", "netns", _NAMESPACE)
        _done("ip", "addr", "add", f"{HUB}/24", "dev", "medfl-hub")
        _done("ip", "link", "set", "medfl-hub", "up")
        inside = ("ip", "netns", "exec", _NAMESPACE)
        _done(*inside, "ip", "addr", "add", f"{SITE}/24", "dev", "medfl-site")
        _done(*inside, "ip", "link", "set", "medfl-site", "up")
        _done(*inside, "ip", "link", "set", "lo", "up")
        rules = ("-D", f"hub={HUB}", "-D", f"port={port}", "-f", str(FOLDER / "egress.nft"))
        _done(*inside, "nft", *rules)
        yield f"--network=ns:/run/netns/{_NAMESPACE}"
    finally:
        subprocess.run(["ip", "netns", "delete", _NAMESPACE], check=False)
        subprocess.run(["ip", "link", "delete", "medfl-hub"], capture_output=True, check=False)


def _done(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{command[0]} ended with code {done.returncode}.\n{done.stderr[-3000:]}")

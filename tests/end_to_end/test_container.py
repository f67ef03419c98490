"""The image a hospital runs, built from the shipped Dockerfile and hardened as the shipped compose file says."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from . import container

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_PROBE = """
import json, os, socket, sys

def written(path):
    try:
        with open(path, "w") as file:
            file.write("x")
    except OSError as error:
        return error.errno
    return 0

def reached(port):
    try:
        socket.create_connection((sys.argv[1], port), timeout=3).close()
    except OSError:
        return False
    return True

status = dict(line.rstrip().split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
print(json.dumps({
    "uid": os.getuid(),
    "capabilities": [status[name].strip() for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh")],
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "written": {folder: written(folder + "/x") for folder in ("/", "/opt/medfl", "/usr", "/data", "/state", "/tmp")},
    "reached": [reached(int(port)) for port in sys.argv[2:]],
    "programs": [name for name in ("pip", "uv") if os.path.exists(f"/opt/medfl/bin/{name}")],
    "environment": {name: os.environ.get(name) for name in (
        "FLWR_TELEMETRY_ENABLED", "FLWR_DISABLE_UPDATE_CHECK", "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION")},
}))
"""
_READ_ONLY = 30


@pytest.fixture(scope="module")
def image(require: Callable[[bool, str], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    missing = container.missing_programs()
    require(
        not missing, f"a container needs {', '.join(missing)}: apt-get install podman runc mmdebstrap nftables iproute2"
    )
    require(os.geteuid() == 0, "building the base of a container and a network of its own needs root")
    yield container.build_image(tmp_path_factory.mktemp("image"))
    container.remove_images()


def test_the_hardened_container_owns_nothing_and_reaches_the_hub_alone(image: str, tmp_path: Path) -> None:
    state, data = tmp_path / "state", tmp_path / "data"
    for folder in (state, data):
        folder.mkdir()
        os.chown(folder, 10001, 10001)
    (data / "probe.py").write_text(_PROBE)
    with ExitStack() as stack:
        network = stack.enter_context(container.allow_listed_network(8443))
        for port in (8443, 8444):
            listener = stack.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((container.HUB, port))
            listener.listen()
        arguments = [*container.hardened(state, data), network, "--entrypoint", "python3"]
        done = container.run(image, arguments, "/data/probe.py", container.HUB, "8443", "8444")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["uid"] == 10001
    assert set(found["capabilities"]) == {"0000000000000000"}
    assert found["no_new_privileges"] == "1"
    assert {folder: code for folder, code in found["written"].items() if code == 0} == {"/state": 0, "/tmp": 0}
    assert set(found["written"].values()) == {0, _READ_ONLY}
    assert found["reached"] == [True, False]
    assert found["programs"] == []
    assert found["environment"] == {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    }


def test_the_program_starts_without_a_network_and_with_a_read_only_root(image: str, tmp_path: Path) -> None:
    state, data = tmp_path / "state", tmp_path / "data"
    for folder in (state, data):
        folder.mkdir()
        os.chown(folder, 10001, 10001)
    arguments = [*container.hardened(state, data), "--network=none"]
    said = container.run(image, arguments, "--version")
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("medfl ")
    demo = container.run(image, arguments, "demo", "--out", "/state/demo", timeout_s=400)
    assert demo.returncode == 0, demo.stderr[-2000:]
    assert (state / "demo" / "metrics.json").exists()


def test_the_compose_file_asks_for_everything_that_hardens_a_container() -> None:
    service = container.compose_service()
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "ports" not in service  # nobody comes in
    assert [mount.rsplit(":", 1)[1] for mount in service["volumes"] if mount.split(":")[1] == "/data"] == ["ro"]
    assert "/var/run/docker.sock" not in str(service)

"""The image a hospital runs, built from the shipped Dockerfile and hardened as the shipped compose file says."""

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from medfl.data.manifest import write_manifest
from medfl.data.phantoms import make_phantoms
from medfl.governance.audit_log import AuditLog

from . import container
from .federation import federation, rounds_of

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


_CONFIG = """
name: contained
seed: 3
task: {kind: segmentation, dimensions: 2, classes: {structure-a: 1, structure-b: 2}, patch: [32, 32]}
data:
  source: {kind: phantoms, dimensions: 2, subjects: 30, sites: 1}
  sites: {kind: column}
  split: {train: 0.5, validation: 0.2, test: 0.3}
network: {kind: unet, channels: [4, 8], strides: [2], residual_units: 1, features: 4}
training: {rounds: 2, batch_size: 4, learning_rate: 0.01}
federation: {minimum_replies: 1, join_timeout_s: 120, round_timeout_s: 120}
evaluation: {minimum_subjects: 5, uncertainty_passes: 1}
compute: {threads: 1, device: cpu}
"""


def test_a_hardened_container_joins_a_hub_and_takes_part_in_an_approved_plan(image: str, tmp_path: Path) -> None:
    state, data = tmp_path / "state", tmp_path / "data"
    made = make_phantoms(data, dimensions=2, subjects=30, visits=1, sites=1)
    rows = tuple(replace(row, split="", site="") for row in made.rows)
    write_manifest(replace(made, rows=rows), data / "manifest.csv")
    state.mkdir()
    for path in (state, data, *data.rglob("*")):
        os.chown(path, 10001, 10001)
    with ExitStack() as stack:
        lent = stack.enter_context(federation())
        network = stack.enter_context(container.allow_listed_network(lent.port))
        arguments = [*container.hardened(state, data), network]

        def medfl(*words: str) -> str:
            done = container.run(image, arguments, *words)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        def given(path: Path) -> str:
            shutil.copy(path, state / path.name)
            os.chown(state / path.name, 10001, 10001)
            return f"/state/{path.name}"

        lent.make_hub(container.HUB)
        lent.start_hub()
        medfl("site", "init", "/state/site", "--name", "site-1", "--manifest", "/data/manifest.csv", "--by", "Jo")
        answer = lent.folder / "answer.json"
        lent.medfl("hub", "enroll", lent.hub, state / "site" / "enrolment-request.json", "--out", answer)
        medfl("site", "enroll", "/state/site", given(answer), "--fingerprint", lent.fingerprint, "--by", "Jo")
        (lent.folder / "run.yaml").write_text(_CONFIG)
        reasons = ("--protocol", "x", "--legal-basis", "x", "--purpose", "x", "--contact", "x")
        created = lent.medfl(
            *("plan", "create", "run.yaml", "--out", "plan.json", "--sites", "site-1", "--expires", "2099-12-31"),
            *(*reasons, "--json"),
        )
        plan, digest = given(lent.folder / "plan.json"), json.loads(created)["sha256"]
        medfl("plan", "approve", plan, "--site", "/state/site", "--by", "Jo", "--sha256", digest)
        log = lent.folder / "container.out"
        stack.enter_context(container.running(image, arguments, log, "site", "run", "/state/site"))
        lent.wait_for_sites("site-1")
        assert container.run(image, arguments, "site", "health", "/state/site").returncode in (0, 1)
        store = lent.submit(lent.folder / "plan.json")
        lent.wait_for_end(store)
        replied = [site.site for record in rounds_of(store) for site in record.sites if not site.refused]

    worker = json.loads((state / "site" / "run" / "worker.json").read_text())
    assert (worker["network"], worker["files"]) == ("locked", "locked")
    assert replied == ["site-1"] * 2
    assert AuditLog(state / "site" / "audit.jsonl").verify() is None


def test_the_compose_file_asks_for_everything_that_hardens_a_container() -> None:
    service = container.compose_service()
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "ports" not in service  # nobody comes in
    assert [mount.rsplit(":", 1)[1] for mount in service["volumes"] if mount.split(":")[1] == "/data"] == ["ro"]
    assert "/var/run/docker.sock" not in str(service)

"""A federation in a network of its own: whatever goes anywhere else is counted, and a canary in the data is looked for.

The namespace has a way out that leads nowhere and a name server that nobody runs, so that a question for a name, a
telemetry message or an update check is a packet that the kernel counts.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from medfl.config.reading import parse_config
from medfl.data.manifest import Manifest, StudyRow, write_manifest
from medfl.data.phantoms import make_phantoms

from .federation import federation
from .flower_processes import free_port, missing_programs
from .three_sites import plan_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CANARY = "Mustermann"
SITES = ("site-1", "site-2")
_SPACE = "medfl-quiet"
_RULES = """
table inet quiet {
  chain out {
    type filter hook output priority 0;
    ip daddr != 127.0.0.0/8 meta l4proto { tcp, udp } counter
    ip6 daddr != ::1 meta l4proto { tcp, udp } counter
  }
}
"""
_CONFIG = """
name: {name}
seed: 3
task: {{kind: segmentation, dimensions: 2, classes: {{structure-a: 1, structure-b: 2}}, patch: [32, 32]}}
data:
  source: {{kind: phantoms, dimensions: 2, subjects: 44, sites: 2}}
  sites: {{kind: column}}
  split: {{train: 0.5, validation: 0.2, test: 0.3}}
network: {{kind: unet, channels: [4, 8], strides: [2], residual_units: 1, features: 4}}
training: {{rounds: 1, batch_size: 4, learning_rate: 0.01}}
federation: {{minimum_replies: 2, join_timeout_s: 120, round_timeout_s: 120}}
evaluation: {{every: 1, minimum_subjects: 5, uncertainty_passes: 1}}
compute: {{threads: 1, device: cpu}}
"""


class Quiet:
    """A network namespace that counts."""

    inside = ("ip", "netns", "exec", _SPACE)

    def packets(self) -> int:
        """Return how many packets went anywhere but to this machine."""
        listed = json.loads(_done(*self.inside, "nft", "-j", "list", "table", "inet", "quiet"))
        rules = [entry["rule"]["expr"] for entry in listed["nftables"] if "rule" in entry]
        return sum(part["counter"]["packets"] for expression in rules for part in expression if "counter" in part)

    def python(self, code: str) -> str:
        """Run Python inside."""
        ran = subprocess.run([*self.inside, sys.executable, "-c", code], capture_output=True, text=True, check=False)
        return ran.stdout + ran.stderr


def _done(*command: str, text: str = "") -> str:
    ran = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{command}: {ran.stderr}"
    return ran.stdout


@pytest.fixture
def quiet(require: Callable[[bool, str], None]) -> Iterator[Quiet]:
    missing = [name for name in ("ip", "nft") if shutil.which(name) is None] + missing_programs()
    require(not missing and os.geteuid() == 0, f"root, and {', '.join(missing) or 'nothing more'}")
    names = Path("/etc/netns") / _SPACE
    names.mkdir(parents=True, exist_ok=True)
    (names / "resolv.conf").write_text("nameserver 192.0.2.53\noptions timeout:1 attempts:1\n")
    _done("ip", "netns", "add", _SPACE)
    made = Quiet()
    try:
        for words in (
            ("ip", "link", "set", "lo", "up"),
            ("ip", "link", "add", "nowhere", "type", "veth", "peer", "name", "nobody"),
            ("ip", "addr", "add", "198.51.100.2/24", "dev", "nowhere"),
            ("ip", "link", "set", "nowhere", "up"),
            ("ip", "link", "set", "nobody", "up"),
            ("ip", "route", "add", "default", "via", "198.51.100.1"),
        ):
            _done(*made.inside, *words)
        _done(*made.inside, "nft", "-f", "-", text=_RULES)
        yield made
    finally:
        subprocess.run(["ip", "netns", "delete", _SPACE], check=False)
        shutil.rmtree(names, ignore_errors=True)


def _patients(folder: Path) -> Manifest:
    """Write made-up patients whose canary is in every name, and in the headers of the pictures; one is broken."""
    made = make_phantoms(folder, dimensions=2, subjects=44, visits=1, sites=2, seed=3)
    rows = tuple(_marked(made, row, place) for place, row in enumerate(made.rows))
    (folder / rows[0].image).write_bytes(b"\x89PNG\r\n\x1a\n" + CANARY.encode())
    return replace(made, rows=rows)


def _marked(made: Manifest, row: StudyRow, place: int) -> StudyRow:
    text = PngImagePlugin.PngInfo()
    text.add_text("PatientName", f"{CANARY}^Erika")
    for path in (made.image_path(row), made.target_path(row)):
        with Image.open(path) as picture:
            picture.load()
            picture.save(path.with_name(f"{CANARY}-{path.name}"), pnginfo=text)
    image, target = Path(row.image), Path(row.target)
    return replace(
        row,
        subject=f"{CANARY}-{place:04d}",
        study=f"{CANARY}-{place:04d}-1",
        image=str(image.with_name(f"{CANARY}-{image.name}")),
        target=str(target.with_name(f"{CANARY}-{target.name}")),
        split="",
    )


def _seen(*places: Path) -> list[str]:
    """Return the files below the places that hold the canary, in any capitals and in UTF-16 as well."""
    marks = [CANARY.lower().encode(), CANARY.lower().encode("utf-16-le")]
    files = [path for place in places for path in ([place] if place.is_file() else place.rglob("*")) if path.is_file()]
    assert files
    return [str(path) for path in files if any(mark in path.read_bytes().lower() for mark in marks)]


def test_no_packet_goes_anywhere_else_and_no_canary_leaves_its_site(quiet: Quiet, tmp_path: Path) -> None:
    patients = tmp_path / f"{CANARY}-ward"
    manifest = _patients(patients)
    write_manifest(manifest, patients / "manifest.csv")
    with federation(quiet.inside) as lent:
        lent.bring_together(manifest, *SITES)
        plan = plan_of(parse_config(_CONFIG.format(name="whole")), lent, SITES)
        lent.medfl("plan", "show", plan, "--site", lent.site("site-1"))
        lent.wait_for_end(lent.submit(plan))

        for path in patients.glob("images/*"):
            path.write_bytes(CANARY.encode())
        for cached in (lent.site("site-1") / "cache").glob("*"):
            cached.unlink()
        failed = lent.submit(plan_of(parse_config(_CONFIG.format(name="broken")), lent, SITES))
        lent.wait_for(lambda: bool(failed.read_stopped()) or failed.is_finished(), "the failing run", 200)

        doctor = lent.medfl("site", "doctor", lent.site("site-1"), "--json", code=1)
        status = lent.medfl("site", "status", lent.site("site-1"))
        log = lent.medfl("log", "show", lent.site("site-1"))
        bundle = lent.folder / "help.zip"
        lent.medfl("site", "support-bundle", lent.site("site-1"), "--out", bundle)
        port = free_port()
        lent.start("dashboard", "dashboard", lent.hub / "runs", "--port", str(port))
        page = f"from urllib.request import urlopen; print(urlopen('http://127.0.0.1:{port}/').status)"
        lent.wait_for(lambda: "200" in quiet.python(page), "the dashboard")
        time.sleep(3)
        assert quiet.packets() == 0
        lent.stop()

        said = lent.folder / "said.txt"
        said.write_text("\n".join([doctor, status, log]))
        with zipfile.ZipFile(bundle) as archive:
            archive.extractall(lent.folder / "help")
        outputs = list(lent.folder.glob("*.out"))
        at_sites = [lent.site(name) / part for name in SITES for part in ("logs", "audit.jsonl")]
        assert _seen(lent.hub, said, lent.folder / "help", *outputs, *at_sites) == []
        assert _seen(lent.site("site-1") / "runs"), "the canary was not even at the site: the test looks for nothing"

    quiet.python("import socket; socket.getaddrinfo('example.org', 443)")
    assert quiet.packets() > 0, "the namespace counts nothing: the test shows nothing"

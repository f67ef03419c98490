"""The committed bundle: unchanged, licensed, and without a way to reach another machine."""

import re
from hashlib import sha256
from pathlib import Path

import pytest

BUILT = Path(__file__).parents[4] / "app" / "dashboard" / "viewer" / "built"
FRONTEND = BUILT.parent / "frontend"
SCRIPTS = sorted(BUILT.glob("*.js"))

#: Addresses in comments of niivue's shaders, in its package description and in a namespace: none is ever asked.
HARMLESS = re.compile(
    r"http://www\.w3\.org/2000/svg|http://www\.aclockworkberry\.com/|https://bgolus\.medium\.com/"
    r"|https://en\.wikipedia\.org/wiki/Alpha_compositing|https://gamedev\.stackexchange\.com/"
    r"|https://math\.stackexchange\.com/|https://stackoverflow\.com/|https://webglfundamentals\.org/"
    r"|https://github\.com/(niivue/niivue|eskimoblood/processingSketches)"
)
#: Ways to reach the network or to run text as code; the build replaces the first ones with a function that refuses.
FORBIDDEN = re.compile(
    r"(?<![\w.$])fetch\(|\b(window|globalThis|self)\.fetch\b|\bnew XMLHttpRequest|\bnew WebSocket|\bnew EventSource"
    r"|\bsendBeacon|\bimportScripts|\bnew (Shared)?Worker\(|\bRTCPeerConnection|\bserviceWorker"
    r"|(?<![\w.$])eval\(|\bnew Function\(|document\.write\(|createElement\([\"'](script|iframe|link|object|embed)"
)


def test_there_is_a_bundle() -> None:
    assert len(list(BUILT.glob("viewer-*.js"))) == 1


def test_every_file_is_the_one_that_was_recorded() -> None:
    recorded = dict(reversed(line.split(maxsplit=1)) for line in (BUILT / "SHA256SUMS").read_text().splitlines())
    found = {path.name: sha256(path.read_bytes()).hexdigest() for path in BUILT.iterdir() if path.name != "SHA256SUMS"}
    assert found == recorded


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_script_can_ask_another_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert [match.group() for match in FORBIDDEN.finditer(text)] == []
    addresses = re.findall(r"(?:https?|wss?|ftp)://[^\s\"'`\\)]+", text)
    assert [address for address in addresses if not HARMLESS.match(address)] == []


def test_scripts_import_only_each_other() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in SCRIPTS)
    imported = re.findall(r"(?:[}\s]from|\bimport\(?)\"([^\"\s]+)\"", text)
    assert imported
    assert all(name.startswith("./") and (BUILT / name).is_file() for name in imported), imported


@pytest.mark.parametrize("sample", ["fetch(url)", "a=window.fetch", "new WebSocket(x)", "new Worker(u)", "eval(s)"])
def test_the_search_finds_what_it_looks_for(sample: str) -> None:
    assert FORBIDDEN.search(sample)


def test_the_licences_of_what_is_inside_lie_beside_it() -> None:
    text = (BUILT / "LICENSES.txt").read_text(encoding="utf-8")
    for name in ("@niivue/niivue 0.69.0 (BSD-2-Clause)", "gl-matrix", "fflate", "nifti-reader-js"):
        assert name in text
    assert "Copyright (c) 2021, Niivue" in text


def test_the_recipe_pins_every_package_and_names_no_host() -> None:
    package, lock = ((FRONTEND / name).read_text() for name in ("package.json", "package-lock.json"))
    assert not re.search(r'"[\^~]\d', package)
    assert '"resolved"' not in lock
    assert '"integrity"' in lock

"""A real Streamlit server on loopback and a page in Debian's Chromium, with everything it asks for written down."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Error, Locator, Page, Route, sync_playwright

ROOT = Path(__file__).parents[4]
CHROMIUM = Path("/usr/bin/chromium")
PATIENCE_MS = 120_000
_PATIENCE_S = 60.0
#: WebGL drawn by a program, and none of the browser's own calls home.
_FLAGS = (
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
    "--disable-features=LocalNetworkAccessChecks",  # a page answered by the test itself may still ask the server
)
_POLICY = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' ws://127.0.0.1:*; "
    "worker-src 'self' blob:; frame-src 'self'; base-uri 'none'; object-src 'none'"
)


@contextmanager
def streamlit_server(page: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run a page and yield its address; end the server afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {
        "server.port": port,
        "server.address": "127.0.0.1",
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
    }
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    server = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", str(page), *flags],
        cwd=ROOT,
        env=os.environ | environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(f"{address}/_stcore/health", server)
        yield address
    finally:
        server.terminate()
        server.wait(20)


def _wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    """Return when the server answers."""
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end and server.poll() is None:
        try:
            with urlopen(address):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("The Streamlit server did not start.")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a browser and close it afterwards."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(_FLAGS))
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page with one viewer.

    Attributes
    ----------
    page : Page
    requests : list of str
        Every address the page asked for, WebSockets too.
    errors : list of str
        Exceptions that no script caught.
    """

    page: Page
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @classmethod
    def at(
        cls, browser: Browser, address: str, query: dict[str, str], size: tuple[int, int], script: str = ""
    ) -> "Opened":
        """Open the page under the dashboard's content security policy and wait until the image is drawn.

        `script` runs in the page before everything else.
        """
        page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        opened = cls(page)
        page.set_default_timeout(PATIENCE_MS)
        if script:
            page.add_init_script(script)
        page.on("request", lambda request: opened.requests.append(request.url))
        page.on("websocket", lambda websocket: opened.requests.append(websocket.url))
        page.on("pageerror", lambda error: opened.errors.append(str(error)))
        page.route(re.compile(rf"{re.escape(address)}/(\?.*)?$"), _with_policy)
        page.goto(f"{address}/?{urlencode(query)}")
        page.locator(".viewer[data-ready=true]").wait_for()
        return opened

    def foreign(self) -> list[str]:
        """Return what was asked of another machine."""
        parts = [(url, urlsplit(url)) for url in self.requests]
        return [url for url, part in parts if part.scheme not in ("data", "blob") and part.hostname != "127.0.0.1"]

    def plane(self, name: str) -> Locator:
        """Return the drawn part of a plane."""
        return self.page.locator(f"[data-plane={name}] .surface")

    def pixels(self, name: str) -> NDArray[np.int16]:
        """Return what a plane looks like now, without crosshair, ruler and letters: (rows, columns, RGB)."""
        marks = self.page.locator(f"[data-plane={name}] :is(.marks, .letter)")
        marks.evaluate_all("(marks) => marks.forEach((mark) => (mark.style.visibility = 'hidden'))")
        self.settle()
        box = self.plane(name).bounding_box()
        assert box is not None
        clip = {side: round(box[side]) for side in ("x", "y", "width", "height")}
        shot = self.page.screenshot(clip=clip, timeout=PATIENCE_MS)  # type: ignore[arg-type]
        marks.evaluate_all("(marks) => marks.forEach((mark) => (mark.style.visibility = ''))")
        return np.asarray(Image.open(BytesIO(shot)).convert("RGB")).astype(np.int16)

    def settle(self) -> None:
        """Wait until everything asked for is on the screen."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def text(self, selector: str) -> str:
        """Return the text of one element."""
        return self.page.locator(selector).inner_text()


def _with_policy(route: Route) -> None:
    """Answer with the page and the policy that the dashboard sets."""
    try:
        answer = route.fetch()
        route.fulfill(response=answer, headers=answer.headers | {"content-security-policy": _POLICY})
    except Error:
        route.abort()


def near(pixels: NDArray[np.int16], colour: Sequence[int], slack: int = 40) -> NDArray[np.bool_]:
    """Return which pixels, (rows, columns), have about one colour."""
    return np.asarray((np.abs(pixels - np.array(colour, np.int16)) <= slack).all(axis=-1))


def centroid(found: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the mean column and row; there must be some."""
    rows, columns = np.nonzero(found)
    assert len(rows)
    return float(columns.mean()), float(rows.mean())


def rgb(colour: str) -> tuple[int, int, int]:
    """Return the parts of ``#RRGGBB``."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return red, green, blue

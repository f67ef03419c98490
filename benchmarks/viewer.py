"""Seconds until a volume is visible and milliseconds per slice, beside the same volume in a stock `st.image` viewer.

One Streamlit server on loopback and Debian's Chromium without a graphics card. *Visible*: from opening the address in
a fresh browser context to the drawn image, the median of several; the server has shown one page before. *Step*: from
an input event in the browser to after the frame with the new slice was painted, the median of 100 steps; a browser
paints 60 times a second at most, so that 16.7 ms is the floor. The stock viewer is a slider and `st.image` in a
fragment; its step ends when the new picture is decoded. `canvas` is what the viewer takes on such a machine, `niivue`
what it takes where there is a graphics card, here played by a program. The hippocampus volume comes from `MEDFL_DATA`;
the one of head size is made up.

    python benchmarks/viewer.py --out viewer.json
"""

import argparse
import datetime
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from medfl.imaging.nifti import read_nifti, write_nifti
from medfl.imaging.volume import Volume

ROOT = Path(__file__).parents[1]
CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox --disable-background-networking --disable-component-update --disable-sync --disable-quic "
    "--no-first-run"
).split()
#: niivue needs WebGL, which a program has to play here; that slows the whole browser, so the others run without it.
WEBGL_FLAGS = "--use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader --ignore-gpu-blocklist".split()
VOLUMES = ("hippocampus", "head_size")
LARGE_SHAPE = (180, 256, 256)
PATIENCE_MS = 180_000

#: Waits until the page has painted what the last event changed.
PAINTED = """() => new Promise((done) => requestAnimationFrame(() => {
  const channel = new MessageChannel();
  channel.port1.onmessage = done;
  channel.port2.postMessage(0);
}))"""
OWN_STEPS = f"async (steps) => {{ const painted = {PAINTED};"
OWN_STEPS += """
  const host = [...document.querySelectorAll('*')].find((node) => node.shadowRoot?.querySelector('.viewer'));
  const plane = host.shadowRoot.querySelector('[data-plane=axial]');
  const [surface, number, slider] = ['.surface', '.number', 'input'].map((part) => plane.querySelector(part));
  const times = [];
  let way = 1;
  for (let step = 0; step < steps; step += 1) {
    if (slider.value === slider.max) way = -1;
    if (slider.value === '1') way = 1;
    const before = number.textContent;
    const start = performance.now();
    surface.dispatchEvent(new WheelEvent('wheel', { deltaY: -100 * way, bubbles: true, cancelable: true }));
    await painted();
    times.push(performance.now() - start);
    if (number.textContent === before) throw new Error('the slice did not change');
  }
  return times;
}"""
STOCK_WAIT = """(before) => new Promise((done) => {
  const look = () => {
    const image = document.querySelector('[data-testid=stImage] img');
    if (!image || image.src === before || !image.complete) return requestAnimationFrame(look);
    image.decode().then(() => requestAnimationFrame(() => done(performance.now())));
  };
  look();
})"""


def main() -> None:
    """Measure, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often a page is opened")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--page", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.page:
        show_page()
        return
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as address, sync_playwright() as playwright:
        write_volumes(Path(folder))
        results = [
            result
            for viewers, flags in ((("canvas", "stock"), FLAGS), (("niivue",), [*FLAGS, *WEBGL_FLAGS]))
            for result in figures(
                playwright.chromium.launch(executable_path=CHROMIUM, args=flags), address, viewers, arguments
            )
        ]
    print_table(results)
    report = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, no graphics card",
        "python": platform.python_version(),
        "rounds": arguments.rounds,
        "steps": arguments.steps,
        "results": results,
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


def figures(
    browser: Browser, address: str, viewers: Sequence[str], arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return the figures of some viewers with every volume, and close the browser."""
    opened(browser, f"{address}/?volume=hippocampus&viewer={viewers[0]}")[1].context.close()
    results = [
        measured(browser, f"{address}/?volume={volume}&viewer={viewer}", volume, viewer, arguments)
        for volume in VOLUMES
        for viewer in viewers
    ]
    browser.close()
    return results


def show_page() -> None:
    """Show what the query asks for; Streamlit runs this file again for every page."""
    import streamlit as st

    from app.dashboard.viewer.component import show_volume
    from app.dashboard.viewer.prepared import prepared_volume
    from app.dashboard.viewer.structures import structures_of

    st.set_page_config(layout="wide")
    folder = Path(os.environ["VIEWER_BENCHMARK"]) / st.query_params["volume"]
    viewer = st.query_params["viewer"]
    if viewer == "stock":
        stock_viewer(folder / "image.nii.gz")
        return
    prepare = st.cache_data(max_entries=2)(prepared_volume)
    prepared = prepare(folder / "image.nii.gz", reference=folder / "mask.nii.gz", model=folder / "mask.nii.gz")
    engine: Any = viewer
    show_volume(prepared, key="viewer", structures=structures_of({"anterior": 1, "posterior": 2}), engine=engine)


def stock_viewer(path: Path) -> None:
    """Show axial slices with a slider and `st.image`."""
    import streamlit as st

    @st.cache_data(max_entries=2)
    def voxels(path: str) -> Any:
        array = read_nifti(Path(path)).array[0].astype(np.float32)
        low, high = np.quantile(array[::2, ::2, ::2], (0.01, 0.99))
        return np.clip((array - low) * 255 / (high - low), 0, 255).astype(np.uint8)

    @st.fragment
    def one_slice() -> None:
        shown = voxels(str(path))
        number = st.slider("slice", 0, len(shown) - 1, len(shown) // 2)
        st.image(shown[number, ::-1, ::-1], width=460)

    one_slice()


def write_volumes(folder: Path) -> None:
    """Write a hippocampus volume with its mask, and a made-up volume of the size of a head scan."""
    data = os.environ.get("MEDFL_DATA")
    if not data:
        raise SystemExit("MEDFL_DATA must name the folder with the real data sets.")
    source = Path(data) / "msd-hippocampus"
    name = sorted((source / "images").iterdir())[0].name
    generator = np.random.default_rng(3)
    noise = generator.normal(1000, 200, (1, *LARGE_SHAPE)).astype(np.int16)
    blob = np.zeros((1, *LARGE_SHAPE), np.uint8)
    blob[:, 60:120, 90:160, 80:130], blob[:, 60:120, 90:160, 130:170] = 1, 2
    volumes = {
        "hippocampus": (read_nifti(source / "images" / name), read_nifti(source / "labels" / name)),
        "head_size": (Volume(noise, np.eye(4)), Volume(blob, np.eye(4))),
    }
    for volume, (image, mask) in volumes.items():
        (folder / volume).mkdir()
        write_nifti(image, folder / volume / "image.nii.gz")
        write_nifti(mask, folder / volume / "mask.nii.gz")


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Run this file as a Streamlit page on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = f"--server.port={port} --server.address=127.0.0.1 --server.headless=true --server.fileWatcherType=none "
    options += "--browser.gatherUsageStats=false --client.toolbarMode=minimal"
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        *options.split(),
        str(Path(__file__).resolve()),
        "--",
        "--page",
    ]
    environment = os.environ | {"VIEWER_BENCHMARK": str(folder), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                urlopen(f"{address}/_stcore/health").close()
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        running.terminate()
        running.wait()


def opened(browser: Browser, address: str) -> tuple[float, Page]:
    """Open an address in a fresh context and return the seconds until the image is there, and the page."""
    page = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
    page.set_default_timeout(PATIENCE_MS)
    start = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.locator("[data-testid=stImage] img, .viewer[data-ready=true]").first.wait_for()
    page.evaluate(PAINTED)
    return time.perf_counter() - start, page


def measured(browser: Browser, address: str, volume: str, viewer: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one viewer with one volume."""
    seconds = []
    for _ in range(arguments.rounds):
        took, page = opened(browser, address)
        seconds.append(took)
        page.context.close()
    _, page = opened(browser, address)
    page.wait_for_timeout(1000)
    steps = stock_steps(page, arguments.steps) if viewer == "stock" else own_steps(page, arguments.steps)
    page.context.close()
    return {
        "volume": volume,
        "viewer": viewer,
        "visible_seconds": statistics.median(seconds),
        "visible_seconds_highest": max(seconds),
        "step_milliseconds": statistics.median(steps),
        "step_milliseconds_p95": statistics.quantiles(steps, n=20)[-1],
    }


def own_steps(page: Page, steps: int) -> list[float]:
    """Return the milliseconds from each turn of the wheel to the painted slice."""
    times: list[float] = page.evaluate(OWN_STEPS, steps)
    return times


def stock_steps(page: Page, steps: int) -> list[float]:
    """Return the milliseconds from each arrow key on the slider to the new picture."""
    page.get_by_role("slider").focus()
    way, times = "ArrowRight", []
    for _ in range(steps):
        slider = page.get_by_role("slider")
        position = int(slider.get_attribute("aria-valuenow") or slider.input_value())
        highest = int(slider.get_attribute("aria-valuemax") or slider.get_attribute("max") or 0)
        way = "ArrowLeft" if position == highest else "ArrowRight" if position == 0 else way
        before = page.locator("[data-testid=stImage] img").get_attribute("src")
        source = page.evaluate("(src) => new URL(src, location).href", before)
        start = page.evaluate("() => performance.now()")
        page.keyboard.press(way)
        times.append(page.evaluate(STOCK_WAIT, source) - start)
    return times


def print_table(results: list[dict[str, Any]]) -> None:
    """Print one line per volume and viewer."""
    print(f"{'volume':<14}{'viewer':<10}{'visible s':>10}{'highest':>9}{'ms/slice':>10}{'p95':>8}")
    for result in results:
        print(
            f"{result['volume']:<14}{result['viewer']:<10}{result['visible_seconds']:>10.2f}"
            f"{result['visible_seconds_highest']:>9.2f}{result['step_milliseconds']:>10.1f}"
            f"{result['step_milliseconds_p95']:>8.1f}"
        )


if __name__ == "__main__":
    main()

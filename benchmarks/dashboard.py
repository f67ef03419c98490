"""How long somebody waits for the dashboard, and what it holds in memory: a real server, a real browser, fifty runs.

One hippocampus run of one round is made and copied, so that the list has fifty. *First page*: from opening the address
in a fresh browser to the drawn case, the median of several; the very first one after the server's start stands beside
it. *Page switch*: from the click to the heading of the new page, the median over all pages. *Case*: from the click on
the next case to its drawn image. *Memory*: resident memory of the server with ten browsers looking at a case each.

Run: MEDFL_DATA=/path/to/data python benchmarks/dashboard.py --out dashboard.json
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.request import urlopen

from playwright.sync_api import Browser, Page, sync_playwright

from medfl.config.reading import load_config
from pipelines.simulate import simulate

ROOT = Path(__file__).parents[1]
CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox --disable-background-networking --disable-component-update --disable-sync --disable-quic "
    "--no-first-run"
).split()
SETTINGS = ("training.rounds=1", "evaluation.every=0", "evaluation.keep_releases=none")
PATIENCE_MS = 120_000
DRAWN = ".viewer[data-ready=true]"
#: The viewer draws each case from words of its own about the image; a mark on the drawn one shows that it was replaced.
MARK = """() => { for (const host of document.querySelectorAll('*'))
  host.shadowRoot?.querySelector('.viewer')?.setAttribute('data-old', 'true'); }"""
DRAWN_ANEW = """() => [...document.querySelectorAll('*')].some(
  (host) => host.shadowRoot?.querySelector('.viewer[data-ready=true]:not([data-old])'))"""
PAGES = {
    "My site": "How the model does at",
    "Privacy": "What could an attacker find out?",
    "Training": "Training is finished",
    "About the model": "What it may be used for",
}


@dataclass(frozen=True)
class Figure:
    """One measured value beside its aim, in the same unit."""

    name: str
    value: float
    unit: str
    aim: float


def main() -> None:
    """Measure, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        first = runs / "run-00"
        simulate(load_config(ROOT / "configs" / "hippocampus.yaml", SETTINGS), first)
        for number in range(1, arguments.runs):
            shutil.copytree(first, runs / f"run-{number:02d}")
        with served(runs) as (address, process), sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            figures = measured(browser, address, process, arguments)
            browser.close()
    for figure in figures:
        said = "met" if figure.value <= figure.aim else "MISSED"
        print(f"{figure.name:<44}{figure.value:>9.2f} {figure.unit:<4} aim {figure.aim:g}: {said}")
    if arguments.out:
        report = {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
            "runs": arguments.runs,
            "figures": [asdict(figure) for figure in figures],
        }
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


def measured(
    browser: Browser, address: str, process: subprocess.Popen[bytes], arguments: argparse.Namespace
) -> list[Figure]:
    """Return all figures; the order matters, since the first page warms the server."""
    cold, page = opened(browser, address)
    page.context.close()
    warm = []
    for _ in range(arguments.repeats):
        took, page = opened(browser, address)
        warm.append(took)
        page.context.close()
    _, page = opened(browser, address)
    cases = [next_case(page) for _ in range(arguments.repeats)]
    switches = [switched(page, name, text) for _ in range(arguments.repeats) for name, text in PAGES.items()]
    page.context.close()
    pages = [opened(browser, address)[1] for _ in range(arguments.sessions)]
    memory = resident_mib(process.pid)
    for page in pages:
        page.context.close()
    return [
        Figure("first page, case drawn, server just started", cold, "s", 3),
        Figure("first page, case drawn", statistics.median(warm), "s", 3),
        Figure("next case drawn", statistics.median(cases), "s", 3),
        Figure("page switch", statistics.median(switches), "s", 1),
        Figure("page switch, slowest", max(switches), "s", 1),
        Figure(f"server's memory with {arguments.sessions} sessions", memory, "MiB", 600),
    ]


def opened(browser: Browser, address: str) -> tuple[float, Page]:
    """Open the dashboard in a fresh context; return the seconds until a case is drawn, and the page."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-US").new_page()
    page.set_default_timeout(PATIENCE_MS)
    start = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.locator(DRAWN).wait_for()
    return time.perf_counter() - start, page


def next_case(page: Page) -> float:
    """Return the seconds from the click on the next case to its image; the page's old viewer must be gone first."""
    heading = page.locator("h4").first.inner_text()
    page.evaluate(MARK)
    start = time.perf_counter()
    page.get_by_role("button", name="▶").click()
    page.wait_for_function("(before) => document.querySelector('h4').innerText !== before", arg=heading)
    page.wait_for_function(DRAWN_ANEW)
    return time.perf_counter() - start


def switched(page: Page, name: str, text: str) -> float:
    """Return the seconds from the click on a page's name to its heading."""
    start = time.perf_counter()
    page.get_by_role("link", name=name, exact=True).click()
    page.get_by_text(text).first.wait_for()
    return time.perf_counter() - start


def resident_mib(number: int) -> float:
    """Return the resident memory of a process and all below it, in MiB."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,rss="], capture_output=True, text=True, check=True)
    rows = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    wanted = {number}
    for _ in rows:
        wanted |= {pid for pid, parent, _ in rows if parent in wanted}
    return sum(rss for pid, _, rss in rows if pid in wanted) / 1024


@contextmanager
def served(runs: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run `medfl dashboard` on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = "import sys; from app.cli.main import main; sys.argv[0] = 'medfl'; main()"
    command = [sys.executable, "-c", code, "dashboard", str(runs), "--port", str(port)]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                urlopen(f"{address}/health").close()
                break
            except OSError:
                time.sleep(0.1)
        yield address, running
    finally:
        running.terminate()
        running.wait()


if __name__ == "__main__":
    main()

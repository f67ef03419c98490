"""The dashboard in a real browser, on a run that `medfl demo` made."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from dashboard.run_folders import NASTY, round_record, segmentation_run
from dashboard.server import ROOT, Server, dashboard
from dashboard.viewer.browser import CHROMIUM, PATIENCE_MS, chromium
from medfl.governance.case_flags import CaseFlags
from medfl.results.history import History
from medfl.results.store import RunStore

pytestmark = pytest.mark.slow

PAGES = {
    "": "Case 1 of",
    "my-site": "How the model does at",
    "privacy": "What could an attacker find out?",
    "training": "Training is finished",
    "model": "What it may be used for",
}
CLINICIAN = {"X-Forwarded-User": "ada", "X-Forwarded-Groups": "medfl-clinician"}


@dataclass
class Visit:
    """A page with everything it asked for and complained about."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, browser: Browser, address: str, headers: dict[str, str] | None = None, **options: object) -> "Visit":
        """Open an address in a window of its own."""
        context = browser.new_context(
            viewport={"width": 1280, "height": 900}, extra_http_headers=headers or {}, locale="en-US", **options
        )  # type: ignore[arg-type]
        visit = cls(context.new_page())
        visit.page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        visit.page.on("request", lambda request: visit.requests.append(request.url))
        visit.page.on("websocket", lambda websocket: visit.requests.append(websocket.url))
        visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        visit.page.on(
            "console", lambda said: visit.complaints.append(said.text) if "Security Policy" in said.text else None
        )
        visit.page.goto(address)
        return visit

    def foreign(self) -> list[str]:
        """Return what was asked of another machine."""
        parts = [(url, urlsplit(url)) for url in self.requests]
        return [url for url, part in parts if part.scheme not in ("data", "blob") and part.hostname != "127.0.0.1"]

    def says(self, text: str) -> None:
        """Wait for a text."""
        expect(self.page.get_by_text(text).first).to_be_visible()


@pytest.fixture(scope="module")
def browser(require: Callable[[bool, str], None]) -> Iterator[Browser]:
    require(CHROMIUM.is_file(), "Chromium is not installed (Debian package chromium)")
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def demo(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `medfl demo`, with a cache of its own."""
    folder = tmp_path_factory.mktemp("demo")
    code = "import sys; from app.cli.main import main; sys.argv[0] = 'medfl'; main()"
    subprocess.run(
        [sys.executable, "-c", code, "demo", "--out", str(folder / "runs" / "demo"), "--json"],
        env=_environment(folder),
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    return folder / "runs"


def _environment(folder: Path) -> dict[str, str]:
    return os.environ | {"MEDFL_CACHE": str(folder / "cache")}


@pytest.fixture(scope="module")
def server(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    state = tmp_path_factory.mktemp("state")
    cache = ("MEDFL_CACHE", str(demo.parent / "cache"))
    with dashboard(
        tmp_path_factory.mktemp("server"), demo, "--site", str(state), "--trust-proxy", environment=[cache]
    ) as running:
        yield running


@pytest.mark.parametrize("name", PAGES)
def test_every_page_opens_asks_nothing_elsewhere_and_stays_inside_the_policy(
    browser: Browser, server: Server, name: str
) -> None:
    visit = Visit.of(browser, f"{server.address}/{name}", CLINICIAN)
    visit.says(PAGES[name])
    visit.says("Research use only. Not for diagnosis or treatment.")
    visit.page.wait_for_timeout(1500)
    assert visit.foreign() == []
    assert visit.complaints == []
    assert visit.page.get_by_text("something unexpected").count() == 0
    assert server.asked() == []
    visit.page.context.close()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_gets_in_the_way_of_a_screen_reader(browser: Browser, server: Server, name: str, scheme: str) -> None:
    visit = Visit.of(browser, f"{server.address}/{name}", CLINICIAN, color_scheme=scheme)
    visit.says(PAGES[name])
    visit.page.wait_for_timeout(3000)
    found = Axe().run(visit.page).response["violations"]
    assert {one["id"]: [node["html"][:160] for node in one["nodes"]] for one in found} == {}
    visit.page.context.close()


def test_the_viewer_shows_masks_in_three_planes(browser: Browser, server: Server) -> None:
    visit = Visit.of(browser, server.address, CLINICIAN)
    visit.page.locator(".viewer[data-ready=true]").wait_for()
    for plane in ("axial", "coronal", "sagittal"):
        assert visit.page.locator(f"[data-plane={plane}] .surface").is_visible()
    visit.says("structure-a")
    visit.page.context.close()


def test_without_a_group_of_the_proxy_nothing_is_shown(browser: Browser, server: Server) -> None:
    visit = Visit.of(browser, server.address, {"X-Forwarded-User": "eve", "X-Forwarded-Groups": "staff"})
    visit.says("Your account has no role")
    assert visit.page.get_by_text("demo").count() == 0
    visit.page.context.close()


def test_a_privacy_officer_sees_no_cases(browser: Browser, server: Server) -> None:
    headers = {"X-Forwarded-User": "dpo", "X-Forwarded-Groups": "medfl-privacy-officer"}
    visit = Visit.of(browser, server.address, headers)
    visit.says("My site")
    assert visit.page.get_by_role("link", name="Cases").count() == 0
    visit.page.context.close()


def test_a_worst_case_opens_from_my_site(browser: Browser, server: Server) -> None:
    visit = Visit.of(browser, f"{server.address}/my-site", CLINICIAN)
    visit.page.get_by_test_id("stButton").get_by_role("button", name="Open", exact=True).first.click()
    visit.page.locator(".viewer[data-ready=true]").wait_for()
    assert visit.complaints == []
    visit.page.context.close()


def test_the_language_changes_every_word_at_once(browser: Browser, server: Server) -> None:
    visit = Visit.of(browser, server.address, CLINICIAN)
    visit.page.get_by_text("Deutsch").click()
    visit.says("Fall 1 von")
    visit.says("Nur für Forschungszwecke")
    visit.page.context.close()


def test_the_server_answers_for_its_health_and_closes_what_nothing_needs(server: Server) -> None:
    with urlopen(f"{server.address}/health") as answer:
        assert answer.read() == b"ok"
        assert "default-src 'self'" in answer.headers["content-security-policy"]
    with pytest.raises(OSError, match="404"):
        urlopen(f"{server.address}/_stcore/metrics")


def test_a_flag_is_there_after_the_server_was_started_again(browser: Browser, tmp_path: Path) -> None:
    run = segmentation_run(tmp_path / "runs" / "tiny", cases=3)
    state = tmp_path / "state"
    state.mkdir()
    arguments = ("--site", str(state), "--role", "clinician")
    with dashboard(tmp_path, run, *arguments) as server:
        visit = Visit.of(browser, server.address)
        visit.page.get_by_role("textbox", name="Reason").fill("posterior tip missed")
        visit.page.get_by_role("button", name="Flag", exact=True).click()
        visit.says("This case is flagged")
        visit.page.context.close()
    assert [line.reason for line in CaseFlags(state).read().lines] == ["posterior tip missed"]
    with dashboard(tmp_path, run, *arguments) as server:
        visit = Visit.of(browser, server.address)
        visit.says("This case is flagged")
        visit.says("posterior tip missed")
        visit.page.context.close()


def test_rounds_of_a_running_run_appear_without_a_reload(browser: Browser, tmp_path: Path) -> None:
    run = segmentation_run(tmp_path / "runs" / "live", cases=1, finished=False)
    with dashboard(tmp_path, run) as server:
        visit = Visit.of(browser, f"{server.address}/training")
        visit.says("Round 2 of 4")
        loads = [url for url in visit.requests if urlsplit(url).path.endswith("/training")]
        RunStore(run).write_history(History(rounds=tuple(round_record(number) for number in (1, 2, 3))))
        visit.says("Round 3 of 4")
        visit.says("refused")
        assert [url for url in visit.requests if urlsplit(url).path.endswith("/training")] == loads
        visit.page.context.close()


def test_html_in_names_runs_nowhere_and_loads_nothing(browser: Browser, tmp_path: Path) -> None:
    run = segmentation_run(tmp_path / "runs" / "tiny", cases=1)
    header = ["site", "subject", "study", "split", "dice/left", "entropy", "sex", "prediction"]
    RunStore(run).write_cases(
        NASTY.replace("/", "|"), header, [[NASTY, NASTY, NASTY, "test", "0.5", "0.1", NASTY, NASTY]]
    )
    (run / "cases.csv").write_bytes(next((run / "cases").glob("<*")).read_bytes())
    with dashboard(tmp_path, run) as server:
        for name in PAGES:
            visit = Visit.of(browser, f"{server.address}/{name}")
            visit.page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
            visit.says(PAGES[name])
            visit.page.wait_for_timeout(1000)
            assert visit.foreign() == []
            assert visit.page.locator("img[src=x]").count() == 0
            visit.page.context.close()

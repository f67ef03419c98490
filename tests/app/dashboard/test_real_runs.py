"""The dashboard in a real browser, on short runs over real hippocampus volumes and real chest X-rays."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from dashboard.server import Server, dashboard
from dashboard.test_browser import Visit
from dashboard.viewer.browser import CHROMIUM, chromium
from medfl.config.reading import load_config
from pipelines.simulate import simulate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CONFIGS = Path(__file__).parents[3] / "configs"
SMALL = ("network.channels=[4, 8]", "network.strides=[2]", "network.residual_units=1", "network.features=4")
PICTURES_PER_CLASS = 60
HEADINGS = {
    "my-site": "How the model does at",
    "privacy": "What left the site",
    "training": "Training is finished",
    "model": "What it may be used for",
}


def _few_pictures(data: Path, folder: Path) -> Path:
    """Write an index of the first pictures of every class and official part."""
    with (data / "kermany-cxr" / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    kept: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        group = kept.setdefault((row["label"], row["split"]), [])
        if len(group) < PICTURES_PER_CLASS:
            group.append(row)
    with (folder / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row for group in kept.values() for row in group)
    return folder / "index.csv"


@pytest.fixture(scope="module")
def server(
    real_data: Path, require: Callable[[bool, str], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    require(CHROMIUM.is_file(), "Chromium is not installed (Debian package chromium)")
    folder = tmp_path_factory.mktemp("real")
    cache, index = folder / "cache", _few_pictures(real_data, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDFL_DATA", str(real_data))
        patch.setenv("MEDFL_CACHE", str(cache))
        few = ("training.rounds=1", "evaluation.every=1")
        simulate(load_config(CONFIGS / "hippocampus.yaml", (*few, *SMALL)), folder / "runs" / "hippocampus")
        pictures = (f"data.source.index={index}", "privacy.kind=dp_sgd", "privacy.epsilon=8", "privacy.delta=0.001")
        simulate(load_config(CONFIGS / "chest_xray.yaml", (*few, *pictures)), folder / "runs" / "xray")
    with dashboard(folder, folder / "runs", environment=[("MEDFL_CACHE", str(cache))]) as running:
        yield running


@pytest.fixture(scope="module")
def browser(server: Server) -> Iterator[Browser]:
    with chromium() as running:
        yield running


def _chosen(browser: Browser, server: Server, page: str, run: str) -> Visit:
    visit = Visit.of(browser, f"{server.address}/{page}")
    visit.page.get_by_role("combobox").first.click()
    visit.page.get_by_role("option", name=run).click()
    return visit


@pytest.mark.parametrize(
    ("run", "planes", "word"),
    [("hippocampus", ("axial", "coronal", "sagittal"), "Dice"), ("xray", ("picture",), "pneumonia")],
)
def test_a_real_case_is_drawn_with_what_the_model_says(
    browser: Browser, server: Server, run: str, planes: tuple[str, ...], word: str
) -> None:
    visit = _chosen(browser, server, "", run)
    for plane in planes:
        visit.page.locator(f".viewer[data-ready=true] [data-plane={plane}] .surface").wait_for()
    expect(visit.page.get_by_test_id("stMain").get_by_text(word).locator("visible=true").first).to_be_visible()
    assert visit.foreign() == []
    assert visit.complaints == []
    visit.page.context.close()


@pytest.mark.parametrize("page", HEADINGS)
@pytest.mark.parametrize("run", ["hippocampus", "xray"])
def test_every_page_says_something_about_a_real_run(browser: Browser, server: Server, page: str, run: str) -> None:
    visit = _chosen(browser, server, page, run)
    visit.says(HEADINGS[page])
    assert visit.page.get_by_text("something unexpected").count() == 0
    assert visit.complaints == []
    visit.page.context.close()


def test_a_private_run_shows_its_epsilon_and_what_remains(browser: Browser, server: Server) -> None:
    visit = _chosen(browser, server, "privacy", "xray")
    visit.says("ε")
    visit.page.context.close()

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser

from dashboard.viewer import phantom
from dashboard.viewer.browser import CHROMIUM, Opened, chromium, streamlit_server

Opener = Callable[..., Opened]
NASTY_NAME = "<img src=x onerror=document.title='run'>"


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the cases that the page shows by name."""
    folder = tmp_path_factory.mktemp("viewer-cases")
    phantom.write(folder / "phantom")
    picture = Image.new("L", (320, 160), 60)
    ImageDraw.Draw(picture).rectangle((40, 20, 79, 39), fill=200)
    mask = np.zeros((160, 320), np.uint8)
    mask[100:140, 200:280] = 1
    (folder / "picture").mkdir()
    picture.save(folder / "picture" / "image.png")
    Image.fromarray(mask).save(folder / "picture" / "model.png")
    (folder / "picture" / "classes.json").write_text(json.dumps({NASTY_NAME: 1}))
    return folder


@pytest.fixture(scope="session")
def address(cases: Path, require: Callable[[bool, str], None]) -> Iterator[str]:
    """Address of a running page."""
    require(CHROMIUM.is_file(), "Chromium is not installed (Debian package chromium)")
    with streamlit_server(Path(__file__).with_name("page.py"), {"VIEWER_CASES": str(cases)}) as running:
        yield running


@pytest.fixture(scope="session")
def browser(address: str) -> Iterator[Browser]:
    """One Chromium for all tests."""
    with chromium() as running:
        yield running


@pytest.fixture
def open_viewer(browser: Browser, address: str) -> Iterator[Opener]:
    """Open a case; afterwards no page may have asked another machine or met an error."""
    pages: list[Opened] = []

    def opener(size: tuple[int, int] = (1280, 1000), script: str = "", **query: str) -> Opened:
        pages.append(Opened.at(browser, address, query, size, script))
        return pages[-1]

    yield opener
    for opened in pages:
        opened.page.close()
        assert opened.foreign() == []
        assert opened.requests
        assert opened.errors == []

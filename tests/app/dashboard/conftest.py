from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.dashboard.serving import MAIN
from app.dashboard.settings import VARIABLE, DashboardSettings, Role

OpenMain = Callable[..., AppTest]
OpenScreen = Callable[..., AppTest]
PATIENCE_S = 60


@pytest.fixture
def open_main(monkeypatch: pytest.MonkeyPatch) -> OpenMain:
    """Run the whole dashboard without a browser: it shows its first page."""

    def opener(runs: Path, *, site: Path | None = None, role: Role | None = None, language: str = "en") -> AppTest:
        st.cache_resource.clear()
        settings = DashboardSettings(runs=runs, site=site, local_role=role)
        monkeypatch.setenv(VARIABLE, settings.environment()[VARIABLE])
        test = AppTest.from_file(str(MAIN), default_timeout=PATIENCE_S)
        test.session_state["language"] = language
        return test.run()

    return opener


@pytest.fixture
def open_screen() -> OpenScreen:
    """Run one screen for one run folder."""

    def opener(
        screen: str, run: Path, *, site: Path | None = None, role: Role | None = None, language: str = "en"
    ) -> AppTest:
        st.cache_resource.clear()
        test = AppTest.from_function(_script, default_timeout=PATIENCE_S, args=(screen, run, site, role, language))
        return test.run()

    return opener


def _script(screen: str, run: "Path", site: "Path | None", role: "Role | None", language: str) -> None:
    """Show one screen; AppTest runs this text alone, so names of other modules stand in quotes."""
    from importlib import import_module

    from app.dashboard.context import Context
    from app.dashboard.roles import visitor_of
    from app.dashboard.runs import entry_of
    from app.dashboard.settings import DashboardSettings
    from app.dashboard.wording import wording

    settings = DashboardSettings(runs=run.parent, site=site, local_role=role)
    entry = entry_of(run, run.parent)
    assert entry is not None
    context = Context(settings, visitor_of(settings, {}), wording("de" if language == "de" else "en"), entry)
    import_module(f"app.dashboard.screens.{screen}").show(context)


def texts(test: AppTest) -> str:
    """Return everything a page says, one piece per line."""
    assert not test.exception, [error.value for error in test.exception]
    kinds = ("markdown", "caption", "info", "warning", "error", "subheader", "title", "success")
    found = [str(one.value) for kind in kinds for one in test.get(kind)]
    found += [f"{one.label} {one.value}" for one in test.get("metric")]
    for kind in ("table", "dataframe", "arrow_data_frame"):
        found += [one.value.to_string() for one in test.get(kind)]
    return "\n".join(found)

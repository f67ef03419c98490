"""The page that Streamlit runs: who is looking, at which run, in which language; then one of the screens."""

import logging
from collections.abc import Callable

import streamlit as st

from app.dashboard import kept
from app.dashboard.context import Context
from app.dashboard.escaping import html_text, line, markdown
from app.dashboard.roles import Visitor, visitor_of
from app.dashboard.runs import RunEntry
from app.dashboard.screens import cases, model, my_site, privacy, training
from app.dashboard.settings import DashboardSettings
from app.dashboard.theme import STYLE
from app.dashboard.wording import LANGUAGES, Wording, preferred, wording
from medfl.errors import MedFLError

_LOG = logging.getLogger(__name__)
_SIGNS = {"finished": "✓", "running": "▶", "incomplete": "?"}

Screen = Callable[[Context], None]


def main() -> None:
    """Show the dashboard."""
    st.set_page_config(page_title="medfl", layout="wide", initial_sidebar_state="collapsed")
    st.html(STYLE)
    settings = DashboardSettings.from_environment()
    visitor = visitor_of(settings, dict(st.context.headers) if settings.trust_proxy else {})
    language = st.session_state.get("language") or preferred(st.context.locale)
    words = wording(language)
    st.html(f'<div class="medfl-research" role="note">{html_text(words["research"])}</div>')
    if not visitor.may("see runs"):
        st.error(words["no role"])
        return
    runs = kept.runs_in(settings.runs)
    screens = _screens(visitor)
    chosen: list[RunEntry] = []
    pages = [
        st.Page(
            _shown(screen, settings, visitor, words, chosen),
            title=words[f"page {name}"],
            url_path=name.replace(" ", "-"),
            default=not place,
        )
        for place, (name, screen) in enumerate(screens.items())
    ]
    page = st.navigation(pages, position="top")
    if st.session_state.pop("go to", "") == "cases" and visitor.may("see cases"):
        st.switch_page(pages[0])
    with st.container(key="top"):
        left, right, far = st.columns([5, 3, 3], vertical_alignment="center")
        with left:
            run = _run_picker(runs, words)
        with right:
            st.caption(_whose(visitor, words))
        with far:
            st.segmented_control(
                "Language / Sprache",
                LANGUAGES,
                default=language,
                key="language",
                required=True,
                format_func=_language,
                label_visibility="collapsed",
            )
    if run is None:
        st.info(words["no runs"])
        return
    chosen.append(run)
    page.run()


def _screens(visitor: Visitor) -> dict[str, Screen]:
    """Return the screens that somebody may see, in their order."""
    first: dict[str, Screen] = {"cases": cases.show} if visitor.may("see cases") else {}
    return first | {
        "my site": my_site.show,
        "privacy": privacy.show,
        "training": training.show,
        "model": model.show,
    }


def _shown(
    screen: Screen, settings: DashboardSettings, visitor: Visitor, words: Wording, chosen: list[RunEntry]
) -> Callable[[], None]:
    """Return a page that shows a screen, and one sentence where the screen fails."""

    def page() -> None:
        try:
            screen(Context(settings, visitor, words, chosen[0]))
        except MedFLError as error:
            _LOG.warning("a page failed: %s", type(error).__name__)
            st.error(words["page failed"])
        except Exception as error:
            _LOG.error("a page failed unexpectedly: %s", type(error).__name__)
            st.error(words["page failed"])
            if _LOG.isEnabledFor(logging.DEBUG):
                raise

    return page


def _run_picker(runs: tuple[RunEntry, ...], words: Wording) -> RunEntry | None:
    named = {run.name: run for run in runs}
    if not named:
        return None

    def shown(name: str) -> str:
        state = named[name].state
        return f"{words['run']}: {line(name)}   {_SIGNS[state]} {words[f'run {state}']}"

    chosen = st.selectbox(words["run"], list(named), key="run", format_func=shown, label_visibility="collapsed")
    return named[chosen]


def _whose(visitor: Visitor, words: Wording) -> str:
    if not visitor.roles:
        return words["reading only"]
    roles = ", ".join(words[f"role {role}"] for role in visitor.roles)
    return words["signed in"].format(name=markdown(visitor.name), roles=roles)


def _language(code: str) -> str:
    return {"en": "English", "de": "Deutsch"}[code]


main()

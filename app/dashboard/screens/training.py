"""Training: rounds as they happen, sites, refusals, time left."""

import time

import streamlit as st

from app.dashboard import figures, kept
from app.dashboard.context import Context
from app.dashboard.escaping import line, markdown
from app.dashboard.progress import losses_of, progress_of, totals_of, validation_of
from app.dashboard.runs import entry_of
from medfl.results.history import History

_EVERY = 2.0
_LONG_AGO = 600.0
_MOST_REFUSALS = 50


def show(context: Context) -> None:
    """Show the screen; a run that is not finished is looked at every two seconds."""
    live = context.run.state != "finished"
    st.fragment(_watch if live else _show, run_every=_EVERY if live else None)(context)


def _watch(context: Context) -> None:
    """Look at the folder again; once the run is finished, show the page as such."""
    now = entry_of(context.run.folder, context.settings.runs) or context.run
    if now.state == "finished":
        kept.runs_in.clear()
        st.rerun()
    _show(Context(context.settings, context.visitor, context.words, now))


def _show(context: Context) -> None:
    words = context.words
    config = context.read(kept.config_of)
    history = context.read(kept.history_of)
    if history is None:
        return
    planned = 0 if config is None else config.training.rounds
    _state(context, history, planned)
    if not history.rounds:
        return
    left, right = st.columns(2, gap="large")
    name, rows = validation_of(history)
    with left:
        st.markdown(f"#### {words['heading validation']}")
        if rows:
            named = [row | {"name": words.metric(name)} for row in rows]
            st.vega_lite_chart(
                figures.lines(named, (words["round"], words.metric(name))),
                alt=words["validation alt"],
            )
        else:
            st.caption(words["no validation"])
    with right:
        st.markdown(f"#### {words['heading loss']}")
        losses = [row | {"name": line(row["name"])} for row in losses_of(history)]
        if losses:
            st.vega_lite_chart(figures.lines(losses, (words["round"], words["loss"])), alt=words["loss alt"])
        else:
            st.caption(words["no loss"])
    _sites(history, context)
    _refusals(history, context)


def _state(context: Context, history: History, planned: int) -> None:
    """Say in words how far the run is."""
    words, run = context.words, context.run
    progress = progress_of(history, planned)
    place = words["round of"].format(done=progress.done, planned=planned or "?")
    if run.state == "finished":
        st.markdown(f"### ✓ {words['training finished']}")
    else:
        st.markdown(f"### ▶ {words['training going'] if history.rounds else words['training started']}")
    said = [place]
    if run.state != "finished" and progress.seconds_left is not None:
        said.append(words["time left"].format(time=words.duration(progress.seconds_left)))
    if progress.skipped:
        said.append(words["skipped"].format(n=progress.skipped))
    if history.resumed:
        said.append(words["resumed"].format(n=history.resumed))
    st.markdown(" · ".join(said))
    if planned:
        st.progress(min(1.0, progress.done / planned))
    age = time.time() - run.changed
    if run.state != "finished" and age > _LONG_AGO:
        st.warning(words["silent"].format(time=words.duration(age)))


def _sites(history: History, context: Context) -> None:
    words = context.words
    st.markdown(f"#### {words['heading sites']}")
    totals = totals_of(history)
    latest = {part.site: part for part in history.rounds[-1].sites}
    st.table(
        {
            words["site"]: [markdown(one.site) for one in totals],
            words["last round"]: [
                words["reply missing"]
                if one.site not in latest
                else words["reply refused"]
                if latest[one.site].refused
                else words["reply used"]
                for one in totals
            ],
            words["rounds used"]: [f"{one.used} / {one.used + one.refused}" for one in totals],
            words["patients"]: [str(one.subjects) for one in totals],
            words["loss"]: [words.number(one.loss, 3) for one in totals],
            words["received"]: [words.size(one.bytes_down) for one in totals],
            words["sent"]: [words.size(one.bytes_up) for one in totals],
            words["per round"]: [words.duration(one.seconds) for one in totals],
        },
        border="horizontal",
        hide_index=True,
    )


def _refusals(history: History, context: Context) -> None:
    """List replies that were not used, the latest first."""
    words = context.words
    refused = [(record.number, part) for record in reversed(history.rounds) for part in record.sites if part.refused]
    st.markdown(f"#### {words['heading refusals']}")
    if not refused:
        st.markdown(words["no refusals"])
        return
    st.table(
        {
            words["round"]: [str(number) for number, _ in refused[:_MOST_REFUSALS]],
            words["site"]: [markdown(part.site) for _, part in refused[:_MOST_REFUSALS]],
            words["why"]: [_why(part.refused, part.detail, context) for _, part in refused[:_MOST_REFUSALS]],
        },
        border="horizontal",
        hide_index=True,
    )


def _why(code: str, detail: str, context: Context) -> str:
    """Return the reason in words where the code is known, else the code and the sentence of the hub."""
    known = context.words.texts.get(f"refused {code}")
    return known or markdown(f"{code}: {detail}" if detail else code)

"""About the model: what it is for, what it was trained on, how well it does, and where it is known to fail."""

import streamlit as st

from app.dashboard import kept
from app.dashboard.comparison import ATTRIBUTES, main_metrics, subgroups
from app.dashboard.context import Context
from app.dashboard.escaping import document, markdown
from app.dashboard.wording import Wording
from medfl.config.settings import Config

_WORST = 5


def show(context: Context) -> None:
    """Show the screen."""
    words = context.words
    config = context.read(kept.config_of)
    st.markdown(f"### {words['heading use']}")
    st.markdown(words["intended use"])
    st.markdown(words["not intended"])
    if config is not None:
        _what(config, words)
    _trained_on(context)
    _how_well(context)
    _failures(context)
    _unknown(context)
    _card(context)


def _what(config: Config, words: Wording) -> None:
    st.markdown(f"#### {words['heading what']}")
    task = config.task
    st.table(
        {
            words["fact"]: [words[name] for name in ("task", "classes", "network", "sharing", "protection", "rounds")],
            words["value"]: [
                words[f"task {task.kind}"].format(n=task.dimensions),
                markdown(", ".join(task.classes)),
                markdown(config.network.kind),
                words[f"sharing {config.sharing}"],
                markdown(config.protection.arm) if config.sharing == "features" else markdown(config.privacy.kind),
                str(config.training.rounds),
            ],
        },
        border="horizontal",
        hide_index=True,
        hide_header=True,
    )


def _trained_on(context: Context) -> None:
    """Show who contributed, with counts."""
    words = context.words
    st.markdown(f"#### {words['heading trained']}")
    history = context.read(kept.history_of)
    if history is None:
        return
    counts = {part.site: part for record in history.rounds for part in record.sites if part.subjects}
    early = {one.site: one for one in history.releases if one.subjects}
    if not counts and not early:
        st.caption(words["no counts"])
        return
    sites = sorted(counts.keys() | early.keys())
    metrics = None if context.run.state != "finished" else context.read(kept.metrics_of)
    rows = [counts[site] if site in counts else early[site] for site in sites]
    tested = [
        "—" if metrics is None else str(max((one.n for one in metrics.sites.get(site, {}).values()), default=0) or "—")
        for site in sites
    ]
    st.table(
        {
            words["site"]: [markdown(site) for site in sites],
            words["training patients"]: [str(row.subjects) for row in rows],
            words["training studies"]: [str(row.studies) for row in rows],
            words["test patients"]: tested,
        },
        border="horizontal",
        hide_index=True,
    )


def _how_well(context: Context) -> None:
    words = context.words
    st.markdown(f"#### {words['heading well']}")
    metrics = context.read(kept.metrics_of, missing=words["metrics missing"])
    if metrics is None:
        return
    names = main_metrics(metrics.pooled)
    st.table(
        {
            words["metric"]: [markdown(words.metric(name)) for name in names],
            words["value"]: [words.number(metrics.pooled[name].value) for name in names],
            words["interval"]: [
                words.interval(metrics.pooled[name].ci_low, metrics.pooled[name].ci_high) for name in names
            ],
            words["patients"]: [str(metrics.pooled[name].n) for name in names],
        },
        border="horizontal",
        hide_index=True,
    )


def _failures(context: Context) -> None:
    """Say where the model is known to fail: whole cases, groups, sites."""
    words = context.words
    st.markdown(f"#### {words['heading failures']}")
    said = []
    history = context.read(kept.history_of)
    if history is not None:
        refused = sum(bool(part.refused) for record in history.rounds for part in record.sites)
        if refused:
            said.append(words["fact refused"].format(n=refused))
    if context.run.state == "finished":
        metrics = context.read(kept.metrics_of)
        for name, metric in {} if metrics is None else metrics.pooled.items():
            if name.startswith("missed_rate/") and metric.value:
                part = markdown(name.partition("/")[2])
                said.append(words["fact missed"].format(name=part, value=words.number(100 * metric.value, 1)))
        said += _case_facts(context)
    for sentence in said:
        st.markdown(f"- {sentence}")
    if not said:
        st.markdown(words["no failures"])


def _case_facts(context: Context) -> list[str]:
    """Return sentences about single cases and groups, for those who may see cases."""
    words = context.words
    if not context.visitor.may("see cases"):
        return []
    table = context.read(kept.cases_of, missing=words["my cases missing"])
    if table is None:
        return []
    scored = [case for case in table.cases if case.score is not None]
    said = []
    if table.kind == "classification":
        wrong = [case for case in scored if case.is_right is False]
        said.append(words["fact wrong"].format(n=len(wrong), all=len(scored)))
    else:
        for case in sorted(scored, key=lambda one: one.score or 0.0)[:_WORST]:
            said.append(
                words["fact worst"].format(
                    study=markdown(case.study), site=markdown(case.site), dice=words.number(case.dice)
                )
            )
    for site in table.sites():
        groups = [group for kind in ATTRIBUTES for group in subgroups(table.of_site(site), kind)]
        known = [group for group in groups if group.value is not None]
        if len(known) > 1:
            lowest = min(known, key=lambda group: group.value or 0.0)
            said.append(
                words["fact group"].format(
                    site=markdown(site),
                    group=f"{words[lowest.attribute]}: {markdown(lowest.name)}",
                    value=words.number(lowest.value),
                    n=lowest.subjects,
                )
            )
    return said


def _unknown(context: Context) -> None:
    words = context.words
    st.markdown(f"#### {words['heading unknown']}")
    for name in ("unknown scanners", "unknown memory", "unknown time"):
        st.markdown(f"- {words[name]}")


def _card(context: Context) -> None:
    """Show the model card as the run wrote it, and hand it out."""
    words = context.words
    with st.expander(words["card"]):
        card = context.read(kept.card_of)
        if card is not None:
            st.markdown(document(card))
            st.download_button(
                words["download card"],
                card,
                file_name="model_card.md",
                mime="text/markdown",
                icon=":material/download:",
                on_click="ignore",
            )
            st.caption(words["card note"].format(run=markdown(context.run.name)))

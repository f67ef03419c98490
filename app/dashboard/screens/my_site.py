"""My site: how the model does here, against other sites and other models, for whom, and how well it knows itself."""

from collections.abc import Mapping, Sequence

import streamlit as st

from app.dashboard import figures, kept
from app.dashboard.case_table import Case
from app.dashboard.comparison import (
    ATTRIBUTES,
    FEWEST,
    baselines_beside,
    calibration,
    key_metric,
    main_metrics,
    rank_correlation,
    standing,
    subgroups,
    uncertainty_sources,
)
from app.dashboard.context import Context
from app.dashboard.escaping import line, markdown
from app.dashboard.figures import Bar
from app.dashboard.screens.cases import open_case, outcome
from app.dashboard.wording import Wording
from medfl.results.metrics import MetricValue, RunMetrics

_WORST = 5


def show(context: Context) -> None:
    """Show the screen."""
    words = context.words
    metrics = context.read(kept.metrics_of, missing=words["metrics missing"])
    if metrics is None:
        return
    table = context.read(kept.cases_of, missing=words["my cases missing"])
    here = () if table is None else table.sites()
    sites = list(dict.fromkeys([*here, *metrics.sites, *metrics.suppressed]))
    if not sites:
        st.info(words["metrics empty"])
        return
    chosen = sites[0]
    if len(sites) > 1:
        chosen = st.columns([2, 5])[0].selectbox(words["my site"], sites, key="my site", format_func=line)
    _standing(chosen, metrics, words)
    _baselines(context, chosen, metrics)
    cases = () if table is None else table.of_site(chosen)
    if not cases:
        st.info(words["no cases of site"])
        return
    _subgroups(cases, words)
    left, right = st.columns(2, gap="large")
    with left:
        _calibration(chosen, cases, metrics, words)
    with right:
        _sources(cases, words)
    if context.visitor.may("see cases"):
        _worst(cases, words)


def _standing(site: str, metrics: RunMetrics, words: Wording) -> None:
    """Say how the model does at the site, and beside all sites."""
    st.markdown(f"### {words['heading site'].format(site=markdown(site))}")
    if site in metrics.suppressed:
        st.info(words["site suppressed"].format(reason=markdown(metrics.suppressed[site])))
        return
    mine = metrics.sites.get(site, {})
    name = key_metric(mine)
    if name is None:
        st.info(words["site empty"])
        return
    st.markdown(_sentence(mine[name], metrics.pooled.get(name), name, words))
    bars = [
        _bar(words["all sites"], metrics.pooled.get(name)),
        *(_bar(line(other), found.get(name), strong=other == site) for other, found in sorted(metrics.sites.items())),
    ]
    shown = [bar for bar in bars if bar is not None]
    left, right = st.columns([2, 3], gap="large")
    with left:
        st.vega_lite_chart(
            figures.intervals(shown, words.metric(name)), alt=words["intervals alt"].format(metric=words.metric(name))
        )
        for other, reason in sorted(metrics.suppressed.items()):
            st.caption(words["suppressed"].format(site=markdown(other), reason=markdown(reason)))
    with right:
        names = main_metrics(mine)
        st.table(_metric_rows(names, mine, metrics.pooled, words), border="horizontal", hide_index=True)


def _sentence(mine: MetricValue, everywhere: MetricValue | None, name: str, words: Wording) -> str:
    said = words["site sentence"].format(
        metric=words.metric(name),
        value=words.number(mine.value),
        interval=words.interval(mine.ci_low, mine.ci_high),
        n=mine.n,
    )
    place = None if everywhere is None else standing(mine, everywhere)
    return (
        said
        if place is None or everywhere is None
        else f"{said} {words[place].format(value=words.number(everywhere.value))}"
    )


def _bar(name: str, metric: MetricValue | None, *, strong: bool = False) -> Bar | None:
    if metric is None or metric.value is None or metric.ci_low is None or metric.ci_high is None:
        return None
    return Bar(name, metric.value, metric.ci_low, metric.ci_high, strong)


def _metric_rows(
    names: Sequence[str], mine: Mapping[str, MetricValue], pooled: Mapping[str, MetricValue], words: Wording
) -> dict[str, list[str]]:
    def shown(metric: MetricValue | None) -> str:
        if metric is None:
            return words.number(None)
        return f"{words.number(metric.value)} ({words.interval(metric.ci_low, metric.ci_high)})"

    return {
        words["metric"]: [markdown(words.metric(name)) for name in names],
        words["this site"]: [shown(mine[name]) for name in names],
        words["all sites"]: [shown(pooled.get(name)) for name in names],
        words["patients"]: [str(mine[name].n) for name in names],
    }


def _baselines(context: Context, site: str, metrics: RunMetrics) -> None:
    """Show the federated model beside models that were trained without the others, or on everything."""
    words = context.words
    mine = metrics.sites.get(site, {})
    name = key_metric(mine)
    if name is None:
        return
    config = context.read(kept.config_of)
    found = {} if config is None else baselines_beside(context.run.folder, config.seed)
    st.markdown(f"#### {words['heading baselines']}")
    bars = [_bar(words["federated"], mine[name], strong=True)]
    for kind in (f"local:{site}", "ensemble", "pooled"):
        if kind in found:
            bars.append(_bar(words[f"baseline {kind.partition(':')[0]}"], found[kind].sites.get(site, {}).get(name)))
    shown = [bar for bar in bars if bar is not None]
    if len(shown) < 2:
        st.caption(words["no baselines"])
        return
    st.vega_lite_chart(
        figures.intervals(shown, words.metric(name)), alt=words["intervals alt"].format(metric=words.metric(name))
    )
    st.caption(words["baselines note"])


def _subgroups(cases: Sequence[Case], words: Wording) -> None:
    """Show how the model does for parts of the site's patients."""
    st.markdown(f"#### {words['heading subgroups']}")
    groups = [group for attribute in ATTRIBUTES for group in subgroups(cases, attribute)]
    if not groups:
        st.caption(words["no subgroups"])
        return
    small = words["too few"].format(n=FEWEST)
    st.table(
        {
            words["group"]: [f"{words[group.attribute]}: {markdown(group.name)}" for group in groups],
            words["patients"]: [str(group.subjects) if group.value is not None else f"< {FEWEST}" for group in groups],
            words["mean score"]: [small if group.value is None else words.number(group.value) for group in groups],
            words["interval"]: [words.interval(group.low, group.high) for group in groups],
        },
        border="horizontal",
        hide_index=True,
    )
    st.caption(words["subgroups note"].format(n=FEWEST))


def _calibration(site: str, cases: Sequence[Case], metrics: RunMetrics, words: Wording) -> None:
    """Show whether the model is right as often as it says."""
    st.markdown(f"#### {words['heading calibration']}")
    bars = calibration(cases)
    if not bars:
        st.caption(words["no calibration"])
        return
    ece = metrics.sites.get(site, {}).get("ece")
    if ece is not None and ece.value is not None:
        interval = words.interval(ece.ci_low, ece.ci_high, 3)
        st.markdown(words["ece"].format(value=words.number(ece.value, 3), interval=interval))
    st.vega_lite_chart(
        figures.reliability(bars, words["confidence axis"], words["right axis"]), alt=words["calibration alt"]
    )
    st.caption(words["calibration note"].format(n=FEWEST))


def _sources(cases: Sequence[Case], words: Wording) -> None:
    """Show where uncertainty comes from, and whether it warns of bad results."""
    st.markdown(f"#### {words['heading sources']}")
    found = uncertainty_sources(cases)
    if found is None:
        st.caption(words["no sources"])
        return
    st.table(
        {
            words["source"]: [words[f"source {name}"] for name in ("entropy", "spread", "both", "neither")],
            words["cases"]: [str(n) for n in (found.entropy, found.spread, found.both, found.neither)],
        },
        border="horizontal",
        hide_index=True,
    )
    correlation = rank_correlation(cases)
    if correlation is None:
        st.caption(words["warns unknown"])
    else:
        strength = "warns" if correlation < -0.3 else "warns not" if correlation > -0.1 else "warns little"
        st.markdown(words[strength].format(value=words.number(correlation)))
    if all(case.is_right is None for case in cases):
        points = [
            {"entropy": case.numbers["entropy"], "dice": case.dice, "name": line(case.study), "strong": False}
            for case in cases
            if "entropy" in case.numbers and case.dice is not None
        ]
        chart = figures.scatter(points, "entropy", "dice", (words["entropy axis"], "Dice"))
        st.vega_lite_chart(chart, alt=words["scatter alt"])


def _worst(cases: Sequence[Case], words: Wording) -> None:
    """List the cases with the worst results; a click opens them."""
    st.markdown(f"#### {words['heading worst']}")
    scored = [case for case in cases if case.score is not None and case.is_right is not True]
    doubt = {case.study: case.numbers.get("entropy", 0.0) for case in scored}
    for case in sorted(scored, key=lambda one: (one.score or 0.0, doubt[one.study]))[:_WORST]:
        name, said, button, _ = st.columns([4, 2, 2, 6], vertical_alignment="center")
        name.markdown(markdown(case.study))
        said.markdown(f"Dice {words.number(case.dice)}" if case.is_right is None else outcome(case, words))
        if button.button(words["open case"], key=f"worst {case.site} {case.study}"):
            open_case(case)
            st.session_state["go to"] = "cases"
            st.rerun()
    if not scored:
        st.caption(words["no worst"])

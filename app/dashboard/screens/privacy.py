"""Privacy: three answers first, then what left the site, what was spent, and what an attacker rebuilt."""

import base64
import io
import math
import zipfile
from collections.abc import Sequence
from typing import get_args

import streamlit as st

from app.dashboard import figures, kept
from app.dashboard.audits import Signed
from app.dashboard.context import Context
from app.dashboard.escaping import SENTENCES, html_text, line, markdown
from app.dashboard.reading import Unreadable
from app.dashboard.screens.spending import show_canaries, show_keys, show_spending
from app.dashboard.theme import BLUE, GRAY, PURPLE, VERMILION
from app.dashboard.wording import Wording
from medfl.audit.wording import in_language, reason_text
from medfl.results.history import History
from medfl.results.report import AuditReport, Question, Verdict

_SIGNS = {"below margin": "✓", "above margin": "▲", "inconclusive": "?", "invalid": "✗"}
_COLOURS = {"below margin": BLUE, "above margin": VERMILION, "inconclusive": GRAY, "invalid": PURPLE}
_QUESTIONS: tuple[Question, ...] = get_args(Question)


def show(context: Context) -> None:
    """Show the screen."""
    words = context.words
    st.markdown(f"### {words['heading answers']}")
    report = _report(context)
    if report is not None:
        _answers(report, words)
        _signature(context, report)
        _not_tested(report, words)
    _left(context)
    show_spending(context)
    if report is not None:
        show_canaries(report, words)
        _arms(context)
        _reconstructions(context, report)
    show_keys(context)


def _report(context: Context) -> AuditReport | None:
    try:
        return kept.report_of(context.run)
    except Unreadable as error:
        context.say(error, context.words["no audit"])
        return None


def _answers(report: AuditReport, words: Wording) -> None:
    """Show one answer per question: sign, word, reason; the number comes last."""
    verdicts = {verdict.question: verdict for verdict in report.verdicts}
    for column, question in zip(st.columns(3, gap="medium"), _QUESTIONS, strict=True):
        with column:
            _answer(verdicts[question], words)


def _answer(verdict: Verdict, words: Wording) -> None:
    reason = verdict.reason
    if words.language != "en" and verdict.reason_code:
        reason = reason_text(verdict.reason_code, verdict.reason_arguments, words.language)
    st.html(
        f'<div class="medfl-answer" style="border-color: {_COLOURS[verdict.status]}">'
        f"<div>{html_text(words[f'ask {verdict.question}'])}</div>"
        f'<div style="font-size: 1.5rem; font-weight: 600">{_SIGNS[verdict.status]} '
        f"{html_text(words[f'answer {verdict.status}'])}</div></div>"
    )
    st.caption(markdown(words[f"mean {verdict.status}"], SENTENCES))
    st.markdown(markdown(reason, SENTENCES))
    if verdict.value is not None:
        strongest = words["strongest"].format(
            name=markdown(in_language(verdict.strongest, words.language)),
            value=words.number(verdict.value),
            interval=words.interval(verdict.ci_low, verdict.ci_high),
        )
        limit = "" if verdict.limit is None else words["limit"].format(value=words.number(verdict.limit))
        st.caption(f"{strongest} {limit}")
    if verdict.subjects_needed:
        st.caption(words["needed"].format(n=verdict.subjects_needed))


def _signature(context: Context, report: AuditReport) -> None:
    """Say whether the report is what was signed, and hand it out."""
    words, signed = context.words, kept.signature_of(context.run)
    left, right = st.columns([3, 2], vertical_alignment="center")
    with left:
        if signed.is_whole:
            st.markdown(words["signed"].format(key=markdown(signed.signer), when=markdown(report.created)))
        else:
            st.error(words["not signed"])
        st.markdown(_decision(signed, words))
    with right:
        st.download_button(
            words["download report"],
            lambda: _archive(kept.files_of(context.run)),
            file_name=f"medfl-audit-{_plain(context.run.folder.name)}.zip",
            mime="application/zip",
            icon=":material/download:",
            on_click="ignore",
        )
        st.caption(words["download note"])


def _decision(signed: Signed, words: Wording) -> str:
    if signed.decided == "none":
        return words["not decided"]
    return words[f"decided {signed.decided}"].format(officer=markdown(signed.officer), day=markdown(signed.day))


def _archive(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in files.items():
            archive.writestr(name, value)
    return content.getvalue()


def _plain(name: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)[:60]


def _not_tested(report: AuditReport, words: Wording) -> None:
    """List what was not tested: it matters as much as what was."""
    st.markdown(f"#### {words['heading not tested']}")
    if not report.not_tested:
        st.markdown(words["all tested"])
    for one in report.not_tested:
        st.markdown(f"- {markdown(in_language(one, words.language), SENTENCES)}")
    with st.expander(words["attacks"]):
        rows = [
            (family, attack, place in family.headline)
            for family in report.families
            for place, attack in enumerate(family.attacks)
        ]
        st.dataframe(
            {
                words["attack"]: [
                    line(f"{in_language(attack.family, words.language)}: {attack.name}") for _, attack, _ in rows
                ],
                words["setting"]: [line(attack.setting) for _, attack, _ in rows],
                words["metric"]: [line(attack.metric) for _, attack, _ in rows],
                words["value"]: [words.number(attack.value, 3) for _, attack, _ in rows],
                words["interval"]: [words.interval(attack.ci_low, attack.ci_high, 3) for _, attack, _ in rows],
                words["chance"]: [words.number(attack.chance, 3) for _, attack, _ in rows],
                words["test patients"]: [attack.subjects for _, attack, _ in rows],
                words["headline"]: ["●" if strong else "" for _, _, strong in rows],
            },
            hide_index=True,
        )
        st.caption(words["attacks note"])
    st.caption(" ".join(markdown(in_language(text, words.language), SENTENCES) for text in report.limitations))


def _left(context: Context) -> None:
    """Show what left each site: kinds, people, times, bytes."""
    words = context.words
    st.markdown(f"### {words['heading left']}")
    record = context.read(kept.privacy_of)
    if record is None:
        return
    sites = sorted({release.site for release in record.releases})
    chosen = (
        st.segmented_control(words["site"], sites, default=sites[0], key="left site", format_func=line)
        if len(sites) > 1
        else None
    )
    shown = [release for release in record.releases if release.times and chosen in (None, release.site)]
    st.table(
        {
            words["what"]: [markdown(words.texts.get(f"left {release.what}", release.what)) for release in shown],
            words["patients"]: [str(release.subjects) for release in shown],
            words["times"]: [str(release.times) for release in shown],
            words["protection"]: [_proof(release.epsilon, release.delta, words) for release in shown],
        },
        border="horizontal",
        hide_index=True,
    )
    history = context.read(kept.history_of)
    if history is not None:
        sent = _bytes_of(history, sites if chosen is None else [chosen])
        st.markdown(words["bytes left"].format(size=words.size(sent)))
    st.caption(markdown(record.statement, SENTENCES) if words.language == "en" else words["statement note"])


def _proof(epsilon: float, delta: float | None, words: Wording) -> str:
    if math.isinf(epsilon):
        return words["no proof"]
    return words["proof"].format(epsilon=words.number(epsilon), delta=markdown(f"{delta or 0:g}"))


def _bytes_of(history: History, sites: Sequence[str]) -> int:
    """Return the bytes of arrays that sites sent: for learning, as features, and in training."""
    early = sum(one.bytes_up + one.bytes_learning for one in history.releases if one.site in sites)
    return early + sum(part.bytes_up for record in history.rounds for part in record.sites if part.site in sites)


def _arms(context: Context) -> None:
    """Show what protection costs and what it leaves, over protections."""
    words = context.words
    st.markdown(f"### {words['heading arms']}")
    others = tuple(run.folder for run in kept.runs_in(context.settings.runs) if run.state == "finished")
    found = kept.arms_of(context.run, others)
    if found is None:
        st.caption(words["no arms"])
        return
    points = [
        {"leakage": one.leakage, "utility": one.utility, "name": line(one.name), "strong": one.is_this}
        for one in found.points
    ]
    titles = (line(found.leakage), words.metric(found.utility))
    st.vega_lite_chart(figures.scatter(points, "leakage", "utility", titles, limit=found.limit), alt=words["arms alt"])
    st.table(
        {
            words["protection"]: [markdown(one.name) for one in found.points],
            titles[1]: [words.number(one.utility, 3) for one in found.points],
            markdown(titles[0]): [words.number(one.leakage, 3) for one in found.points],
        },
        border="horizontal",
        hide_index=True,
    )
    st.caption(words["arms note"])


def _reconstructions(context: Context, report: AuditReport) -> None:
    """Show the worst reconstruction beside its original, to those who may, when they ask for it."""
    words = context.words
    if not report.pictures:
        return
    st.markdown(f"### {words['heading rebuilt']}")
    if not context.visitor.may("see reconstruction"):
        st.caption(words["rebuilt needs role"])
        return
    if not st.toggle(words["show rebuilt"], key="show rebuilt"):
        return
    pictures = kept.pictures_of(context.run, report)
    if not pictures:
        st.info(words["rebuilt gone"])
    for picture in pictures:
        st.markdown(markdown(picture.caption, SENTENCES))
        for column, (label, content) in zip(st.columns(4), picture.panels[:4], strict=False):
            column.image(base64.b64decode(content), caption=markdown(label), width=260, alt=line(label))

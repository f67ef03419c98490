"""Cases: the site's studies as a list, and the one that was chosen beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from app.dashboard import kept
from app.dashboard.case_table import Case, CaseTable, quantile_of
from app.dashboard.context import Context
from app.dashboard.escaping import line
from app.dashboard.screens.lookup import show_lookup
from app.dashboard.screens.one_case import show_case
from app.dashboard.wording import NO_VALUE, Wording
from medfl.errors import ConfigError
from medfl.governance.case_flags import CaseFlag, CaseFlags, FlagJournal

_OPEN = "open case"
_HIGH = 0.9
_HEIGHT = 520

Flags = Mapping[tuple[str, str], CaseFlag]


@dataclass(frozen=True)
class Listed:
    """One line of the list.

    Attributes
    ----------
    case : Case
    doubt : float
        Share of this site's cases with less uncertainty.
    flagged : bool
    """

    case: Case
    doubt: float
    flagged: bool

    @property
    def is_doubtful(self) -> bool:
        """Whether it is among the tenth with the most uncertainty."""
        return self.doubt > _HIGH


def show(context: Context) -> None:
    """Show the screen."""
    words = context.words
    table = context.read(kept.cases_of, missing=words["cases missing"])
    if table is None:
        return
    if not table.cases:
        st.info(words["cases none"])
        return
    journal = read_flags(context)
    listed = listed_cases(table, journal.standing(context.flag_name()))
    left, right = st.columns([3, 7], gap="medium")
    with left:
        chosen = _list(listed, table, words)
        if table.left_out:
            st.caption(words["cases left out"].format(n=table.left_out))
        show_lookup(context, table)
    with right:
        if chosen is None:
            st.info(words["cases no match"])
        else:
            show_case(context, table, chosen.case, journal)


def read_flags(context: Context) -> FlagJournal:
    """Return the site's flags; none without a site, and a sentence where they cannot be read."""
    if context.settings.site is None:
        return FlagJournal((), 0)
    try:
        journal = CaseFlags(context.settings.site).read()
    except ConfigError:
        st.warning(context.words["flags unreadable"])
        return FlagJournal((), 0)
    if journal.unreadable:
        st.caption(context.words["flags damaged"].format(n=journal.unreadable))
    return journal


def listed_cases(table: CaseTable, flags: Flags) -> list[Listed]:
    """Return every case with its place among the cases of its site."""
    doubts = {
        site: [case.numbers["entropy"] for case in table.of_site(site) if "entropy" in case.numbers]
        for site in table.sites()
    }
    return [
        Listed(
            case,
            quantile_of(case.numbers["entropy"], doubts[case.site]) if "entropy" in case.numbers else 0.0,
            (case.site, case.study) in flags,
        )
        for case in table.cases
    ]


def ordered(listed: Sequence[Listed], by: str) -> list[Listed]:
    """Return the cases in an order: "worst", "doubt" or "study"."""
    keys = {
        "worst": lambda one: (one.case.score is None, one.case.score or 0.0, -one.doubt),
        "doubt": lambda one: (-one.doubt, one.case.study),
        "study": lambda one: (one.case.study, one.case.site),
    }
    return sorted(listed, key=keys[by])


def _list(listed: Sequence[Listed], table: CaseTable, words: Wording) -> Listed | None:
    """Show filters and list; return the open case."""
    kept_ones = _filtered(listed, table, words)
    if not kept_ones:
        return None
    keys = [(one.case.site, one.case.study) for one in kept_ones]
    if st.session_state.get(_OPEN) not in keys:
        st.session_state[_OPEN] = keys[0]
    place = keys.index(st.session_state[_OPEN])
    back, count, forward = st.columns([1, 2, 1], vertical_alignment="center")
    back.button("◀", help=words["previous"], disabled=place == 0, on_click=_open, args=(keys[max(place - 1, 0)],))
    count.caption(words["case of"].format(place=place + 1, n=len(keys)))
    following = keys[min(place + 1, len(keys) - 1)]
    forward.button("▶", help=words["next"], disabled=place + 1 == len(keys), on_click=_open, args=(following,))
    _grid(kept_ones, keys, place, table, words)
    return kept_ones[place]


def _filtered(listed: Sequence[Listed], table: CaseTable, words: Wording) -> list[Listed]:
    sites = table.sites()
    site, order = st.columns(2)
    every = words["all sites"]
    wanted = (
        site.selectbox(words["site"], [every, *sites], key="case site", format_func=line) if len(sites) > 1 else every
    )
    by = order.selectbox(
        words["order"], ["worst", "doubt", "study"], key="case order", format_func=lambda name: words[f"order {name}"]
    )
    kinds = ["flagged", "doubtful"]
    only = st.pills(
        words["show only"],
        kinds,
        selection_mode="multi",
        key="case kinds",
        format_func=lambda name: words[f"only {name}"],
        label_visibility="collapsed",
    )
    found = [
        one
        for one in listed
        if (wanted == every or one.case.site == wanted)
        and ("flagged" not in only or one.flagged)
        and ("doubtful" not in only or one.is_doubtful)
    ]
    return ordered(found, by)


def _grid(
    listed: Sequence[Listed], keys: Sequence[tuple[str, str]], place: int, table: CaseTable, words: Wording
) -> None:
    several = len(table.sites()) > 1
    rows = []
    for number, one in enumerate(listed):
        row = {
            words["flag"]: "▶" if number == place else "⚑" if one.flagged else "",
            words["study"]: line(one.case.study),
        }
        if table.kind == "segmentation":
            row["Dice"] = words.number(one.case.dice)
        else:
            row[words["result"]] = outcome(one.case, words)
        row[words["doubt"]] = words["doubt high"] if one.is_doubtful else ""
        if several:
            row[words["site"]] = line(one.case.site)
        rows.append(row)
    widths = {
        words["flag"]: 44,
        words["study"]: 128,
        "Dice": 50,
        words["result"]: 76,
        words["doubt"]: 84,
        words["site"]: 70,
    }
    selected = st.dataframe(
        {name: [row[name] for row in rows] for name in rows[0]},
        hide_index=True,
        height=_HEIGHT,
        row_height=34,
        key=f"case grid {hash((tuple(keys), words.language))}",
        on_select="rerun",
        selection_mode="single-cell",
        column_config={name: st.column_config.TextColumn(width=width) for name, width in widths.items()},
        alt=words["cases alt"].format(n=len(rows)),
    )
    cells = selected["selection"]["cells"]
    if cells and st.session_state.get("last cell") != (tuple(keys), cells[0][0]):
        st.session_state["last cell"] = (tuple(keys), cells[0][0])
        _open(keys[cells[0][0]])
        st.rerun()


def _open(case: tuple[str, str]) -> None:
    st.session_state[_OPEN] = case
    st.session_state.pop("last cell", None)


def open_case(case: Case) -> None:
    """Make a case the open one, from another screen."""
    _open((case.site, case.study))
    for name in ("case site", "case kinds"):
        st.session_state.pop(name, None)


def outcome(case: Case, words: Wording) -> str:
    """Return whether the model was right, by sign and word."""
    if case.is_right is None:
        return NO_VALUE
    return words["right"] if case.is_right else words["wrong"]

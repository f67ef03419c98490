"""A flag with a reason: kept in the site's state folder, never in the run folder."""

import streamlit as st

from app.dashboard.case_table import Case
from app.dashboard.context import Context
from app.dashboard.escaping import markdown
from medfl.errors import ConfigError
from medfl.governance.case_flags import CaseFlags, FlagJournal, Mark

_LONGEST = 500


def show_flags(context: Context, case: Case, journal: FlagJournal) -> None:
    """Show what was said about a case, and the form for whoever may say more."""
    words, site = context.words, context.settings.site
    said = journal.about(context.flag_name(), case.site, case.study)
    is_flagged = bool(said) and said[0].mark == "flagged"
    st.markdown(f"##### {words['flagged heading'] if is_flagged else words['flag heading']}")
    for one in said:
        st.markdown(
            words[f"flag {one.mark}"].format(who=markdown(one.who), when=one.recorded, reason=markdown(one.reason))
        )
    if site is None:
        st.caption(words["flag needs site"])
        return
    if not context.visitor.may("flag"):
        st.caption(words["flag needs role"])
        return
    with st.form(f"flag {case.site} {case.study}", clear_on_submit=True, border=False):
        reason = st.text_input(words["reason"], max_chars=_LONGEST, help=words["reason help"])
        left, right, _ = st.columns([2, 2, 3])
        flagging = left.form_submit_button(words["flag add"], icon=":material/flag:")
        withdrawing = right.form_submit_button(words["flag withdraw"]) if is_flagged else False
    if flagging or withdrawing:
        _write(context, case, reason or "", "flagged" if flagging else "withdrawn")


def _write(context: Context, case: Case, reason: str, mark: Mark) -> None:
    assert context.settings.site is not None
    if not reason.strip():
        st.error(context.words["reason needed"])
        return
    try:
        CaseFlags(context.settings.site).add(
            who=context.visitor.name,
            run=context.flag_name(),
            site=case.site,
            study=case.study,
            reason=reason,
            mark=mark,
        )
    except ConfigError:
        st.error(context.words["flag failed"])
        return
    st.rerun()

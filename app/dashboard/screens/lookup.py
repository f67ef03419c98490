"""From an accession number to a pseudonym: for whoever treats the patient, at the site alone."""

import streamlit as st

from app.dashboard.accessions import study_of
from app.dashboard.case_table import CaseTable
from app.dashboard.context import Context
from app.dashboard.escaping import markdown
from medfl.errors import DataError


def show_lookup(context: Context, table: CaseTable) -> None:
    """Show the look-up to those who may use it, where the site has a table of accession numbers."""
    words, site = context.words, context.settings.site
    if site is None or not context.visitor.may("look up"):
        return
    with st.expander(words["lookup"]):
        number = st.text_input(words["accession"], type="password", help=words["accession help"], autocomplete="off")
        if not number:
            return
        try:
            study = study_of(site, number)
        except DataError:
            st.warning(words["lookup missing"])
            return
        found = [case for case in table.cases if study in (case.study, case.subject)] if study else []
        if not found:
            st.info(words["lookup nothing"])
        for case in found[:20]:
            st.button(
                markdown(case.study),
                key=f"found {case.site} {case.study}",
                on_click=_open,
                args=(case.site, case.study),
            )


def _open(site: str, study: str) -> None:
    st.session_state["open case"] = (site, study)
    for name in ("case site", "case kinds"):
        st.session_state.pop(name, None)

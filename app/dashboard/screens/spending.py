"""What was spent of the patients' privacy, what remains, and the keys: parts of the privacy screen."""

import math

import streamlit as st

from app.dashboard import figures, kept
from app.dashboard.context import Context
from app.dashboard.escaping import line, markdown
from app.dashboard.ledgers import AccountView, LedgerView
from app.dashboard.wording import Wording
from medfl.results.report import AuditReport


def show_spending(context: Context) -> None:
    """Show epsilon per data set over time, and what remains."""
    words = context.words
    st.markdown(f"### {words['heading spending']}")
    ledgers = kept.ledgers_of(context.run, context.settings.site)
    if not ledgers:
        st.caption(words["no ledger"])
        return
    for ledger in ledgers:
        if ledger.problem:
            st.error(words["ledger problem"].format(name=markdown(ledger.name or words["own ledger"])))
    accounts = [(ledger, account) for ledger in ledgers for account in ledger.accounts]
    if not accounts:
        return
    st.table(
        {
            words["ledger"]: [markdown(ledger.name or words["own ledger"]) for ledger, _ in accounts],
            words["data set"]: [markdown(account.data_set) for _, account in accounts],
            words["purpose"]: [markdown(account.purpose) for _, account in accounts],
            words["spent"]: [f"ε {words.number(account.spent)}" for _, account in accounts],
            words["allowed"]: [_allowed(account, words) for _, account in accounts],
            words["remains"]: [_remains(account, words) for _, account in accounts],
        },
        border="horizontal",
        hide_index=True,
    )
    _over_time(accounts, words)
    st.caption(words["spending note"])


def _allowed(account: AccountView, words: Wording) -> str:
    if math.isinf(account.limit):
        return words["no limit"]
    delta = markdown(f"{account.delta:g}")
    return f"ε {words.number(account.limit)}, δ {delta}"


def _remains(account: AccountView, words: Wording) -> str:
    if math.isinf(account.limit):
        return words["no limit"]
    if account.left <= 0.01 * account.limit:
        return words["used up"]
    return f"ε {words.number(account.left)}"


def _over_time(accounts: list[tuple[LedgerView, AccountView]], words: Wording) -> None:
    """Draw epsilon over bookings; a line that cannot be drawn, because nothing is proven, is left out and said."""
    rows, endless = [], False
    for ledger, account in accounts:
        name = line(f"{ledger.name or words['own ledger']}: {account.data_set}, {account.purpose}")
        for when, epsilon in account.points:
            if math.isfinite(epsilon):
                rows.append({"x": when.isoformat(), "y": epsilon, "name": name})
            else:
                endless = True
    if rows:
        limits = {account.limit for _, account in accounts if math.isfinite(account.limit)}
        limit = limits.pop() if len(limits) == 1 else None
        chart = figures.over_time(rows, (words["time"], words["spent"]), limit=limit)
        st.vega_lite_chart(chart, alt=words["spending alt"])
    if endless:
        st.caption(words["spending endless"])


def show_canaries(report: AuditReport, words: Wording) -> None:
    """Show claimed epsilons against what made-up subjects in the training show."""
    if not report.canaries:
        return
    checks = report.canaries
    st.markdown(f"### {words['heading canaries']}")
    st.table(
        {
            words["site"]: [markdown(check.site) for check in checks],
            words["claimed"]: [f"ε {words.number(check.claimed)}" for check in checks],
            words["not below"]: [f"ε {words.number(check.lower_bound)}" for check in checks],
            words["at most shown"]: [f"ε {words.number(check.ceiling)}" for check in checks],
            words["result"]: [words["contradicted" if check.flagged else "not contradicted"] for check in checks],
        },
        border="horizontal",
        hide_index=True,
    )
    st.caption(words["canaries note"])


def show_keys(context: Context) -> None:
    """Show who holds the keys, and when they were made, rotated and end."""
    words = context.words
    config = context.read(kept.config_of)
    if config is None:
        return
    st.markdown(f"### {words['heading keys']}")
    keyed = config.protection.keyed
    if keyed is None:
        st.markdown(words["no keys"])
        return
    st.markdown(words[f"custody {keyed.custody}"])
    keys = kept.keys_of(context.run, context.settings.site)
    if not keys:
        st.caption(words["keys elsewhere"])
        return
    st.table(
        {
            words["key"]: [markdown(key.name) for key in keys],
            words["key id"]: [markdown(key.key_id) if key.key_id else words["key unreadable"] for key in keys],
            words["made on"]: [str(key.created or words.number(None)) for key in keys],
            words["epoch"]: [str(key.epoch or words.number(None)) for key in keys],
            words["last day"]: [str(key.not_after or words["none set"]) for key in keys],
            words["revoked on"]: [str(key.revoked_on or words["no"]) for key in keys],
            words["released under"]: [str(key.released) for key in keys],
        },
        border="horizontal",
        hide_index=True,
    )
    st.caption(words["keys note"])

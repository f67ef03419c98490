"""The report in a site's reply: counts and plain facts beside the arrays."""

from collections.abc import Mapping
from typing import Any, Final

from flwr.app import Message

from medfl.errors import ReplyError
from medfl.federation.guard import BUDGET_EXHAUSTED, WORDS
from medfl.federation.records import REPORT

EXHAUSTED: Final = "budget_exhausted"
"""Reason of a site whose ledger does not allow another round."""


def read_report(reply: Message) -> Mapping[str, Any]:
    """Return the report of a reply.

    Raises
    ------
    ReplyError
        If the site answered with an error, or without a report; the reason is `EXHAUSTED` where its ledger refused.
    """
    if reply.has_error():
        word = WORDS.get(reply.error.code, "unknown_error")
        kind = EXHAUSTED if reply.error.code == BUDGET_EXHAUSTED else "site_error"
        raise ReplyError(kind, f"the site answered with error {reply.error.code}: {word}")
    for records in (reply.content.metric_records, reply.content.config_records):
        if REPORT in records:
            found: Mapping[str, Any] = records[REPORT]
            return found
    raise ReplyError("no_report", "a reply must hold a report")

"""Additive measures as the sites' replies bring them, each looked at before it counts."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from flwr.app import Message

from medfl.errors import ReplyError
from medfl.evaluation.measures import largest_group
from medfl.federation.program import Arrays, SiteFacts
from medfl.federation.records import MEASURES, arrays_in
from medfl.federation.reports import read_report
from medfl.federation.validation import check_count

_LONGEST_REASON = 80
_HIGHEST_COUNT = 10_000_000
_GREATEST = 1e100
_NO_REPLY = "no reply came in time"


@dataclass(frozen=True)
class Measured:
    """Additive measures per site, and why some are missing."""

    measures: dict[str, Arrays] = field(default_factory=dict)
    subjects: dict[str, int] = field(default_factory=dict)
    suppressed: dict[str, str] = field(default_factory=dict)


class Collected:
    """Collects one split's measures of one model.

    Parameters
    ----------
    split : str
    sites : iterable of str
        All that were asked.
    """

    def __init__(self, split: str, sites: Iterable[str]) -> None:
        self._split, self._missing = split, set(sites)
        self._found = Measured()

    def take(self, facts: SiteFacts, reply: Message) -> None:
        """Take one site's reply; one that cannot be used leaves a reason."""
        found = self._found
        try:
            report = read_report(reply)
            suppressed = str(report.get("suppressed", ""))[:_LONGEST_REASON]
            if suppressed:
                found.suppressed[facts.site] = suppressed
            else:
                highest = facts.subjects.get(self._split, _HIGHEST_COUNT)
                subjects = check_count("subjects", report.get("subjects"), highest=highest)
                measures = arrays_in(reply, MEASURES)
                if not measures:
                    raise ReplyError("no_measures", "a reply without a reason to hold back must hold measures")
                _check_size(measures)
                check_count("subjects of a block", largest_group(measures), highest=subjects, lowest=0)
                found.subjects[facts.site], found.measures[facts.site] = subjects, measures
        except ReplyError as error:
            found.suppressed[facts.site] = f"refused: {error.reason}"
        self._missing.discard(facts.site)

    def end(self) -> Measured:
        """Return what came, by name of site: intervals must not depend on who answered first."""
        late = dict.fromkeys(self._missing, _NO_REPLY)
        return Measured(
            dict(sorted(self._found.measures.items())),
            dict(sorted(self._found.subjects.items())),
            dict(sorted((self._found.suppressed | late).items())),
        )


def _check_size(measures: Arrays) -> None:
    """Refuse numbers that overflow when sites are added up; what is no number is left to who knows the measures."""
    for array in measures.values():
        if array.dtype.kind == "f" and np.any(np.abs(array[np.isfinite(array)]) > _GREATEST):
            raise ReplyError("too_great", f"measures must not be greater than {_GREATEST:g}")

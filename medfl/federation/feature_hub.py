"""The hub's side of shared features: sums, choice of a bottleneck, sealed releases."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import RecordDict

from medfl.errors import EnvelopeError, PrivacyError, ReplyError, ShapeError
from medfl.federation.hub import Hub, order_record, seconds_in
from medfl.federation.program import Arrays, Option
from medfl.federation.records import (
    CHOOSE,
    MEASURES,
    MODEL,
    ORDER,
    RELEASE,
    SEALED,
    SUMS,
    arrays_in,
    bytes_in,
    to_record,
)
from medfl.federation.reports import read_report
from medfl.federation.validation import check_arrays, check_count
from medfl.results.history import SiteRelease


@dataclass(frozen=True)
class Answers:
    """Additive arrays per site, by name of site, and why some are missing."""

    arrays: dict[str, Arrays]
    missing: dict[str, str]


@dataclass(frozen=True)
class Received:
    """What one site released.

    Attributes
    ----------
    features : ndarray of shape (N, C) or (N, C, *spatial), float32
    targets : ndarray
        (N,) or (N, *spatial), int64.
    key_id : str
        Of the keyed transform; empty without one.
    """

    features: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    targets: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    key_id: str = ""


Check = Callable[[Arrays], object]
"""Looks at the values of one site's reply."""

OpenRelease = Callable[[str, Arrays], Received]
"""(site, sealed arrays) -> what is in them; raises EnvelopeError or ReplyError."""


class FeatureHub:
    """Asks the members of a gathered hub for what feature sharing needs.

    Parameters
    ----------
    hub : Hub
        Already gathered.
    """

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._learning = dict.fromkeys((facts.site for facts in hub.members.values()), 0)

    def sums(self, expected: Arrays, check: Check) -> Answers:
        """Collect additive class sums.

        Parameters
        ----------
        expected : dict of str to ndarray
            Names, shapes and dtypes that a reply must have.
        check : callable
            Refuses values that cannot be, by raising ReplyError or ShapeError; then the site's reply is not used.
        """
        return self._additive(SUMS, {}, expected, check)

    def choose(self, candidates: Arrays, expected: Arrays, check: Check) -> Answers:
        """Collect counts of right answers per candidate; `expected` and `check` as for sums."""
        return self._additive(CHOOSE, candidates, expected, check)

    def release(
        self, model: Arrays, options: Mapping[str, Option], open_release: OpenRelease | None
    ) -> tuple[dict[str, Received], tuple[SiteRelease, ...]]:
        """Ask every site to protect its features, and collect them where the hub trains the head.

        Parameters
        ----------
        model : dict of str to ndarray
            Public directions of a bottleneck; may be empty.
        options : mapping
        open_release : callable or None
            None where the sites train the head and send nothing.

        Returns
        -------
        received : dict of str to Received
            By name of site, in order of names.
        releases : tuple of SiteRelease
            One record per member.
        """
        content = RecordDict({MODEL: to_record(model), ORDER: order_record(1, 1, options)})
        received: dict[str, Received] = {}
        records: dict[str, SiteRelease] = {}
        for facts, reply in self.hub.ask_members(RELEASE, content):
            up = bytes_in(reply) if reply.has_content() else 0
            try:
                report = read_report(reply)
                subjects = check_count("subjects", report.get("subjects"), highest=facts.subjects["train"], lowest=0)
                studies = check_count("studies", report.get("studies"), highest=facts.studies["train"], lowest=0)
                key_id = str(report.get("key-id", ""))[:32]
                if open_release is not None:
                    opened = open_release(facts.site, arrays_in(reply, SEALED))
                    if len(opened.features) != studies or (studies and not subjects):
                        raise ReplyError("count", "a release must hold as many studies and subjects as it says")
                    received[facts.site], key_id = opened, opened.key_id
                records[facts.site] = SiteRelease(
                    site=facts.site,
                    subjects=subjects,
                    studies=studies,
                    seconds=seconds_in(report),
                    bytes_up=up,
                    key_id=key_id,
                )
            except EnvelopeError as error:
                records[facts.site] = SiteRelease(site=facts.site, bytes_up=up, refused="envelope", detail=str(error))
            except ReplyError as error:
                records[facts.site] = SiteRelease(site=facts.site, bytes_up=up, refused=error.reason, detail=str(error))
        for facts in self.hub.members.values():
            if facts.site not in records:
                records[facts.site] = SiteRelease(site=facts.site, refused="no_reply", detail="no reply came in time")
        whole = [records[name].model_copy(update={"bytes_learning": self._learning[name]}) for name in sorted(records)]
        return dict(sorted(received.items())), tuple(whole)

    def _additive(self, kind: str, model: Arrays, expected: Arrays, check: Check) -> Answers:
        content = RecordDict({MODEL: to_record(model), ORDER: order_record(1, 1, {})})
        arrays: dict[str, Arrays] = {}
        missing = {facts.site: "no reply came in time" for facts in self.hub.members.values()}
        for facts, reply in self.hub.ask_members(kind, content):
            try:
                suppressed = str(read_report(reply).get("suppressed", ""))
                if suppressed:
                    missing[facts.site] = suppressed[:80]
                    continue
                self._learning[facts.site] += bytes_in(reply)
                answer = arrays_in(reply, MEASURES)
                check_arrays(answer, expected)
                check(answer)
            except (ReplyError, ShapeError) as error:
                missing[facts.site] = f"refused: {getattr(error, 'reason', 'bad_values')}"
                continue
            arrays[facts.site] = answer
            del missing[facts.site]
        if not arrays:
            reasons = "; ".join(f"{site}: {reason}" for site, reason in sorted(missing.items()))
            raise PrivacyError(f"At least one site must answer {kind.removeprefix('query.')}; none did ({reasons}).")
        return Answers(dict(sorted(arrays.items())), missing)

"""The hub's side of a round: ask, wait no longer than allowed, look at every reply, join what is left."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from medfl.errors import FederationError, ReplyError
from medfl.federation.collected import Collected, Measured
from medfl.federation.paired import pair, part_replies
from medfl.federation.program import SITE_NAME, Arrays, Option, SiteFacts
from medfl.federation.records import (
    CONTROL,
    DESCRIBE,
    EVALUATE,
    FINISH,
    MODEL,
    ORDER,
    TRAIN,
    arrays_in,
    bytes_in,
    to_record,
)
from medfl.federation.reports import read_report
from medfl.federation.strategies.strategy import SiteUpdate, Strategy
from medfl.federation.validation import check_arrays, check_count
from medfl.results.history import SiteRound

_POLL_S = 0.5
_HIGHEST_COUNT = 10_000_000
_LONGEST_REASON = 80


@dataclass(frozen=True)
class Limits:
    """How long and for how many the hub waits.

    Attributes
    ----------
    minimum_replies : int
        Fewer good replies leave the model as it is.
    round_timeout_s, join_timeout_s : float
        Longest wait for the replies of a round, and for sites to appear.
    """

    minimum_replies: int
    round_timeout_s: float
    join_timeout_s: float


@dataclass(frozen=True)
class Trained:
    """What a training round came to.

    Attributes
    ----------
    model : dict of str to ndarray
        The next global model; the same as before when the round was skipped.
    sites : tuple of SiteRound
    skipped : str
        Why the model was left as it was; empty when it was updated.
    measured : Measured or None
        Of the model that the round started from, where the sites were asked.
    """

    model: Arrays
    sites: tuple[SiteRound, ...]
    skipped: str
    measured: Measured | None = None


OnReply = Callable[[SiteRound], None]


class Hub:
    """Talks to the sites of one run over a Flower grid.

    Parameters
    ----------
    grid : Grid
    strategy : Strategy
    limits : Limits
    """

    def __init__(self, grid: Grid, strategy: Strategy, limits: Limits) -> None:
        self.grid = grid
        self.strategy = strategy
        self.limits = limits
        self.members: dict[int, SiteFacts] = {}

    def gather(self, count: int) -> tuple[SiteFacts, ...]:
        """Wait until `count` sites are there and have introduced themselves.

        Raises
        ------
        FederationError
            If too few answer in time, or two claim one name.
        """
        nodes = self._wait_for_nodes(count)
        facts: dict[int, SiteFacts] = {}
        refused: list[str] = []
        for node, reply in self._ask(DESCRIBE, dict.fromkeys(nodes, RecordDict()), self.limits.join_timeout_s):
            try:
                facts[node] = _facts(reply)
            except ReplyError as error:
                refused.append(str(error))
        names = [item.site for item in facts.values()]
        if len(set(names)) != len(names):
            raise FederationError(
                f"Every site must have its own name; {len(names)} sites sent {len(set(names))} names."
            )
        if len(facts) < count:
            said = f" ({'; '.join(sorted(set(refused)))})" if refused else ""
            raise FederationError(
                f"{count} sites must introduce themselves, {len(facts)} did{said}. Check the sites' logs."
            )
        self.members = dict(sorted(facts.items(), key=lambda item: item[1].site))
        return tuple(self.members.values())

    def train(
        self,
        number: int,
        rounds: int,
        model: Arrays,
        on_reply: OnReply | None = None,
        *,
        measure: tuple[int, str] | None = None,
    ) -> Trained:
        """Run one training round.

        Parameters
        ----------
        number, rounds : int
            This round, from 1, and how many are planned.
        model : dict of str to ndarray
        on_reply : callable or None
            Called as each reply arrives.
        measure : tuple of int and str or None
            Every site also measures `model` before it trains it: the round that it is the model of, and the split. Both
            together may then take twice as long.
        """
        shared = self.strategy.shared(model)
        order = order_record(number, rounds, self.strategy.instructions())
        content = RecordDict({MODEL: to_record(shared), ORDER: order})
        control = self.strategy.control(model)
        if control:
            content[CONTROL] = to_record(control)
        down = sum(array.nbytes for array in (*shared.values(), *control.values()))
        collected, timeout_s = None, self.limits.round_timeout_s
        if measure is not None:
            collected, timeout_s = self._collected(measure[1]), 2 * timeout_s
            content = pair(content, self._measure_order(measure[0], rounds, measure[1]))
        outcomes: dict[str, SiteRound] = {}
        updates: list[SiteUpdate] = []
        orders = dict.fromkeys(self.members, content)
        for node, reply in self._ask(TRAIN, orders, timeout_s, group=str(number)):
            facts, trained = self.members[node], reply
            if collected is not None:
                trained, evaluated = part_replies(reply)
                collected.take(facts, evaluated)
            update, outcome = self._judged(facts, trained, shared, model, down)
            if update is not None:
                updates.append(update)
            outcomes[facts.site] = outcome
            if on_reply is not None:
                on_reply(outcome)
        for facts in self.members.values():
            if facts.site not in outcomes:
                outcomes[facts.site] = _refused(facts.site, down, 0, "no_reply", "no reply came in time")
        sites = tuple(outcomes[facts.site] for facts in self.members.values())
        measured = None if collected is None else collected.end()
        if len(updates) < self.limits.minimum_replies:
            return Trained(model, sites, f"{len(updates)} good replies, {self.limits.minimum_replies} needed", measured)
        updates.sort(key=lambda update: update.site)
        return Trained(self.strategy.aggregate(model, updates), sites, "", measured)

    def evaluate(self, number: int, rounds: int, model: Arrays, split: str) -> Measured:
        """Collect additive measures of one split."""
        return self._measured(EVALUATE, number, rounds, model, split)

    def finish(self, number: int, rounds: int, model: Arrays, split: str) -> Measured:
        """Collect the final measures and let sites keep their cases and predictions."""
        return self._measured(FINISH, number, rounds, model, split)

    def _measured(self, kind: str, number: int, rounds: int, model: Arrays, split: str) -> Measured:
        order = self._measure_order(number, rounds, split)
        content = RecordDict({MODEL: to_record(self.strategy.shared(model)), ORDER: order})
        collected = self._collected(split)
        for node, reply in self._ask(kind, dict.fromkeys(self.members, content), self.limits.round_timeout_s):
            collected.take(self.members[node], reply)
        return collected.end()

    def _measure_order(self, number: int, rounds: int, split: str) -> ConfigRecord:
        return order_record(number, rounds, {**self.strategy.instructions(), "split": split})

    def _collected(self, split: str) -> Collected:
        return Collected(split, [facts.site for facts in self.members.values()])

    def _judged(
        self, facts: SiteFacts, reply: Message, shared: Arrays, model: Arrays, down: int
    ) -> tuple[SiteUpdate | None, SiteRound]:
        up = bytes_in(reply) if reply.has_content() else 0
        try:
            report = read_report(reply)
            studies = check_count("studies", report.get("studies"), highest=facts.studies["train"])
            subjects = check_count("subjects", report.get("subjects"), highest=facts.subjects["train"])
            arrays, control = arrays_in(reply, MODEL), arrays_in(reply, CONTROL)
            check_arrays(arrays, shared)
            check_arrays(control, self.strategy.expected_control(model))
        except ReplyError as error:
            return None, _refused(facts.site, down, up, error.reason, str(error))
        update = SiteUpdate(facts.site, arrays, control, studies)
        outcome = SiteRound(
            site=facts.site,
            subjects=subjects,
            studies=studies,
            loss=_number(report.get("loss")),
            seconds=seconds_in(report),
            bytes_down=down,
            bytes_up=up,
        )
        return update, outcome

    def ask_members(self, kind: str, content: RecordDict) -> Iterable[tuple[SiteFacts, Message]]:
        """Send one message to every member and yield each one's first reply, with who it is."""
        for node, reply in self._ask(kind, dict.fromkeys(self.members, content), self.limits.round_timeout_s):
            yield self.members[node], reply

    def _ask(
        self, kind: str, contents: Mapping[int, RecordDict], timeout_s: float, group: str = "0"
    ) -> Iterable[tuple[int, Message]]:
        """Send one message to each node and yield each node's first reply."""
        messages = [Message(content, node, kind, group_id=group, ttl=timeout_s) for node, content in contents.items()]
        waiting = set(contents)
        for reply in self.grid.send_and_receive(messages, timeout=timeout_s):
            node = reply.metadata.src_node_id
            if node in waiting:
                waiting.discard(node)
                yield node, reply

    def _wait_for_nodes(self, count: int) -> list[int]:
        deadline = time.monotonic() + self.limits.join_timeout_s
        while True:
            nodes = list(self.grid.get_node_ids())
            if len(nodes) >= count:
                return nodes
            if time.monotonic() > deadline:
                raise FederationError(
                    f"{count} sites must be connected within {self.limits.join_timeout_s:g} s, found {len(nodes)}. "
                    "Start the missing sites or raise federation.join_timeout_s."
                )
            time.sleep(_POLL_S)


def order_record(number: int, rounds: int, options: Mapping[str, Option]) -> ConfigRecord:
    """Return what a site is asked to do, as it travels."""
    order = ConfigRecord({"round": number, "rounds": rounds})
    for name, value in options.items():
        order[name] = value
    return order


def _facts(reply: Message) -> SiteFacts:
    report = read_report(reply)
    site = report.get("site")
    if not isinstance(site, str) or not SITE_NAME.fullmatch(site):
        raise ReplyError("site_name", "a site's name must be letters, digits, blanks, '.', '_' or '-', at most 64")

    def counts(what: str) -> dict[str, int]:
        names = {split: f"{what}-{split}" for split in ("train", "val", "test")}
        return {
            split: check_count(name, report.get(name, 0), highest=_HIGHEST_COUNT, lowest=0)
            for split, name in names.items()
        }

    return SiteFacts(site, subjects=counts("subjects"), studies=counts("studies"))


def _refused(site: str, down: int, up: int, reason: str, detail: str) -> SiteRound:
    return SiteRound(site=site, bytes_down=down, bytes_up=up, refused=reason, detail=detail)


def seconds_in(report: Mapping[str, Any]) -> float:
    """Return the seconds that a site says it needed; 0 where it does not."""
    return _number(report.get("seconds")) or 0.0


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

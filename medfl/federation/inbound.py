"""What a hub may ask of a site under an approved plan, and the check that every message has to pass before any work.

The hash of a bundle covers neither the run configuration nor what messages hold, so both are compared with the plan
here: kinds, records, arrays, options, splits and rounds. Nothing is computed, and nothing is decoded but headers.
"""

from collections.abc import Mapping
from typing import Annotated

from flwr.app import RecordDict
from pydantic import BaseModel, ConfigDict, Field

from medfl.errors import EgressError, FederationError, ReplyError
from medfl.federation.array_facts import array_facts
from medfl.federation.program import Option
from medfl.federation.records import ORDER
from medfl.governance.egress import Egress, KindRule, RecordRule, ReplyFacts, check

SPLIT, HUB_KEY = "split", "hub-key"
_LONGEST_KEY = 4096
_REASONS = {
    "unknown_record": "message_record",
    "unknown_array": "message_array",
    "missing_array": "message_array",
    "shape": "message_shape",
    "dtype": "message_dtype",
    "bytes": "message_bytes",
}


class RequestError(FederationError):
    """A hub asked for something that the approved plan does not have; nothing was computed.

    Parameters
    ----------
    reason : str
        Stable code such as "message_round"; it goes into the audit log.
    message : str
        What must hold, without anything of the message.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RequestRule(_Closed):
    """Everything that one kind of message may hold.

    Attributes
    ----------
    kind : str
        Type of the message, such as "train".
    records : tuple of RecordRule
        Arrays; a record whose rule is `whole` must be there.
    has_order : bool
        Whether the message carries an order; if not, it is empty.
    options : mapping of str to Option
        Exactly these stand in the order, with these values.
    split : str
        The only split that may be asked for; empty where none is.
    has_hub_key : bool
        Whether the order carries a public key of the hub.
    first, last, every : int
        Rounds in which it may come: from `first` to `last`, multiples of `every`.
    said_rounds : int
        How many rounds the order must say are planned.
    most : int
        How often it may come for the same round; a hub that is started again asks again.
    max_bytes : int
        Most bytes of arrays.
    """

    kind: str
    records: tuple[RecordRule, ...] = ()
    has_order: bool = True
    options: Mapping[str, Option] = {}
    split: str = ""
    has_hub_key: bool = False
    first: int = Field(default=1, ge=0)
    last: int = Field(default=1, ge=0)
    every: int = Field(default=1, ge=1)
    said_rounds: int = Field(default=1, ge=0)
    most: int = Field(default=1, ge=1)
    max_bytes: int = Field(default=0, ge=0)


class Requests(_Closed):
    """All messages that a plan has.

    Attributes
    ----------
    rules : tuple of RequestRule
    deadline_s : float
        Longest time that one message may take at the site.
    """

    rules: tuple[RequestRule, ...]
    deadline_s: Annotated[float, Field(gt=0)]

    def rule(self, kind: str) -> RequestRule:
        """Return what one kind of message may hold.

        Raises
        ------
        RequestError
            With reason "message_kind".
        """
        for rule in self.rules:
            if rule.kind == kind:
                return rule
        raise RequestError("message_kind", "A hub must ask for what the approved plan has; it asked for another kind.")


def check_run_config(found: Mapping[str, object], settings: str, *, key: str, unused: tuple[str, ...]) -> None:
    """Compare the run configuration with the approved plan.

    Parameters
    ----------
    found : mapping
        As it arrived.
    settings : str
        Of the approved plan.
    key : str
        Under which the settings must stand, word for word.
    unused : tuple of str
        Further keys that may be there; sites never read them.

    Raises
    ------
    RequestError
        With reason "run_config" for another key, "settings" for other settings.
    """
    if not set(found) <= {key, *unused}:
        raise RequestError("run_config", "A run configuration must hold known keys only; another one was found.")
    if found.get(key) != settings:
        raise RequestError("settings", "The run's settings must be those of the approved plan, word for word.")


def check_request(content: RecordDict, rule: RequestRule) -> int:
    """Let a message pass, or refuse it whole.

    Parameters
    ----------
    content : RecordDict
        Of the message.
    rule : RequestRule

    Returns
    -------
    int
        The round it is for; 0 before the first.

    Raises
    ------
    RequestError
    """
    orders = {ORDER} if rule.has_order else set()
    if set(content.config_records) != orders or content.metric_records:
        raise RequestError("message_record", "A message must hold the arrays and the order of the plan, nothing else.")
    _check_arrays(content, rule)
    return _checked_round(content.config_records[ORDER], rule) if rule.has_order else 0


def _check_arrays(content: RecordDict, rule: RequestRule) -> None:
    try:
        records = {name: array_facts(record) for name, record in content.array_records.items()}
        kind = KindRule(
            kind=rule.kind,
            about="a request",
            records=rule.records,
            report=(),
            minimum_subjects=0,
            times=1,
            max_bytes=rule.max_bytes,
        )
        check(ReplyFacts(rule.kind, records, {}), Egress(kinds=(kind,)))
    except ReplyError as error:
        raise RequestError(error.reason, "Arrays must be plain numbers; something else was sent.") from error
    except EgressError as error:
        reason = _REASONS.get(error.reason, "message_content")
        raise RequestError(reason, "Arrays must be those of the approved plan; others were sent.") from error
    if any(record.whole and record.arrays and not records.get(record.name) for record in rule.records):
        raise RequestError("message_record", "A message must hold every record of the plan; one is missing.")


def _checked_round(order: Mapping[str, object], rule: RequestRule) -> int:
    expected: dict[str, object] = dict(rule.options)
    if rule.split:
        expected[SPLIT] = rule.split
    names = {"round", "rounds", *expected, *((HUB_KEY,) if rule.has_hub_key else ())}
    if set(order) != names or not all(_same(order[name], value) for name, value in expected.items()):
        raise RequestError("message_order", "An order must hold exactly the options of the approved plan.")
    key = order.get(HUB_KEY, "")
    if not isinstance(key, str) or len(key) > _LONGEST_KEY:
        raise RequestError("message_order", "The hub's key must be a short text.")
    number, said = order["round"], order["rounds"]
    if type(number) is not int or type(said) is not int or said != rule.said_rounds:
        raise RequestError("message_round", "An order must say how many rounds the approved plan has.")
    if not rule.first <= number <= rule.last or number % rule.every:
        raise RequestError("message_round", "An order must be for a round in which the approved plan has it.")
    return number


def _same(found: object, expected: object) -> bool:
    """Compare with types: 1, 1.0 and True are not the same order."""
    if isinstance(expected, list):
        return isinstance(found, list) and [*found] == expected
    return type(found) is type(expected) and found == expected

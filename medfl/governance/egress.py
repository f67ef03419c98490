"""What may leave a site: a closed table of every reply, and one check that every reply has to pass.

The table is made from the settings of a plan, shown to the administrator and stored with the approval. The check sees
names, types, shapes, sizes and counts, never the numbers inside arrays: it stops what does not belong in a reply, not
what a permitted array says about people. What permitted arrays say is stated beside them (`KindRule.about`).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from medfl.errors import EgressError

ReportValue = int | float | str
ITEM_BYTES = {"float64": 8, "float32": 4, "float16": 2, "int64": 8, "int32": 4, "int8": 1, "uint8": 1, "bool": 1}
"""Types that an array may have, with the bytes of one value."""
HEADER_BYTES = 256
"""Most that an array's name, type and shape add to its values on the wire."""
_RANDOM = re.compile(r"[0-9a-f]{16}")


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ArrayRule(_Closed):
    """One array, or every array of one kind.

    Attributes
    ----------
    name : str
        Exact name; with `many`, what such names begin with: 16 hexadecimal digits follow, drawn at random.
    shape : tuple of int or None
        None stands for an axis whose length is not known beforehand; `longest` bounds it.
    dtype : str
    longest : int
        Greatest length of a free axis.
    many : bool
        Any number of arrays, up to `most`.
    most : int
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    longest: int = Field(default=0, ge=0)
    many: bool = False
    most: int = Field(default=1, ge=1)

    def highest_bytes(self) -> int:
        """Return the most bytes that arrays under this rule can have on the wire."""
        values = prod(self.longest if extent is None else extent for extent in self.shape)
        return self.most * (values * ITEM_BYTES[self.dtype] + HEADER_BYTES)


class RecordRule(_Closed):
    """One record of a reply.

    Attributes
    ----------
    name : str
    arrays : tuple of ArrayRule
        Nothing else may be in it.
    whole : bool
        All arrays must be there, or none.
    note : str
        What is not known from the plan alone, in plain words; empty when every shape is.
    """

    name: str
    arrays: tuple[ArrayRule, ...]
    whole: bool = True
    note: str = ""

    def highest_bytes(self) -> int:
        """Return the most bytes this record can have."""
        return sum(rule.highest_bytes() for rule in self.arrays)


class FieldRule(_Closed):
    """One value of a reply's report.

    Attributes
    ----------
    name : str
    kind : str
        "int", "float" (also a whole number; may be infinite or no number), or "text".
    lowest, highest : float
        Of numbers.
    pattern : str
        Of a text; all of it must match.
    required : bool
    """

    name: str
    kind: Literal["int", "float", "text"]
    lowest: float = 0.0
    highest: float = 1e12
    pattern: str = ""
    required: bool = True


class Guarantee(_Closed):
    """Differential privacy of one kind of reply, over all of them in a run, as the plan promises it.

    Attributes
    ----------
    epsilon, delta : float
    unit : str
        Whom it is for, such as "one subject".
    adjacency : str
        What neighboring data sets are: "add or remove" or "replace" the unit.
    """

    epsilon: float = Field(gt=0)
    delta: float = Field(gt=0, lt=1)
    unit: str
    adjacency: str


class KindRule(_Closed):
    """Everything that the reply to one kind of message may hold.

    Attributes
    ----------
    kind : str
        Type of the message, such as "train".
    about : str
        What it is and what it is about, in plain words.
    split : str
        Studies that it is computed from: "train", "val", "test", several joined by " and ", or "" for none.
    records : tuple of RecordRule
    report : tuple of FieldRule
    counted : tuple of str
        Fields of the report that together count the subjects behind the reply.
    minimum_subjects : int
        Fewest subjects behind a reply that says anything.
    times : int
        Most replies of this kind in a run that leave the site with content; a repeated one counts.
    max_bytes : int
        Most bytes of arrays in one reply.
    guarantee : Guarantee or None
        None is no proven guarantee: epsilon is infinite.
    """

    kind: str
    about: str
    split: str = ""
    records: tuple[RecordRule, ...] = ()
    report: tuple[FieldRule, ...]
    counted: tuple[str, ...] = ()
    minimum_subjects: Annotated[int, Field(ge=0)]
    times: Annotated[int, Field(ge=1)]
    max_bytes: Annotated[int, Field(ge=0)]
    guarantee: Guarantee | None = None

    def values(self) -> int:
        """Return the most numbers in one reply's arrays."""
        return sum(
            rule.most * prod(rule.longest if extent is None else extent for extent in rule.shape)
            for record in self.records
            for rule in record.arrays
        )


class Egress(_Closed):
    """All replies that a plan lets out of a site; any other kind is refused.

    Attributes
    ----------
    kinds : tuple of KindRule
    """

    kinds: tuple[KindRule, ...]

    def rule(self, kind: str) -> KindRule:
        """Return what the reply to one kind of message may hold.

        Raises
        ------
        EgressError
            With reason "unknown_kind".
        """
        for rule in self.kinds:
            if rule.kind == kind:
                return rule
        raise EgressError("unknown_kind", "A reply must answer a kind of message that the approved plan has.")

    def total_bytes(self) -> int:
        """Return the most bytes of arrays that all replies of a run can have together."""
        return sum(rule.times * rule.max_bytes for rule in self.kinds)


@dataclass(frozen=True)
class ArrayFacts:
    """One array as it would leave: `nbytes` counts what travels, header and all."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True)
class ReplyFacts:
    """What can be said about a reply without looking at the numbers in its arrays.

    Attributes
    ----------
    kind : str
        Type of the message that it answers.
    records : mapping of str to tuple of ArrayFacts
        Array records by name.
    report : mapping of str to int, float or str
    others : tuple of str
        Names of all records that are neither arrays nor the report.
    """

    kind: str
    records: Mapping[str, tuple[ArrayFacts, ...]]
    report: Mapping[str, object]
    others: tuple[str, ...] = field(default=())

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for arrays in self.records.values() for array in arrays)


def check(reply: ReplyFacts, egress: Egress) -> None:
    """Let a reply pass, or refuse it whole.

    Parameters
    ----------
    reply : ReplyFacts
    egress : Egress
        Of the approved plan.

    Raises
    ------
    EgressError
        With one of the reasons "unknown_kind", "unknown_record", "unknown_array", "missing_array", "shape", "dtype",
        "bytes", "report" and "too_few_subjects". Its text names rules and counts, never something of the reply.
    """
    rule = egress.rule(reply.kind)
    records = {record.name: record for record in rule.records}
    if reply.others or not set(reply.records) <= set(records):
        raise EgressError("unknown_record", f"A reply to {rule.kind} must hold {_listed(records)} and a report only.")
    if reply.nbytes > rule.max_bytes:
        raise EgressError(
            "bytes", f"A reply to {rule.kind} must have at most {rule.max_bytes} bytes, found {reply.nbytes}."
        )
    for name, arrays in reply.records.items():
        _check_record(arrays, records[name])
    _check_report(reply.report, rule)
    _check_subjects(reply, rule)


def _check_record(arrays: tuple[ArrayFacts, ...], record: RecordRule) -> None:
    if len({array.name for array in arrays}) != len(arrays):
        raise EgressError("unknown_array", f"Record {record.name} must name every array once.")
    used = {rule.name: 0 for rule in record.arrays}
    exact = {rule.name: rule for rule in record.arrays if not rule.many}
    for array in arrays:
        rule = exact.get(array.name) or _family(array.name, record)
        if rule is None:
            raise EgressError(
                "unknown_array", f"Record {record.name} must hold arrays of the plan only, found another name."
            )
        used[rule.name] += 1
        if used[rule.name] > rule.most:
            raise EgressError("unknown_array", f"Record {record.name} must hold at most {rule.most} of {rule.name}.")
        _check_array(array, rule, record.name)
    missing = [rule.name for rule in record.arrays if not rule.many and not used[rule.name]]
    if arrays and record.whole and missing:
        raise EgressError("missing_array", f"Record {record.name} must be whole; {len(missing)} arrays are missing.")


def _family(name: str, record: RecordRule) -> ArrayRule | None:
    return next(
        (
            rule
            for rule in record.arrays
            if rule.many and name.startswith(rule.name) and _RANDOM.fullmatch(name.removeprefix(rule.name))
        ),
        None,
    )


def _check_array(array: ArrayFacts, rule: ArrayRule, record: str) -> None:
    if array.dtype != rule.dtype:
        raise EgressError("dtype", f"Array {rule.name} of {record} must be {rule.dtype}.")
    fits = len(array.shape) == len(rule.shape) and all(
        found <= rule.longest if planned is None else found == planned
        for found, planned in zip(array.shape, rule.shape, strict=False)
    )
    if not fits:
        raise EgressError("shape", f"Array {rule.name} of {record} must have the planned shape {list(rule.shape)}.")
    if array.nbytes > prod(array.shape) * ITEM_BYTES[rule.dtype] + HEADER_BYTES:
        raise EgressError("bytes", f"Array {rule.name} of {record} must have no more bytes than its values need.")


def _check_report(report: Mapping[str, object], rule: KindRule) -> None:
    known = {one.name: one for one in rule.report}
    if not set(report) <= set(known):
        raise EgressError("report", f"The report of {rule.kind} must hold {_listed(known)} only.")
    for name, one in known.items():
        if name not in report:
            if one.required:
                raise EgressError("report", f"The report of {rule.kind} must hold {name}.")
        elif not _fits(report[name], one):
            raise EgressError("report", f"{name} in the report of {rule.kind} must be a planned {one.kind} in range.")


def _fits(value: object, rule: FieldRule) -> bool:
    match rule.kind:
        case "text":
            return isinstance(value, str) and re.fullmatch(rule.pattern, value) is not None
        case "int":
            return isinstance(value, int) and not isinstance(value, bool) and rule.lowest <= value <= rule.highest
        case "float":
            if not isinstance(value, int | float) or isinstance(value, bool):
                return False
            return not math.isfinite(value) or rule.lowest <= value <= rule.highest


def _check_subjects(reply: ReplyFacts, rule: KindRule) -> None:
    counts = [reply.report.get(name, 0) for name in rule.counted]
    subjects = sum(count for count in counts if isinstance(count, int))
    says_something = subjects > 0 or any(reply.records.values())
    if says_something and subjects < rule.minimum_subjects:
        raise EgressError(
            "too_few_subjects", f"A reply to {rule.kind} must be about at least {rule.minimum_subjects} subjects."
        )


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(names) or "nothing"

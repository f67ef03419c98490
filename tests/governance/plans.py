"""Plans and tables that the tests of governance share."""

from datetime import date
from typing import Any

from medfl.governance.egress import ArrayFacts, ArrayRule, Egress, FieldRule, KindRule, RecordRule, ReplyFacts
from medfl.governance.plan import Plan

PROPOSED: dict[str, Any] = {
    "name": "demo",
    "medfl_version": "0.1.0",
    "protocol": "Ethics vote 12/2026",
    "legal_basis": "Consent, version 3",
    "purpose": "Segmentation of phantoms",
    "contact": "Data office, +49 1",
    "expires": date(2027, 6, 30),
    "sites": ("north", "south"),
    "settings": "name: demo\n",
}


def a_plan(**changes: Any) -> Plan:
    """Return a small plan."""
    return Plan.model_validate(PROPOSED | changes)


def an_egress(**changes: Any) -> Egress:
    """Return a table with one kind of reply: one fixed array and any number of sealed ones."""
    values: dict[str, Any] = {
        "kind": "train",
        "about": "model weights",
        "records": (
            RecordRule(
                name="model",
                arrays=(
                    ArrayRule(name="weight", shape=(2, 3), dtype="float32"),
                    ArrayRule(name="bias", shape=(3,), dtype="float32"),
                ),
            ),
            RecordRule(
                name="sealed",
                arrays=(ArrayRule(name="study-", shape=(None,), dtype="uint8", longest=100, many=True, most=2),),
            ),
        ),
        "report": (
            FieldRule(name="subjects", kind="int"),
            FieldRule(name="loss", kind="float", required=False),
            FieldRule(name="suppressed", kind="text", pattern=r"(fewer than \d+ subjects)?", required=False),
        ),
        "counted": ("subjects",),
        "minimum_subjects": 5,
        "times": 2,
        "max_bytes": 2000,
    }
    return Egress(kinds=(KindRule.model_validate(values | changes),))


WEIGHT = ArrayFacts("weight", "float32", (2, 3), 24 + 128)
BIAS = ArrayFacts("bias", "float32", (3,), 12 + 128)


def a_reply(**changes: Any) -> ReplyFacts:
    """Return a reply that the table lets out."""
    values: dict[str, Any] = {
        "kind": "train",
        "records": {"model": (WEIGHT, BIAS)},
        "report": {"subjects": 6, "loss": 0.5},
    }
    return ReplyFacts(**(values | changes))

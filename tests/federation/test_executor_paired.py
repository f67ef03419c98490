"""A message with two questions is held to the plan like two messages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from medfl.federation.frames import Frame, FrameError
from medfl.federation.guard import DATA_ERROR
from medfl.federation.inbound import RequestRule
from medfl.federation.packing import unpack_message
from medfl.federation.paired import pair, part_replies
from medfl.federation.record_bytes import records_from_bytes, records_to_bytes
from medfl.federation.records import EVALUATE, MEASURES, MODEL, ORDER, REPORT, TRAIN, to_record
from medfl.governance.egress import ArrayRule, FieldRule, KindRule, RecordRule
from tests.federation.played_site import EGRESS, NOW, PLAN, RECORD, REQUESTS, FakeTask, Site, a_reply, a_request

EVALUATE_RULE = RequestRule(
    kind=EVALUATE, records=(RECORD,), options={"proximal": 0.1}, split="val", last=2, said_rounds=2, max_bytes=2000
)
PAIRS = REQUESTS.model_copy(update={"rules": (REQUESTS.rules[0], EVALUATE_RULE)})
SUMS = RecordRule(name=MEASURES, arrays=(ArrayRule(name="hits", shape=(2,), dtype="float64"),))
MEASURED = KindRule(
    kind=EVALUATE,
    about="sums",
    records=(SUMS,),
    report=(FieldRule(name="subjects", kind="int"),),
    counted=("subjects",),
    minimum_subjects=5,
    times=1,
    max_bytes=1000,
)
OUT = EGRESS.model_copy(update={"kinds": (*EGRESS.kinds, MEASURED)})
TRAIN_ORDER = {"round": 2, "rounds": 2, "proximal": 0.1}
EVALUATE_ORDER = {"round": 1, "rounds": 2, "proximal": 0.1, "split": "val"}


@pytest.fixture(autouse=True)
def _identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower makes messages only inside of a task."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def measured(subjects: int = 7, name: str = "hits") -> RecordDict:
    report = ConfigRecord({"subjects": subjects})
    return RecordDict({MEASURES: to_record({name: np.array([1.0, 2.0])}), REPORT: report})


def answering(trained: RecordDict | int, evaluated: RecordDict | int) -> Callable[[Frame], Frame]:
    def says(question: Frame) -> Frame:
        kind = str(question.head["kind"])
        outcome = trained if kind == TRAIN else evaluated
        if isinstance(outcome, int):
            return Frame({"error": outcome})
        return Frame({"error": 0}, (records_to_bytes(outcome), f"after {kind}".encode()))

    return says


def site_of(folder: Path, trained: RecordDict | int | None = None, evaluated: RecordDict | int | None = None) -> Site:
    says = answering(a_reply() if trained is None else trained, measured() if evaluated is None else evaluated)
    return Site(folder, says, requests=PAIRS, egress=OUT)


def a_pair(evaluate: dict[str, Any] | None = None, train: dict[str, Any] | None = None) -> FakeTask:
    content = a_request(order=TRAIN_ORDER if train is None else train)
    return FakeTask(records=pair(content, ConfigRecord(EVALUATE_ORDER if evaluate is None else evaluate)))


def parts(reply: Message) -> tuple[str, str]:
    """Return what each question was answered with: names of records, or a code."""
    unpack_message(reply)
    train, evaluate = (
        str(one.error.code) if one.has_error() else " ".join(sorted(one.content)) for one in part_replies(reply)
    )
    return train, evaluate


def test_the_worker_is_asked_twice_and_never_sees_a_pair(tmp_path: Path) -> None:
    site = site_of(tmp_path)
    assert parts(site.ask(a_pair())) == ("model report", "measures report")
    contents = [records_from_bytes(asked.parts[0]) for asked in site.worker.asked]
    assert [asked.head["kind"] for asked in site.worker.asked] == [EVALUATE, TRAIN]
    assert [set(content) for content in contents] == [{MODEL, ORDER}] * 2
    assert [content.config_records[ORDER]["round"] for content in contents] == [1, 2]


def test_both_replies_stand_in_the_audit_log_with_their_rounds(tmp_path: Path) -> None:
    site = site_of(tmp_path)
    site.ask(a_pair())
    told = [(one.operation, one.round) for one in site.log.entries() if one.operation in ("task.start", "reply.send")]
    assert told == [("task.start", 1), ("reply.send", 1), ("task.start", 2), ("reply.send", 2)]
    assert site.log.verify() is None


def test_training_starts_from_what_the_round_before_kept(tmp_path: Path) -> None:
    site = site_of(tmp_path)
    site.ask(FakeTask())
    site.ask(a_pair())
    assert [asked.parts[1] for asked in site.worker.asked] == [b"", b"after train", b"after train"]


_REFUSED: dict[str, tuple[FakeTask, str]] = {
    "measures of a round without": (a_pair(EVALUATE_ORDER | {"round": 3}), "message_round"),
    "measures of another split": (a_pair(EVALUATE_ORDER | {"split": "train"}), "message_order"),
    "measures with another option": (a_pair(EVALUATE_ORDER | {"proximal": 9.0}), "message_order"),
    "measures without a split": (a_pair({"round": 1, "rounds": 2, "proximal": 0.1}), "message_order"),
    "training of a round without": (a_pair(train=TRAIN_ORDER | {"round": 3}), "message_round"),
    "training with another option": (a_pair(train=TRAIN_ORDER | {"proximal": 9.0}), "message_order"),
    "a pair that asks to evaluate": (FakeTask(records=a_pair().records, kind=EVALUATE), "message_record"),
}


@pytest.mark.parametrize("name", _REFUSED)
def test_where_one_question_is_not_in_the_plan_none_is_answered(tmp_path: Path, name: str) -> None:
    site, (task, reason) = site_of(tmp_path), _REFUSED[name]
    reply = site.ask(task)
    assert reply.has_error()
    assert reply.error.reason == "request_refused"
    assert site.last().reason == reason
    assert site.worker.asked == []


def test_a_plan_without_measures_refuses_a_pair(tmp_path: Path) -> None:
    requests = PAIRS.model_copy(update={"rules": PAIRS.rules[:1]})
    site = Site(tmp_path, answering(a_reply(), measured()), requests=requests, egress=OUT)
    assert site.ask(a_pair()).error.reason == "request_refused"
    assert site.last().reason == "message_kind"


def test_measures_asked_for_too_often_are_refused_and_training_goes_on(tmp_path: Path) -> None:
    site = site_of(tmp_path)
    site.ask(a_pair())
    assert parts(site.ask(a_pair())) == ("model report", "9007")
    assert [asked.head["kind"] for asked in site.worker.asked] == [EVALUATE, TRAIN, TRAIN]


@pytest.mark.parametrize(
    ("evaluated", "reason"),
    [(measured(subjects=4), "too_few_subjects"), (measured(name="names"), "unknown_array"), (DATA_ERROR, "data_error")],
)
def test_measures_that_may_not_leave_do_not_leave_with_the_weights(
    tmp_path: Path, evaluated: RecordDict | int, reason: str
) -> None:
    site = site_of(tmp_path, evaluated=evaluated)
    train, evaluate = parts(site.ask(a_pair()))
    assert train == "model report"
    assert evaluate == ("9001" if reason == "data_error" else "9003")
    assert [one.reason for one in site.log.entries() if one.verdict in ("refused", "failed")] == [reason]


def test_weights_that_may_not_leave_do_not_leave_with_the_measures(tmp_path: Path) -> None:
    site = site_of(tmp_path, trained=a_reply(subjects=4))
    assert parts(site.ask(a_pair())) == ("9003", "measures report")


def test_a_worker_that_dies_at_the_measures_is_started_again_for_the_training(tmp_path: Path) -> None:
    site = site_of(tmp_path)
    says = site.worker.says

    def dies_first(question: Frame) -> Frame:
        if question.head["kind"] == EVALUATE:
            site.worker.is_running = False
            raise FrameError("worker_died", "gone")
        return says(question)

    site.worker.says = dies_first
    assert parts(site.ask(a_pair())) == ("model report", "9009")
    assert site.worker.starts == 2


WORDS = {"paused": "paused", "revoked": "not_approved"}


def stopping(site: Site, what: str, at: str, dies: bool = False) -> None:
    """Pause or revoke while the worker answers one kind of question, after the last look of the executor."""
    says = site.worker.says

    def meanwhile(question: Frame) -> Frame:
        if question.head["kind"] == at:
            if what == "revoked":
                site.approvals.revoke(PLAN.sha256(), "Jo Admin", NOW)
            site.paused = what == "paused"
            if dies:
                raise FrameError("worker_died", "gone")
        return says(question)

    site.worker.says = meanwhile


@pytest.mark.parametrize("what", WORDS)
@pytest.mark.parametrize("dies", [False, True])
def test_where_the_site_pauses_or_revokes_while_it_trains_nothing_leaves(tmp_path: Path, what: str, dies: bool) -> None:
    site = site_of(tmp_path)
    stopping(site, what, TRAIN, dies)
    reply = site.ask(a_pair())
    assert reply.has_error()
    assert reply.error.reason == WORDS[what]
    assert ("reply.refuse", 1) in [(one.operation, one.round) for one in site.log.entries()]


@pytest.mark.parametrize("what", WORDS)
def test_where_the_site_pauses_or_revokes_while_it_measures_it_does_not_start_to_train(
    tmp_path: Path, what: str
) -> None:
    site = site_of(tmp_path)
    stopping(site, what, EVALUATE)
    reply = site.ask(a_pair())
    assert reply.error.reason == WORDS[what]
    assert [asked.head["kind"] for asked in site.worker.asked] == [EVALUATE]
    assert [one.round for one in site.log.entries() if one.operation == "task.start"] == [1]
    assert not [one for one in site.log.entries() if one.operation == "reply.send"]

"""Everything a hub can try, against an executor whose worker would answer anything."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from medfl.federation.executor import Executor, SiteLimits
from medfl.federation.executor_runtime import CLIENT_TASK
from medfl.federation.executor_task import TaskHead, TooManyBytesError
from medfl.federation.frames import Frame, FrameError
from medfl.federation.guard import INTERNAL_ERROR, WORDS
from medfl.federation.inbound import RequestRule, Requests
from medfl.federation.packing import PACKED, pack, unpack
from medfl.federation.record_bytes import records_to_bytes
from medfl.federation.records import TRAIN, to_record
from medfl.federation.worker_process import WorkerProcess
from medfl.governance.approvals import Approvals
from medfl.governance.audit_log import AuditLog, Entry
from medfl.governance.egress import ArrayRule, Egress, FieldRule, KindRule, RecordRule
from tests.governance.plans import a_plan

TODAY, NOW = date(2027, 1, 5), datetime(2027, 1, 5, 9, tzinfo=UTC)
PLAN = a_plan()
BUNDLE = "b" * 64
MODEL = {"weight": np.ones((2, 3), np.float32)}
RECORD = RecordRule(name="model", arrays=(ArrayRule(name="weight", shape=(2, 3), dtype="float32"),))
REQUESTS = Requests(
    rules=(
        RequestRule(
            kind="train", records=(RECORD,), options={"proximal": 0.1}, last=2, said_rounds=2, most=2, max_bytes=2000
        ),
        RequestRule(kind="evaluate", split="val", last=2, said_rounds=2),
    ),
    deadline_s=60,
)
EGRESS = Egress(
    kinds=(
        KindRule(
            kind="train",
            about="weights",
            records=(RECORD,),
            report=(FieldRule(name="subjects", kind="int"),),
            counted=("subjects",),
            minimum_subjects=5,
            times=4,
            max_bytes=2000,
        ),
    )
)
ORDER: dict[str, Any] = {"round": 1, "rounds": 2, "proximal": 0.1}


def _records(arrays: dict[str, Any] | None = None, order: dict[str, Any] | None = None) -> RecordDict:
    content = RecordDict({"model": to_record(MODEL if arrays is None else arrays)})
    content["order"] = ConfigRecord(ORDER if order is None else order)
    return content


def _reply(arrays: dict[str, Any] | None = None, subjects: int = 9) -> RecordDict:
    content = RecordDict({"model": to_record(MODEL if arrays is None else arrays)})
    content["report"] = MetricRecord({"subjects": subjects})
    return content


@dataclass
class FakeTask:
    """A message that arrived."""

    records: RecordDict = field(default_factory=_records)
    kind: str = TRAIN
    task: str = CLIENT_TASK
    bundle: str = BUNDLE
    run_config: dict[str, object] = field(default_factory=lambda: {"plan": PLAN.settings, "out": "/x", "sites": 2})
    size: int = 0
    reply: Message | None = None
    fetched: bool = False

    def head(self) -> TaskHead:
        message = Message(RecordDict(), 1, self.kind)
        return TaskHead(self.task, 7, 1, self.bundle, self.run_config, message)

    def content(self, most_bytes: int) -> RecordDict:
        self.fetched = True
        if self.size > most_bytes:
            raise TooManyBytesError("too much")
        return self.records

    def answer(self, reply: Message) -> None:
        self.reply = reply

    def drop(self) -> None:
        raise AssertionError("every task here can be answered")

    def is_lost(self) -> bool:
        return False


@dataclass
class FakeWorker:
    """Says what it is told to say, and remembers whether it was asked to compute."""

    says: Callable[[Frame], Frame]
    asked: list[Frame] = field(default_factory=list)
    is_running: bool = False
    starts: int = 0

    def start(self) -> None:
        self.is_running = True
        self.starts += 1

    def ask(self, question: Frame, deadline: float, watch: Callable[[], None] | None = None) -> Frame:
        if question.head["ask"] == "requests":
            return Frame({"requests": REQUESTS.model_dump(mode="json")})
        self.asked.append(question)
        if watch is not None:
            watch()
        return self.says(question)


def _says(content: RecordDict | bytes | None = None, memory: bytes = b"kept") -> Callable[[Frame], Frame]:
    found = _reply() if content is None else content
    answer = found if isinstance(found, bytes) else records_to_bytes(found)
    return lambda _: Frame({"error": 0}, (answer, memory))


class Site:
    """A site with one approved plan."""

    def __init__(self, folder: Path, says: Callable[[Frame], Frame] | None = None, most_bytes_out: int = 10**6) -> None:
        self.approvals = Approvals(folder)
        self.approvals.approve(PLAN, bundle_sha256=BUNDLE, egress=EGRESS, by="tester", now=NOW)
        self.log = AuditLog(folder / "audit.jsonl")
        self.worker = FakeWorker(_says() if says is None else says)
        self.paused, self.waiting = False, list[FakeTask]()
        self.executor = Executor(
            cast("Any", self),
            self.approvals,
            self.log,
            cast("WorkerProcess", self.worker),
            folder / "runs",
            SiteLimits("north", PLAN.medfl_version, 60, most_bytes_out),
            is_paused=lambda: self.paused,
            today=lambda: TODAY,
        )

    def acquire(self) -> FakeTask | None:
        return self.waiting.pop(0) if self.waiting else None

    def ask(self, task: FakeTask) -> Message:
        self.waiting.append(task)
        assert self.executor.step()
        assert task.reply is not None
        return task.reply

    def last(self) -> Entry:
        return self.log.entries()[-1]


@pytest.fixture(autouse=True)
def _identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower makes messages only inside of a task."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_an_approved_message_is_answered_and_written_down(site: Site) -> None:
    reply = site.ask(FakeTask())
    assert not reply.has_error()
    model = unpack(reply.content).array_records["model"]
    assert model["weight"].numpy().tolist() == MODEL["weight"].tolist()
    assert site.last().operation == "reply.send"
    assert site.last().bytes_out > 24
    assert site.last().epsilon == "infinite"
    assert site.log.verify() is None


def test_a_worker_that_was_started_ahead_takes_the_first_message_and_is_no_second_one(site: Site) -> None:
    site.executor.warm()
    assert site.worker.starts == 1
    for _ in range(2):
        assert not site.ask(FakeTask()).has_error()
    assert site.worker.starts == 1
    site.worker.is_running = False
    site.ask(FakeTask(kind="evaluate", records=RecordDict({"order": ConfigRecord({"round": 1, "rounds": 2})})))
    assert site.worker.starts == 2


def test_no_worker_is_started_ahead_where_nothing_is_approved(site: Site) -> None:
    site.approvals.revoke(PLAN.sha256(), "Jo Admin", NOW)
    site.executor.warm()
    assert site.worker.starts == 0


def test_a_packed_message_is_looked_at_like_any_other(site: Site) -> None:
    assert not site.ask(FakeTask(pack(_records()))).has_error()
    assert site.ask(FakeTask(pack(_records({"other": MODEL["weight"]})))).has_error()
    assert site.last().reason == "message_array"


def test_a_full_disk_is_one_word_to_the_hub_and_a_reason_in_the_log(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medfl.federation.request_counts.write_text", full)
    reply = site.ask(FakeTask())
    assert reply.error.reason == WORDS[INTERNAL_ERROR]
    assert (site.last().operation, site.last().reason, site.last().bytes_out) == ("reply.error", "disk_full", 0)


_BROKEN = Array(dtype="uint8", shape=(3,), stype="medfl.packed/1", data=b"bad")

_REFUSED: dict[str, tuple[FakeTask, str]] = {
    "a broken packing": (
        FakeTask(RecordDict({PACKED: ArrayRecord({"records": _BROKEN}), "order": ConfigRecord(ORDER)})),
        "unreadable",
    ),
    "another bundle": (FakeTask(bundle="c" * 64), "not_approved"),
    "no bundle": (FakeTask(bundle=""), "not_approved"),
    "another kind of task": (FakeTask(task="flwr-agentapp"), "task_type"),
    "other settings": (FakeTask(run_config={"plan": PLAN.settings + " "}), "settings"),
    "no settings": (FakeTask(run_config={}), "settings"),
    "another key": (FakeTask(run_config={"plan": PLAN.settings, "epochs": 9}), "run_config"),
    "another kind": (FakeTask(kind="query.dump"), "message_kind"),
    "another round": (FakeTask(_records(order=ORDER | {"round": 3})), "message_round"),
    "round zero": (FakeTask(_records(order=ORDER | {"round": 0})), "message_round"),
    "a round that is no number": (FakeTask(_records(order=ORDER | {"round": True})), "message_round"),
    "more rounds": (FakeTask(_records(order=ORDER | {"rounds": 99})), "message_round"),
    "another option": (FakeTask(_records(order=ORDER | {"proximal": 0.2})), "message_order"),
    "one option more": (FakeTask(_records(order=ORDER | {"epochs": 9})), "message_order"),
    "an option of another type": (FakeTask(_records(order=ORDER | {"proximal": "0.1"})), "message_order"),
    "another split": (
        FakeTask(RecordDict({"order": ConfigRecord({"round": 1, "rounds": 2, "split": "train"})}), kind="evaluate"),
        "message_order",
    ),
    "another shape": (FakeTask(_records({"weight": np.ones((3, 2), np.float32)})), "message_shape"),
    "another dtype": (FakeTask(_records({"weight": np.ones((2, 3))})), "message_dtype"),
    "one array more": (FakeTask(_records(MODEL | {"more": np.ones(1)})), "message_array"),
    "no array": (FakeTask(_records({})), "message_record"),
    "one record more": (FakeTask(RecordDict({**_records(), "x": MetricRecord({"a": 1})})), "message_record"),
    "too many bytes": (FakeTask(size=10**9), "message_bytes"),
}


@pytest.mark.parametrize("name", _REFUSED)
def test_whatever_the_plan_does_not_have_is_refused_and_nothing_is_computed(site: Site, name: str) -> None:
    task, reason = _REFUSED[name]
    reply = site.ask(task)
    assert reply.has_error()
    assert reply.error.reason in ("not_approved", "request_refused")
    assert site.worker.asked == []
    assert (site.last().operation, site.last().verdict, site.last().reason) == ("message.refuse", "refused", reason)


def test_a_pickled_array_is_refused_without_being_read(site: Site) -> None:
    bad = Array(dtype="float32", shape=(2, 3), stype="numpy.ndarray", data=b"\x80\x04cposix\nsystem\n.")
    reply = site.ask(FakeTask(RecordDict({"model": ArrayRecord({"weight": bad}), "order": ConfigRecord(ORDER)})))
    assert reply.error.reason == "request_refused"
    assert site.worker.asked == []


@pytest.mark.parametrize("name", ["another bundle", "other settings", "another kind of task"])
def test_a_message_is_not_even_fetched_without_an_approval(site: Site, name: str) -> None:
    task = FakeTask(
        bundle=_REFUSED[name][0].bundle, run_config=_REFUSED[name][0].run_config, task=_REFUSED[name][0].task
    )
    site.ask(task)
    assert not task.fetched


def test_a_revoked_plan_is_refused_at_the_next_message(site: Site) -> None:
    assert not site.ask(FakeTask()).has_error()
    site.approvals.revoke(PLAN.sha256(), "tester", NOW)
    assert site.ask(FakeTask()).error.reason == "not_approved"
    assert site.last().reason == "revoked"


def test_a_plan_revoked_while_it_is_computed_sends_nothing(tmp_path: Path) -> None:
    def revoked(question: Frame) -> Frame:
        site.approvals.revoke(PLAN.sha256(), "tester", NOW)
        return _says()(question)

    site = Site(tmp_path, revoked)
    assert site.ask(FakeTask()).error.reason == "not_approved"
    assert [entry.operation for entry in site.log.entries()].count("reply.send") == 0


def test_a_paused_site_answers_one_word(site: Site) -> None:
    site.paused = True
    assert site.ask(FakeTask()).error.reason == "paused"


def test_a_round_asked_too_often_is_refused(site: Site) -> None:
    assert [site.ask(FakeTask()).has_error() for _ in range(3)] == [False, False, True]
    assert site.last().reason == "message_count"


_REPLIES: dict[str, tuple[RecordDict | bytes, str]] = {
    "one array more": (_reply(MODEL | {"more": np.ones(1)}), "unknown_array"),
    "another shape": (_reply({"weight": np.ones((2, 4), np.float32)}), "shape"),
    "another dtype": (_reply({"weight": np.ones((2, 3))}), "dtype"),
    "too few subjects": (_reply(subjects=4), "too_few_subjects"),
    "one record more": (RecordDict({**_reply(), "secret": ConfigRecord({"name": "x"})}), "unknown_record"),
    "no records at all": (b"\xff\xff\xff", "unreadable"),
}


@pytest.mark.parametrize("name", _REPLIES)
def test_whatever_the_approval_does_not_have_does_not_leave(tmp_path: Path, name: str) -> None:
    content, reason = _REPLIES[name]
    site = Site(tmp_path, _says(content))
    reply = site.ask(FakeTask())
    assert reply.error.reason == "forbidden_reply"
    assert (site.last().operation, site.last().reason, site.last().bytes_out) == ("reply.refuse", reason, 0)


def test_the_site_s_own_limit_of_bytes_holds_over_all_replies(tmp_path: Path) -> None:
    site = Site(tmp_path, most_bytes_out=300)
    replies = [site.ask(FakeTask(_records(order=ORDER | {"round": number}))) for number in (1, 2)]
    assert [reply.has_error() for reply in replies] == [False, True]
    assert site.last().reason == "total_bytes"


@pytest.mark.parametrize("reason", ["worker_died", "worker_timeout", "worker_start"])
def test_a_worker_that_fails_is_one_word(tmp_path: Path, reason: str) -> None:
    def fails(question: Frame) -> Frame:
        raise FrameError(reason, "/data/patients/Mustermann")

    site = Site(tmp_path, fails)
    reply = site.ask(FakeTask())
    assert (reply.error.reason, site.last().reason) == ("worker_failed", reason)
    assert b"Mustermann" not in site.log.path.read_bytes()


def test_an_error_of_the_program_leaves_as_a_word_of_the_list(tmp_path: Path) -> None:
    site = Site(tmp_path, lambda _: Frame({"error": 9001}))
    assert site.ask(FakeTask()).error.reason == "data_error"
    unknown = Site(tmp_path, lambda _: Frame({"error": 12345, "text": "Mustermann"}))
    assert unknown.ask(FakeTask()).error.reason in WORDS.values()


def test_any_other_failure_is_an_internal_error_without_a_text(tmp_path: Path) -> None:
    def fails(question: Frame) -> Frame:
        raise KeyError("Mustermann")

    reply = Site(tmp_path, fails).ask(FakeTask())
    assert (reply.error.code, reply.error.reason) == (INTERNAL_ERROR, "internal_error")


def test_where_the_log_cannot_be_written_nothing_leaves(tmp_path: Path) -> None:
    site = Site(tmp_path)
    (tmp_path / "audit.jsonl").unlink(missing_ok=True)
    (tmp_path / "audit.jsonl").mkdir()
    assert site.ask(FakeTask()).has_error()
    assert site.worker.asked == []


def test_memory_of_a_round_is_what_the_round_before_left(tmp_path: Path) -> None:
    site = Site(tmp_path, lambda question: _says(memory=b"after " + question.parts[1])(question))
    for number in (1, 1, 2):
        site.ask(FakeTask(_records(order=ORDER | {"round": number})))
    assert [question.parts[1] for question in site.worker.asked] == [b"", b"", b"after "]

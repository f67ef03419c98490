"""A site whose worker, tasks and plan are played; its executor, approvals and audit log are real."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from medfl.federation.executor import Executor, SiteLimits
from medfl.federation.executor_runtime import CLIENT_TASK
from medfl.federation.executor_task import TaskHead, TooManyBytesError
from medfl.federation.frames import Frame
from medfl.federation.inbound import RequestRule, Requests
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


def a_request(arrays: dict[str, Any] | None = None, order: dict[str, Any] | None = None) -> RecordDict:
    content = RecordDict({"model": to_record(MODEL if arrays is None else arrays)})
    content["order"] = ConfigRecord(ORDER if order is None else order)
    return content


def a_reply(arrays: dict[str, Any] | None = None, subjects: int = 9) -> RecordDict:
    content = RecordDict({"model": to_record(MODEL if arrays is None else arrays)})
    content["report"] = MetricRecord({"subjects": subjects})
    return content


@dataclass
class FakeTask:
    """A message that arrived."""

    records: RecordDict = field(default_factory=a_request)
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
    requests: Requests = REQUESTS
    is_running: bool = False
    starts: int = 0

    def start(self) -> None:
        self.is_running = True
        self.starts += 1

    def ask(self, question: Frame, deadline: float, watch: Callable[[], None] | None = None) -> Frame:
        if question.head["ask"] == "requests":
            return Frame({"requests": self.requests.model_dump(mode="json")})
        self.asked.append(question)
        if watch is not None:
            watch()
        return self.says(question)


def saying(content: RecordDict | bytes | None = None, memory: bytes = b"kept") -> Callable[[Frame], Frame]:
    found = a_reply() if content is None else content
    answer = found if isinstance(found, bytes) else records_to_bytes(found)
    return lambda _: Frame({"error": 0}, (answer, memory))


class Site:
    """A site with one approved plan."""

    def __init__(
        self,
        folder: Path,
        says: Callable[[Frame], Frame] | None = None,
        most_bytes_out: int = 10**6,
        requests: Requests = REQUESTS,
        egress: Egress = EGRESS,
    ) -> None:
        self.approvals = Approvals(folder)
        self.approvals.approve(PLAN, bundle_sha256=BUNDLE, egress=egress, by="tester", now=NOW)
        self.log = AuditLog(folder / "audit.jsonl")
        self.worker = FakeWorker(saying() if says is None else says, requests=requests)
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

"""A site's trusted parent: takes messages from the SuperNode, refuses or lets a worker compute, looks at every reply.

Nothing of a bundle is ever unpacked, imported or run here: the SHA-256 of its bytes is compared with the approvals, and
what runs is what is installed at the site. This process never imports torch.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

from flwr.app import Message, RecordDict
from pydantic import ValidationError

from medfl.errors import AuditLogError, EgressError, PlanNotApprovedError, ReplyError
from medfl.federation.array_facts import reply_facts
from medfl.federation.executor_question import Question, questions_of
from medfl.federation.executor_refusal import Refused
from medfl.federation.executor_runtime import CLIENT_TASK
from medfl.federation.executor_task import Task, TaskHead, TaskLostError
from medfl.federation.frames import Frame, FrameError
from medfl.federation.guard import (
    FORBIDDEN_REPLY,
    INTERNAL_ERROR,
    NOT_APPROVED,
    PAUSED,
    REQUEST_REFUSED,
    WORDS,
    WORKER_FAILED,
    refusal,
)
from medfl.federation.inbound import RequestError, Requests, check_run_config
from medfl.federation.kept_memory import KeptMemory
from medfl.federation.packing import pack
from medfl.federation.paired import Outcome, pair_replies
from medfl.federation.record_bytes import records_from_bytes, records_to_bytes
from medfl.federation.records import CHOOSE, RELEASE, SUMS, TRAIN
from medfl.federation.request_counts import RequestCounts
from medfl.federation.worker_process import WorkerProcess
from medfl.governance.approvals import Approval, Approvals
from medfl.governance.audit_entry import Operation, Verdict
from medfl.governance.audit_log import AuditLog
from medfl.governance.egress import check

logger = logging.getLogger(__name__)

_WHO = "medfl"
_SETTINGS, _UNUSED = "plan", ("out", "sites")
_BEFORE_ROUNDS = (SUMS, CHOOSE, RELEASE)
_KEEPS_MEMORY = (TRAIN, CHOOSE, RELEASE)
_ASK_REQUESTS_S = 120.0
_LOOK_AT_APPROVAL_S = 1.0


@dataclass(frozen=True)
class SiteLimits:
    """What holds at this site for every plan.

    Attributes
    ----------
    name : str
        Of the site.
    version : str
        Of the installed medfl; a plan must name it.
    deadline_s : float
        Longest time that one message may take, whatever the plan says.
    most_bytes_out : int
        Most bytes of arrays that may leave for one plan.
    """

    name: str
    version: str
    deadline_s: float
    most_bytes_out: int


class Tasks(Protocol):
    """Where tasks come from."""

    def acquire(self) -> Task | None:
        """Return a task that waits, or None."""
        ...

    def left_over(self) -> Task | None:
        """Return what an executor before this one left unfinished."""
        ...


class Executor:
    """Answers one message after the other.

    Parameters
    ----------
    tasks : Tasks
    approvals : Approvals
        Asked anew for every message, and while one is in work.
    audit : AuditLog
        Where it cannot be written, nothing leaves.
    worker : WorkerProcess
        Restarted for every other plan.
    runs : Path
        Folder in which every plan has one, named by its hash.
    limits : SiteLimits
    is_paused : callable
        Asked anew like the approvals.
    today : callable
    """

    def __init__(
        self,
        tasks: Tasks,
        approvals: Approvals,
        audit: AuditLog,
        worker: WorkerProcess,
        runs: Path,
        limits: SiteLimits,
        is_paused: Callable[[], bool],
        today: Callable[[], date] = date.today,
    ) -> None:
        self._tasks, self._approvals, self._audit, self._worker = tasks, approvals, audit, worker
        self._runs, self._limits, self._is_paused, self._today = runs, limits, is_paused, today
        self._plan, self._requests, self._is_fresh = "", Requests(rules=(), deadline_s=1), False

    def recover(self) -> None:
        """Answer what an executor before this one left unfinished."""
        task = self._tasks.left_over()
        if task is not None:
            self._answer(task)

    def warm(self) -> None:
        """Start a worker before the first message comes, where a plan is approved; the first round then waits less."""
        if any(approval.holds(self._today()) for approval in self._approvals.all()):
            try:
                self._worker.start()
                self._is_fresh = True
            except FrameError:
                logger.warning("A worker could not be started ahead of the first message.")

    def step(self) -> bool:
        """Answer the next message, if there is one.

        Returns
        -------
        bool
            Whether there was one.

        Raises
        ------
        TaskLostError
            If the SuperNode cannot be reached.
        """
        task = self._tasks.acquire()
        if task is None:
            return False
        self._answer(task)
        return True

    # --- inside ---------------------------------------------------------------------------------------------------

    def _answer(self, task: Task) -> None:
        try:
            head = task.head()
            task.answer(self._reply(task, head))
        except TaskLostError as error:
            logger.warning("A task was lost: %s", error)
            task.drop()

    def _reply(self, task: Task, head: TaskHead) -> Message:
        """Return a reply, or an error reply of one word."""
        outcome = self._tried(head, "", lambda: self._of_plan(task, head, self._approved(head)))
        if isinstance(outcome, int):
            return refusal(head.message, outcome)
        return Message(pack(outcome), reply_to=head.message)

    def _tried(self, head: TaskHead, plan: str, compute: Callable[[], Outcome], round: int = 0) -> Outcome:
        """Return what is computed, or a code; whatever goes wrong here, no text of it leaves."""
        try:
            return compute()
        except TaskLostError:
            raise
        except Refused as refused:
            return self._refused(head, plan, refused, round)
        except RequestError as error:
            return self._refused(head, plan, Refused(REQUEST_REFUSED, error.reason), round)
        except FrameError as error:
            reason = error.reason if error.reason != "bytes" else "worker_died"
            return self._refused(head, plan, Refused(WORKER_FAILED, reason, "reply.error"), round)
        except OSError as error:
            logger.error("A file of the site could not be used (%s).", type(error).__name__)
            reason = "disk_full" if error.errno == 28 else "internal_error"
            return self._refused(head, plan, Refused(INTERNAL_ERROR, reason, "reply.error"), round)
        except Exception as error:
            logger.error("A message could not be answered (%s).", type(error).__name__)
            return self._refused(head, plan, Refused(INTERNAL_ERROR, "internal_error", "reply.error"), round)

    def _approved(self, head: TaskHead) -> Approval:
        if self._is_paused():
            raise Refused(PAUSED, "paused")
        if head.kind != CLIENT_TASK:
            raise Refused(REQUEST_REFUSED, "task_type")
        try:
            approval = self._approvals.of_bundle(head.bundle_sha256, self._today())
        except PlanNotApprovedError as error:
            raise Refused(NOT_APPROVED, error.reason) from error
        if self._limits.name not in approval.plan.sites:
            raise Refused(NOT_APPROVED, "not_approved")
        if approval.plan.medfl_version != self._limits.version:
            raise Refused(NOT_APPROVED, "version")
        check_run_config(head.run_config, approval.plan.settings, key=_SETTINGS, unused=_UNUSED)
        return approval

    def _of_plan(self, task: Task, head: TaskHead, approval: Approval) -> Outcome:
        return self._tried(head, approval.plan_sha256, lambda: self._answered(task, head, approval))

    def _answered(self, task: Task, head: TaskHead, approval: Approval) -> Outcome:
        question, first = questions_of(task, head.message.metadata.message_type, self._requests_of(approval))

        def tried(one: Question) -> Outcome:
            self._still_allowed(approval)
            return self._tried(head, approval.plan_sha256, lambda: self._computed(task, head, approval, one), one.round)

        if first is None:
            return tried(question)
        evaluated = tried(first)
        if evaluated in (PAUSED, NOT_APPROVED):
            return evaluated
        trained = tried(question)
        try:
            self._still_allowed(approval)
        except Refused as refused:  # meanwhile; what the log calls sent stays here after all
            withheld = Refused(refused.code, refused.reason, "reply.refuse")
            for one, outcome in ((first, evaluated), (question, trained)):
                if not isinstance(outcome, int):
                    self._refused(head, approval.plan_sha256, withheld, one.round)
            return refused.code
        return pair_replies(trained, evaluated)

    def _computed(self, task: Task, head: TaskHead, approval: Approval, question: Question) -> Outcome:
        requests, folder = self._requests_of(approval), self._folder(approval)
        kind, number, rule = question.kind, question.round, requests.rule(question.kind)
        counts, memory = RequestCounts(folder), KeptMemory(folder / "memory")
        counts.take(kind, number, rule.most)
        self._note("task.start", approval.plan_sha256, head, number, verdict="ok")
        kept = 0 if kind in _BEFORE_ROUNDS or not rule.has_order else number
        start = memory.before(kept) if kind == TRAIN else memory.after(kept)
        parts = (records_to_bytes(question.content), start)
        answer = self._ask(task, approval, Frame(_asked(head, kind), parts), requests)
        reply = self._looked_at(head, approval, answer, counts, question)
        if kind in _KEEPS_MEMORY:
            memory.keep(kept, answer.parts[1])
        return reply

    def _ask(self, task: Task, approval: Approval, question: Frame, requests: Requests) -> Frame:
        looked = [time.monotonic()]

        def watch() -> None:
            if self._is_paused():
                raise Refused(PAUSED, "paused")
            if task.is_lost():
                raise TaskLostError("The SuperNode must wait for an answer; it has forgotten the task.")
            if time.monotonic() - looked[0] > _LOOK_AT_APPROVAL_S:
                looked[0] = time.monotonic()
                self._still_approved(approval)

        deadline = time.monotonic() + min(requests.deadline_s, self._limits.deadline_s)
        answer = self._worker.ask(question, deadline, watch)
        self._still_allowed(approval)
        return answer

    def _still_allowed(self, approval: Approval) -> None:
        if self._is_paused():
            raise Refused(PAUSED, "paused")
        self._still_approved(approval)

    def _still_approved(self, approval: Approval) -> None:
        try:
            self._approvals.of_plan(approval.plan_sha256, self._today())
        except PlanNotApprovedError as error:
            raise Refused(NOT_APPROVED, error.reason) from error

    def _looked_at(
        self, head: TaskHead, approval: Approval, answer: Frame, counts: RequestCounts, question: Question
    ) -> RecordDict:
        """Return what the worker's answer lets out, after the last look."""
        if answer.head.get("error") in WORDS:
            code = int(answer.head["error"])
            logger.error("The site's program failed with %s.", WORDS[code])
            raise Refused(code, WORDS[code], "reply.error")
        if len(answer.parts) != 2:
            raise FrameError("worker_died", "A worker must answer with records; it did not.")
        try:
            content = records_from_bytes(answer.parts[0])
            facts = reply_facts(question.kind, content)
            check(facts, approval.egress)
            rule = approval.egress.rule(facts.kind)
            if counts.bytes_out + facts.nbytes > self._limits.most_bytes_out:
                raise EgressError("total_bytes", "All replies of a plan must stay below the site's limit.")
            counts.send(facts.kind, rule.times, facts.nbytes)
        except (EgressError, ReplyError, RequestError) as error:
            raise Refused(FORBIDDEN_REPLY, error.reason, "reply.refuse") from error
        except ValueError as error:
            raise Refused(FORBIDDEN_REPLY, "unreadable", "reply.refuse") from error
        epsilon = None if not facts.nbytes else math.inf if rule.guarantee is None else rule.guarantee.epsilon
        self._note(
            "reply.send",
            approval.plan_sha256,
            head,
            question.round,
            verdict="sent",
            bytes_out=facts.nbytes,
            epsilon=epsilon,
        )
        return content

    def _requests_of(self, approval: Approval) -> Requests:
        """Return what the plan's messages may hold; a fresh worker computes it before it has seen any message."""
        if self._plan != approval.plan_sha256 or not self._worker.is_running:
            self._plan = ""
            if not (self._is_fresh and self._worker.is_running):
                self._worker.start()
            self._is_fresh = False
            self._note_worker(approval.plan_sha256)
            question = Frame(
                {"ask": "requests", "settings": approval.plan.settings, "sites": list(approval.plan.sites)}
            )
            answer = self._worker.ask(question, time.monotonic() + _ASK_REQUESTS_S)
            try:
                self._requests = Requests.model_validate(answer.head["requests"])
            except (KeyError, ValidationError) as error:
                raise FrameError("worker_start", "A worker must know the plan's messages; it does not.") from error
            self._plan = approval.plan_sha256
        return self._requests

    def _folder(self, approval: Approval) -> Path:
        return self._runs / approval.plan_sha256[:16]

    def _refused(self, head: TaskHead, plan: str, refused: Refused, round: int = 0) -> int:
        verdict: Verdict = "failed" if refused.operation == "reply.error" else "refused"
        try:
            self._note(refused.operation, plan, head, round, verdict=verdict, reason=refused.reason)
        except AuditLogError as error:
            logger.error("%s", error)
        logger.warning("A message was answered with %s (%s).", WORDS[refused.code], refused.reason)
        return refused.code

    def _note(
        self,
        operation: Operation,
        plan: str,
        head: TaskHead,
        round: int,
        *,
        verdict: Verdict,
        reason: str = "",
        bytes_out: int = 0,
        epsilon: float | None = None,
    ) -> None:
        self._audit.append(
            operation,
            who=_WHO,
            plan_sha256=plan,
            run_id=str(head.run_id),
            round=round,
            verdict=verdict,
            reason=reason,
            bytes_out=bytes_out,
            epsilon=epsilon,
        )

    def _note_worker(self, plan: str) -> None:
        self._audit.append("worker.start", who=_WHO, plan_sha256=plan, verdict="ok")


def _asked(head: TaskHead, kind: str) -> dict[str, object]:
    return {"ask": "answer", "kind": kind, "settings": str(head.run_config[_SETTINGS]), "node": head.node_id}

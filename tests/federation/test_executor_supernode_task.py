"""A task against a SuperNode that is played; against a real one: tests/end_to_end/test_site_executor.py."""

from pathlib import Path

import httpx
import numpy as np
import pytest
from flwr.app import ArrayRecord, Context, Error, Message, RecordDict
from flwr.common.serde import context_to_proto, message_to_proto
from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse
from flwr.proto.runtime_pb2 import (
    AcquireTaskResponse,
    PullAppMessagesResponse,
    PullTaskInputResponse,
    SendTaskHeartbeatResponse,
)
from flwr.proto.task_pb2 import Task
from flwr.supercore.inflatable.inflatable_object import get_object_tree, iterate_object_tree
from flwr.supercore.task_identity import TaskIdentity

from medfl.federation import executor_runtime, executor_supernode_task
from medfl.federation.executor_runtime import CLIENT_TASK, Runtime
from medfl.federation.executor_task import TaskLostError


class SuperNode:
    """What a task needs of a SuperNode that is still receiving the message's objects."""

    def __init__(
        self, message: Message, *, missing: int, deleted: bool = False, takes: bool = True, tasks: int = 1
    ) -> None:
        self.tree = get_object_tree(message)
        self.proto = message_to_proto(message)
        self.calls: list[str] = []
        self._missing, self._deleted, self._takes, self._tasks = missing, deleted, takes, tasks

    def from_server_address(self, *_: object, **__: object) -> "SuperNode":
        return self

    def AcquireTask(self, request: object) -> AcquireTaskResponse:
        self._tasks -= 1
        if self._tasks < 0:
            return AcquireTaskResponse()
        return AcquireTaskResponse(task=Task(type=CLIENT_TASK), token=f"{self._tasks} after")

    def PullTaskInput(self, request: object) -> PullTaskInputResponse:
        return PullTaskInputResponse(context=context_to_proto(Context(1, 2, {}, RecordDict(), {})))

    def PullMessages(self, request: object) -> PullAppMessagesResponse:
        return PullAppMessagesResponse(messages_list=[self.proto], message_object_trees=[self.tree])

    def PullObject(self, request: PullObjectRequest) -> PullObjectResponse:
        self._missing -= 1
        there = self._missing < 0
        self.calls.append("there" if there else "missing")
        return PullObjectResponse(object_found=not self._deleted, object_available=there and not self._deleted)

    def ConfirmMessageReceived(self, request: object) -> None:
        self.calls.append("confirm")

    def PushMessages(self, request: object) -> None:
        self.calls.append("push")
        if not self._takes:
            raise httpx.ConnectError("gone")

    def PushTaskOutput(self, request: object) -> None:
        self.calls.append("output")

    def SendTaskHeartbeat(self, request: object) -> SendTaskHeartbeatResponse:
        return SendTaskHeartbeatResponse(success=True)

    def close(self) -> None:
        self.calls.append("close")


@pytest.fixture
def message(monkeypatch: pytest.MonkeyPatch) -> Message:
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    return Message(
        RecordDict({"arrays": ArrayRecord([np.arange(3.0), np.arange(4.0)])}), dst_node_id=2, message_type="train"
    )


def answered(supernode: SuperNode, monkeypatch: pytest.MonkeyPatch, journal: Path) -> None:
    for module in (executor_runtime, executor_supernode_task):
        monkeypatch.setattr(module, "RuntimeHttpClient", supernode)
    monkeypatch.setattr(
        executor_supernode_task, "push_message", lambda client, reply, context: client.PushMessages(reply)
    )
    task = Runtime("127.0.0.1:1", b"secret", journal).acquire()
    assert task is not None
    try:
        task.answer(Message(Error(code=1, reason="paused"), reply_to=task.head().message))
    except TaskLostError:
        task.drop()
        raise


def test_a_refusal_that_is_ready_first_waits_until_the_supernode_has_the_whole_message(
    message: Message, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    supernode = SuperNode(message, missing=3)
    answered(supernode, monkeypatch, tmp_path / "task.json")
    objects = len(list(iterate_object_tree(supernode.tree)))
    assert objects > 2
    assert supernode.calls == ["missing"] * 3 + ["there"] * objects + ["confirm", "push", "output", "close"]
    assert not (tmp_path / "task.json").exists()


def test_a_message_that_an_executor_before_had_fetched_is_answered_at_once(
    message: Message, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    supernode = SuperNode(message, missing=0, deleted=True)
    answered(supernode, monkeypatch, tmp_path / "task.json")
    assert supernode.calls == ["there", "confirm", "push", "output", "close"]


@pytest.mark.parametrize("read", [True, False], ids=["read", "refused"])
def test_a_message_that_the_supernode_gave_up_for_another_one_is_ended_without_a_reply(
    read: bool, message: Message, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(executor_supernode_task, "_LOOK_FOR_ANOTHER_S", 0.05)
    supernode, journal = SuperNode(message, missing=10_000, tasks=2), tmp_path / "task.json"
    for module in (executor_runtime, executor_supernode_task):
        monkeypatch.setattr(module, "RuntimeHttpClient", supernode)
    runtime = Runtime("127.0.0.1:1", b"secret", journal)
    task = runtime.acquire()
    assert task is not None
    refusal = Message(Error(code=1, reason="paused"), reply_to=task.head().message)
    with pytest.raises(TaskLostError, match="gone on to another"):
        task.content(1000) if read else task.answer(refusal)
    task.drop()
    assert set(supernode.calls) == {"missing", "confirm", "output", "close"}
    assert supernode.calls[-3:] == ["confirm", "output", "close"]
    assert not journal.exists()
    assert runtime.acquire() is not None
    assert "0 after" in journal.read_text()
    assert runtime.acquire() is None


def test_a_task_whose_reply_is_not_taken_is_not_called_finished(
    message: Message, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    supernode = SuperNode(message, missing=0, takes=False)
    with pytest.raises(TaskLostError, match="must take a reply"):
        answered(supernode, monkeypatch, tmp_path / "task.json")
    assert "output" not in supernode.calls, "the SuperNode would wait for a reply for ever"
    assert not (tmp_path / "task.json").exists()

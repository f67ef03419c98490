"""A site's access to its own SuperNode, through what Flower does not promise to keep.

Written for and tested with exactly one version of Flower, `FLOWER_VERSION`; with any other nothing starts. What is
used: the Runtime API over HTTP (AcquireTask, PullTaskInput, PullMessages, PullObject, ConfirmMessageReceived,
PushMessages, PushTaskOutput, SendTaskHeartbeat) with its protobuf messages, and `push_message` of Flower's own client.
"""

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Protocol

import httpx
from flwr.app import Context, Message, RecordDict
from flwr.common.constant import SubStatus
from flwr.common.serde import context_from_proto, message_from_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullAppMessagesRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.constant import TaskType
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents, pull_objects
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import push_message

from medfl.errors import ConfigError, FederationError
from medfl.results.atomic import write_text

FLOWER_VERSION: Final = "1.41.0"
CLIENT_TASK: Final = str(TaskType.CLIENT_APP)
"""The only kind of task that is ever answered."""

_ALL_TASKS = [str(kind) for kind in TaskType]  # others are taken as well, to be refused: nobody else would
_FINISHED = {True: SubStatus.COMPLETED, False: SubStatus.FAILED}
_HEARTBEAT_S = 10.0
_MESSAGE_WAIT_S = 15.0
_LOOK_S = 0.05
_OBJECT_BACKOFF_S = 0.05
_OBJECT_WAIT_S = 600.0


def check_flower_version() -> None:
    """Return if the installed Flower is the one this was written for.

    Raises
    ------
    ConfigError
        If it is another one.
    """
    found = version("flwr")
    if found != FLOWER_VERSION:
        raise ConfigError(
            f"A site needs Flower {FLOWER_VERSION} exactly, found {found}. Install flwr=={FLOWER_VERSION}."
        )


class TaskLostError(FederationError):
    """The SuperNode no longer knows the task, or is gone; there is nobody to answer to."""


@dataclass(frozen=True)
class TaskHead:
    """What is known of a task before anything of its message is read.

    Attributes
    ----------
    kind : str
        Flower's type of the task.
    run_id, node_id : int
    bundle_sha256 : str
        Of the bytes that arrived, whatever hash the hub claims for them.
    run_config : mapping of str to bool, float, int or str
        The bundle's settings with those of the hub laid over them.
    message : Message
        Without its content.
    """

    kind: str
    run_id: int
    node_id: int
    bundle_sha256: str
    run_config: Mapping[str, object]
    message: Message


class Task(Protocol):
    """One message that waits for an answer."""

    def head(self) -> TaskHead:
        """Return what is known before the message is read."""
        ...

    def content(self, most_bytes: int) -> RecordDict:
        """Fetch and return what the message holds."""
        ...

    def answer(self, reply: Message) -> None:
        """Hand a reply to the SuperNode, and end the task."""
        ...

    def drop(self) -> None:
        """End the task without a reply."""
        ...

    def is_lost(self) -> bool:
        """Tell whether the SuperNode has forgotten the task."""
        ...


class TooManyBytesError(FederationError):
    """A message is larger than the approved plan lets it be."""


class Runtime:
    """Takes tasks from one SuperNode on this machine.

    Parameters
    ----------
    address : str
        HOST:PORT of the SuperNode's Runtime API.
    secret : bytes
        What only the SuperNode and its executor know.
    journal : Path
        File that remembers a task in work, so that a restarted executor can end it.

    Raises
    ------
    ConfigError
        If Flower has another version than this was written for.
    """

    def __init__(self, address: str, secret: bytes, journal: Path) -> None:
        check_flower_version()
        self._address = address
        self._journal = journal
        self._client = RuntimeHttpClient.from_server_address(
            address,
            insecure=True,
            root_certificates=None,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperExec"),
                SuperExecAuthHttpInterceptor(
                    master_secret=secret, protected_methods=("/flwr.proto.Runtime/AcquireTask",)
                ),
            ],
        )

    def acquire(self) -> Task | None:
        """Return a task that waits, or None.

        Raises
        ------
        TaskLostError
            If the SuperNode cannot be reached or does not know the secret.
        """
        try:
            found = self._client.AcquireTask(AcquireTaskRequest(supported_task_types=_ALL_TASKS))
        except httpx.HTTPError as error:
            raise TaskLostError(
                f"The SuperNode must answer at {self._address}; it did not ({_cause(error)})."
            ) from None
        if not found.HasField("task") or not found.token:
            return None
        self._journal.parent.mkdir(parents=True, exist_ok=True)
        write_text(self._journal, json.dumps({"kind": found.task.type, "token": found.token}))
        return _RuntimeTask(self._address, found.task.type, found.token, self._journal)

    def left_over(self) -> Task | None:
        """Return the task that an executor before this one took and did not end."""
        try:
            noted = json.loads(self._journal.read_text())
            return _RuntimeTask(self._address, str(noted["kind"]), str(noted["token"]), self._journal)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()


class _RuntimeTask:
    """One task over HTTP, kept alive by a thread until it ends."""

    def __init__(self, address: str, kind: str, token: str, journal: Path) -> None:
        self._kind, self._token, self._journal = kind, token, journal
        self._client = RuntimeHttpClient.from_server_address(
            address,
            insecure=True,
            root_certificates=None,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"),
                RuntimeTokenHttpInterceptor(token),
            ],
        )
        self._head: TaskHead | None = None
        self._tree: ObjectTree | None = None
        self._ended, self._lost = threading.Event(), threading.Event()
        threading.Thread(target=self._beat, name="task heartbeat", daemon=True).start()

    def head(self) -> TaskHead:
        """Return what is known before the message is read.

        Raises
        ------
        TaskLostError
            If the SuperNode does not hand it over.
        """
        if self._head is None:
            try:
                self._head = self._read_head()
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                raise TaskLostError(f"The SuperNode must hand over its task; it did not ({_cause(error)}).") from None
        return self._head

    def content(self, most_bytes: int) -> RecordDict:
        """Fetch and return what the message holds; the SuperNode keeps it until the task ends.

        Raises
        ------
        TooManyBytesError
            If it is larger than allowed; the rest is not fetched.
        TaskLostError
            If the SuperNode does not hand it over.
        """
        head = self.head()
        assert self._tree is not None
        node = Node(node_id=head.node_id)
        pull = make_pull_object_fn_protobuf(self._client.PullObject, node, head.run_id)
        seen, lock = [0], threading.Lock()

        def pulled(number: str) -> bytes:
            found = pull(number)
            with lock:
                seen[0] += len(found)
                if seen[0] > most_bytes:
                    raise TooManyBytesError(f"A message must have at most {most_bytes} bytes; this one has more.")
            return found

        try:
            numbers = [tree.object_id for tree in iterate_object_tree(self._tree)]
            contents = pull_objects(
                numbers, pulled, max_time=_OBJECT_WAIT_S, initial_backoff=_OBJECT_BACKOFF_S, backoff_cap=1.0
            )
        except TooManyBytesError:
            raise
        except Exception as error:
            raise TaskLostError(f"The SuperNode must hand over a message; it did not ({_cause(error)}).") from None
        message = inflate_object_from_contents(self._tree.object_id, contents)
        if not isinstance(message, Message) or not message.has_content():
            raise ValueError("the message holds no records")
        return message.content

    def answer(self, reply: Message) -> None:
        """Hand a reply to the SuperNode, and end the task.

        Raises
        ------
        TaskLostError
            If the SuperNode does not take it.
        """
        head = self.head()
        context = Context(run_id=head.run_id, node_id=head.node_id, node_config={}, state=RecordDict(), run_config={})
        self._confirm()
        try:
            push_message(self._client, reply, context)
        except Exception as error:
            raise TaskLostError(f"The SuperNode must take a reply; it did not ({_cause(error)}).") from None
        finally:
            self._end(is_done=not reply.has_error())

    def drop(self) -> None:
        """End the task without a reply."""
        self._end(is_done=False)

    def is_lost(self) -> bool:
        """Tell whether the SuperNode has forgotten the task."""
        return self._lost.is_set()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _read_head(self) -> TaskHead:
        """Read what came with the task, or what an executor before this one noted of it."""
        noted = _noted(self._journal)
        if "message" not in noted:
            noted = self._pulled_head()
            write_text(self._journal, json.dumps(noted))
        self._tree = ObjectTree.FromString(bytes.fromhex(str(noted["tree"])))
        message = message_from_proto(ProtoMessage.FromString(bytes.fromhex(str(noted["message"]))))
        message.metadata.__dict__["_message_id"] = self._tree.object_id
        return TaskHead(
            self._kind,
            int(noted["run"]),
            int(noted["node"]),
            str(noted["bundle"]),
            dict(noted["run_config"]),
            message,
        )

    def _pulled_head(self) -> dict[str, Any]:
        noted: dict[str, Any] = {"kind": self._kind, "token": self._token, "bundle": "", "run_config": {}}
        try:
            given = self._client.PullTaskInput(PullTaskInputRequest())
            noted["bundle"] = hashlib.sha256(given.fab.content).hexdigest()
            noted["run_config"] = dict(context_from_proto(given.context).run_config)
        except httpx.HTTPStatusError:  # begun by an executor that died at once: no bundle, so it will be refused
            pass
        deadline = time.monotonic() + _MESSAGE_WAIT_S
        while True:  # the SuperNode offers a task a moment before it has stored the message
            pulled = self._client.PullMessages(PullAppMessagesRequest())
            if pulled.messages_list:
                break
            if time.monotonic() > deadline:
                raise TaskLostError("A task must come with a message; none came.")
            time.sleep(_LOOK_S)
        message = pulled.messages_list[0]
        return noted | {
            "run": message.metadata.run_id,
            "node": message.metadata.dst_node_id,
            "message": message.SerializeToString().hex(),
            "tree": pulled.message_object_trees[0].SerializeToString().hex(),
        }

    def _confirm(self) -> None:
        head = self.head()
        assert self._tree is not None
        confirm = make_confirm_message_received_fn_protobuf(
            self._client.ConfirmMessageReceived, Node(node_id=head.node_id), head.run_id
        )
        with suppress(httpx.HTTPError):
            confirm(self._tree.object_id)

    def _end(self, *, is_done: bool) -> None:
        self._ended.set()
        with suppress(httpx.HTTPError):
            self._client.PushTaskOutput(PushTaskOutputRequest(sub_status=_FINISHED[is_done], details=""))
        self._client.close()
        self._journal.unlink(missing_ok=True)

    def _beat(self) -> None:
        """Tell the SuperNode that the task is in work; notice when it does not know it any more."""
        while not self._ended.wait(_HEARTBEAT_S):
            try:
                if not self._client.SendTaskHeartbeat(SendTaskHeartbeatRequest()).success:
                    self._lost.set()
            except httpx.HTTPStatusError as error:
                if error.response.status_code in (401, 403, 404):
                    self._lost.set()
            except (httpx.HTTPError, RuntimeError, ValueError):
                continue
            if self._lost.is_set():
                return


def _noted(journal: Path) -> dict[str, Any]:
    try:
        found = json.loads(journal.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _cause(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"status {error.response.status_code}"
    return type(error).__name__

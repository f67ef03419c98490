"""One message of a SuperNode that waits for an answer, over HTTP; see `executor_runtime` for what may break."""

import hashlib
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from flwr.app import Context, Message, RecordDict
from flwr.common.constant import SubStatus
from flwr.common.serde import context_from_proto, message_from_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import (
    PullAppMessagesRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectUnavailableError,
    inflate_object_from_contents,
    pull_objects,
)
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import push_message

from medfl.federation.executor_task import TaskHead, TaskLostError, TooManyBytesError
from medfl.results.atomic import write_text

_HEARTBEAT_S = 10.0
_MESSAGE_WAIT_S = 15.0
_LOOK_S = 0.05
_OBJECT_BACKOFF_S = 0.05
_LOOK_FOR_ANOTHER_S = 1.0


class SuperNodeTask:
    """One task over HTTP, kept alive by a thread until it ends.

    Parameters
    ----------
    address : str
        HOST:PORT of the SuperNode's Runtime API.
    kind : str
        Flower's type of the task.
    token : str
        What the SuperNode gave for this one task.
    journal : Path
        File that remembers the task.
    is_given_up : callable
        Tells whether the SuperNode has handed out another task meanwhile; asked while the message is incomplete.
    """

    def __init__(self, address: str, kind: str, token: str, journal: Path, is_given_up: Callable[[], bool]) -> None:
        self._kind, self._token, self._journal, self._is_given_up = kind, token, journal, is_given_up
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
        self._is_fetched, self._looked = False, time.monotonic()
        self._ended, self._lost = threading.Event(), threading.Event()
        threading.Thread(target=self._beat, name="task heartbeat", daemon=True).start()

    def note(self) -> None:
        """Remember it for an executor after this one."""
        self._journal.parent.mkdir(parents=True, exist_ok=True)
        write_text(self._journal, json.dumps({"kind": self._kind, "token": self._token}))

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
                raise TaskLostError(f"The SuperNode must hand over its task; it did not ({cause_of(error)}).") from None
        return self._head

    def content(self, most_bytes: int) -> RecordDict:
        """Fetch and return what the message holds; the SuperNode keeps it until the task ends.

        However slowly the SuperNode receives it, this waits: until the task is lost, or given up for another one.

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
            try:
                found = pull(number)
            except ObjectUnavailableError:
                with lock:
                    self._check_wanted()
                raise
            with lock:
                seen[0] += len(found)
                if seen[0] > most_bytes:
                    raise TooManyBytesError(f"A message must have at most {most_bytes} bytes; this one has more.")
            return found

        try:
            numbers = [tree.object_id for tree in iterate_object_tree(self._tree)]
            contents = pull_objects(
                numbers,
                pulled,
                max_time=None,
                max_tries_per_object=None,
                initial_backoff=_OBJECT_BACKOFF_S,
                backoff_cap=_LOOK_FOR_ANOTHER_S,
            )
        except (TooManyBytesError, TaskLostError):
            raise
        except Exception as error:
            raise TaskLostError(f"The SuperNode must hand over a message; it did not ({cause_of(error)}).") from None
        self._is_fetched = True
        message = inflate_object_from_contents(self._tree.object_id, contents)
        if not isinstance(message, Message) or not message.has_content():
            raise ValueError("the message holds no records")
        return message.content

    def answer(self, reply: Message) -> None:
        """Hand a reply to the SuperNode, and end the task.

        A refusal can be ready before the SuperNode has the whole message. Were its objects deleted then, the SuperNode
        would fail to store them, not send the reply, and be one reply behind from there on: so this waits first.

        Raises
        ------
        TaskLostError
            If the SuperNode does not take it.
        """
        head = self.head()
        if not self._is_fetched:
            self._wait_for_content(head)
        context = Context(run_id=head.run_id, node_id=head.node_id, node_config={}, state=RecordDict(), run_config={})
        self._confirm()
        try:
            push_message(self._client, reply, context)
        except Exception as error:
            raise TaskLostError(f"The SuperNode must take a reply; it did not ({cause_of(error)}).") from None
        with suppress(httpx.HTTPError):
            status = SubStatus.FAILED if reply.has_error() else SubStatus.COMPLETED
            self._client.PushTaskOutput(PushTaskOutputRequest(sub_status=status, details=""))
        self.drop()

    def drop(self) -> None:
        """Let go of the task; when no heartbeat came for a minute, the SuperNode answers with an error of its own."""
        self._ended.set()
        self._client.close()
        self._journal.unlink(missing_ok=True)

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

    def _wait_for_content(self, head: TaskHead) -> None:
        """Return when the SuperNode has stored every object of the message; no more than one is held here."""
        assert self._tree is not None
        pull = make_pull_object_fn_protobuf(self._client.PullObject, Node(node_id=head.node_id), head.run_id)
        for tree in iterate_object_tree(self._tree):
            while True:
                try:
                    pull(tree.object_id)
                    break
                except ObjectUnavailableError:
                    self._check_wanted()
                    time.sleep(_LOOK_S)
                except ObjectPullError:  # deleted: an executor before this one had fetched it
                    return
                except httpx.HTTPError as error:
                    raise TaskLostError(
                        f"The SuperNode must hand over a message; it did not ({cause_of(error)})."
                    ) from None

    def _check_wanted(self) -> None:
        """Return if the SuperNode may still receive the rest of the message.

        Flower leaves the task of a run that ends while its message arrives, never gives it the rest, and waits for no
        reply: one would take the place of the next task's. So such a task is ended without.
        """
        if self._lost.is_set():
            raise TaskLostError("The SuperNode must receive a message whole; it has forgotten the task.")
        if time.monotonic() < self._looked + _LOOK_FOR_ANOTHER_S:
            return
        self._looked = time.monotonic()
        if self._is_given_up():
            self._confirm()
            with suppress(httpx.HTTPError):
                self._client.PushTaskOutput(PushTaskOutputRequest(sub_status=SubStatus.FAILED, details=""))
            raise TaskLostError("The SuperNode must receive a message whole; it has gone on to another one.")

    def _confirm(self) -> None:
        head = self.head()
        assert self._tree is not None
        confirm = make_confirm_message_received_fn_protobuf(
            self._client.ConfirmMessageReceived, Node(node_id=head.node_id), head.run_id
        )
        with suppress(httpx.HTTPError):
            confirm(self._tree.object_id)

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


def cause_of(error: Exception) -> str:
    """Say in a word what went wrong, without an address or a token."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"status {error.response.status_code}"
    return type(error).__name__

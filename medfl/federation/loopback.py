"""All sites in this process: no port, no daemon, no copy through a socket."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

_RUN = 1
_HUB_NODE = 1


@dataclass
class LoopbackNode:
    """One simulated site: its app and what Flower would keep for it."""

    app: ClientApp
    context: Context


class LoopbackGrid(Grid):
    """Delivers messages by calling the sites' apps one after the other.

    Messages are the same objects a SuperLink would carry, arrays are serialized by the apps themselves, so what works
    here works there.

    Parameters
    ----------
    apps : mapping of str to ClientApp
        Site name to app. Node ids are 2, 3, ... in this order.
    run_config : dict
        What Flower hands to every app.
    """

    def __init__(self, apps: dict[str, ClientApp], run_config: dict[str, bool | float | int | str]) -> None:
        self._run = Run.create_empty(_RUN)
        self._replies: dict[str, Message] = {}
        self._sent = 0
        self.nodes = {
            _HUB_NODE + 1 + position: LoopbackNode(
                app,
                Context(
                    run_id=_RUN,
                    node_id=_HUB_NODE + 1 + position,
                    node_config={"site": site, "partition-id": position, "num-partitions": len(apps)},
                    state=RecordDict(),
                    run_config=run_config,
                ),
            )
            for position, (site, app) in enumerate(apps.items())
        }

    @contextmanager
    def open(self) -> Iterator["LoopbackGrid"]:
        """Take on the identity that Flower gives a ServerApp's process, and give it back at the end."""
        before = (TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id)
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, _RUN, _HUB_NODE
        try:
            yield self
        finally:
            TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = before

    def set_run(self, run: Run) -> None:
        """Set the run; only its number matters here."""
        self._run = run

    @property
    def run(self) -> Run:
        """Run information."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Return a new message; `Message(...)` does the same."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the node ids, in order."""
        return list(self.nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver each message at once and keep the reply."""
        return [self._delivered(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Hand out the replies, each once."""
        return [self._replies.pop(number) for number in message_ids if number in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Deliver the messages one by one; each reply is handed out before the next message is delivered."""
        for message in messages:
            yield from self.pull_messages([self._delivered(message)])

    def _delivered(self, message: Message) -> str:
        self._sent += 1
        number = str(self._sent)
        node = self.nodes[message.metadata.dst_node_id]
        message.metadata.__dict__["_message_id"] = number
        self._replies[number] = node.app(message, node.context)
        return number

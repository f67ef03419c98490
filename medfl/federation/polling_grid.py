"""Flower's grid with a shorter wait and fewer objects: replies are asked for five times a second, arrays are packed."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from medfl.federation.packing import pack, unpack_message

POLL_S = 0.2


class PollingGrid(Grid):
    """Wraps another grid and leaves everything to it but how often replies are asked for, and how arrays travel.

    Flower's own `send_and_receive` sleeps 3 s between two questions and returns all replies together.

    Parameters
    ----------
    grid : Grid
    poll_s : float
        Seconds between two questions, > 0.
    sleep, clock : callable
        As in `time`.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        poll_s: float = POLL_S,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._grid = grid
        self._poll_s = poll_s
        self._sleep = sleep
        self._clock = clock

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """Run information."""
        return self._grid.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Return a new message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of the sites that are connected."""
        return self._grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages, packed, and return their ids; what several messages share is packed once."""
        sent, packed = list(messages), dict[int, RecordDict]()
        for message in sent:
            if message.has_content():
                key = id(message.content)
                if key not in packed:
                    packed[key] = pack(message.content)
                message.content = packed[key]
        return self._grid.push_messages(sent)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there, unpacked; one that cannot be is left as it is, and lacks its arrays."""
        replies = list(self._grid.pull_messages(message_ids))
        for reply in replies:
            with suppress(ValueError):
                unpack_message(reply)
        return replies

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send messages and yield each reply once, as it comes.

        Parameters
        ----------
        messages : iterable of Message
        timeout : float or None
            Seconds from now after which nothing more is waited for; None waits for all.
        """
        deadline = None if timeout is None else self._clock() + timeout
        waiting = {number for number in self.push_messages(messages) if number}
        while waiting:
            for reply in self.pull_messages(waiting.copy()):
                number = reply.metadata.reply_to_message_id
                if number in waiting:
                    waiting.discard(number)
                    yield reply
            if waiting and deadline is not None and self._clock() >= deadline:
                return
            if waiting:
                self._sleep(self._poll_s)

"""What an executor knows of one message that waits for an answer, whoever hands it over."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from flwr.app import Message, RecordDict

from medfl.errors import FederationError


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

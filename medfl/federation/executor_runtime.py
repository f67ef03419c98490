"""A site's access to its own SuperNode, through what Flower does not promise to keep.

Written for and tested with exactly one version of Flower, `FLOWER_VERSION`; with any other nothing starts. What is
used: the Runtime API over HTTP (AcquireTask, PullTaskInput, PullMessages, PullObject, ConfirmMessageReceived,
PushMessages, PushTaskOutput, SendTaskHeartbeat) with its protobuf messages, and `push_message` of Flower's own client.
"""

import json
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Final

import httpx
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.runtime import RuntimeHttpClient

from medfl.errors import ConfigError
from medfl.federation.executor_supernode_task import SuperNodeTask, cause_of
from medfl.federation.executor_task import Task, TaskLostError

FLOWER_VERSION: Final = "1.41.0"
CLIENT_TASK: Final = str(TaskType.CLIENT_APP)
"""The only kind of task that is ever answered."""

_ALL_TASKS = [str(kind) for kind in TaskType]  # others are taken as well, to be refused: nobody else would


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
        self._next: SuperNodeTask | None = None
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
        found, self._next = self._next or self._taken(), None
        if found is not None:
            found.note()
        return found

    def left_over(self) -> Task | None:
        """Return the task that an executor before this one took and did not end."""
        try:
            noted = json.loads(self._journal.read_text())
            return self._task(str(noted["kind"]), str(noted["token"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _taken(self) -> SuperNodeTask | None:
        try:
            found = self._client.AcquireTask(AcquireTaskRequest(supported_task_types=_ALL_TASKS))
        except httpx.HTTPError as error:
            raise TaskLostError(
                f"The SuperNode must answer at {self._address}; it did not ({cause_of(error)})."
            ) from None
        if not found.HasField("task") or not found.token:
            return None
        return self._task(found.task.type, found.token)

    def _task(self, kind: str, token: str) -> SuperNodeTask:
        return SuperNodeTask(self._address, kind, token, self._journal, self._has_another)

    def _has_another(self) -> bool:
        """Tell whether a second task waits: the SuperNode hands out one at a time, so it has given up the first."""
        if self._next is None:
            with suppress(TaskLostError):
                self._next = self._taken()
        return self._next is not None

"""The resident child that computes for a site: started with little, asked with a deadline, killed at will."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medfl.federation.frames import Frame, FrameError, Watch, receive_frame, send_frame

_START_S = 120.0
_STOP_S = 5.0


@dataclass(frozen=True)
class WorkerSettings:
    """How a worker is started.

    Attributes
    ----------
    module : str
        Module that is run with the number of its socket.
    environment : mapping of str to str
        All of its environment variables.
    start : dict
        What it is told first; plain JSON values.
    most_bytes : int
        Longest frame that is taken from it.
    command : sequence of str
        What runs the module.
    """

    module: str
    environment: Mapping[str, str]
    start: dict[str, Any]
    most_bytes: int
    command: Sequence[str] = field(default=(sys.executable, "-P", "-m"))


class WorkerProcess:
    """At most one running child.

    Parameters
    ----------
    settings : WorkerSettings
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self.facts: dict[str, Any] = {}
        """What the child says about itself: whether network and files are locked."""

    @property
    def is_running(self) -> bool:
        """Whether there is a child that has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start a child and wait until it has loaded what it needs; an earlier one is ended.

        Raises
        ------
        FrameError
            With reason "worker_start" if it does not come up.
        """
        self.stop()
        ours, theirs = socket.socketpair()
        settings = self._settings
        self._link = ours
        self._process = subprocess.Popen(
            [*settings.command, settings.module, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            env=dict(settings.environment),
            cwd="/",
        )
        theirs.close()
        try:
            deadline = time.monotonic() + _START_S
            send_frame(ours, Frame({**settings.start, "parent": os.getpid()}), deadline)
            self.facts = receive_frame(ours, most_bytes=0, deadline=deadline).head
        except FrameError as error:
            self.stop()
            raise FrameError("worker_start", "The worker must start; it did not.") from error

    def ask(self, question: Frame, deadline: float, watch: Watch | None = None) -> Frame:
        """Ask, and wait for the answer; a child that fails to give a proper one is ended.

        Parameters
        ----------
        question : Frame
        deadline : float
            On the monotonic clock.
        watch : callable or None
            Called several times a second; what it raises ends the child as well.

        Raises
        ------
        FrameError
        """
        if not self.is_running or self._link is None:
            self.start()
        assert self._link is not None
        try:
            send_frame(self._link, question, deadline)
            return receive_frame(self._link, most_bytes=self._settings.most_bytes, deadline=deadline, watch=watch)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the child at once, whatever it is doing."""
        if self._link is not None:
            self._link.close()
            self._link = None
        if self._process is not None:
            self._process.kill()
            self._process.wait(_STOP_S)
            self._process = None
        self.facts = {}

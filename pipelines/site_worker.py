"""The resident child of a site's executor: `python -m pipelines.site_worker SOCKET`; started by nobody else.

It gives up what it does not need before it loads anything that reads files of others: the network, secret files and
approvals, other programs, core dumps. It ends with its parent.
"""

import ctypes
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from medfl.errors import ConfigError
from medfl.federation.file_lock import lock_files
from medfl.federation.frames import Frame, FrameError, receive_frame, send_frame
from medfl.federation.network_lock import lock_network

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_OPEN_FILES = 4096


def main() -> None:
    """Answer questions until the socket closes."""
    link = socket.socket(fileno=int(sys.argv[1]))
    start = receive_frame(link, most_bytes=0).head
    facts = confine(start)
    from pipelines.site_answers import Answers  # everything heavy, after the locks

    answers = Answers(dict(start["node"]))
    most = int(start["most_bytes"])
    send_frame(link, Frame(facts))
    while True:
        try:
            question = receive_frame(link, most_bytes=most)
            send_frame(link, answers.answer(question))
        except FrameError:
            return


def confine(start: dict[str, Any]) -> dict[str, Any]:
    """Give up what the start message names; return what could be given up.

    Parameters
    ----------
    start : dict
        "parent" (process number), "hidden" and "writable" (paths), "memory_bytes" (0: no limit), "user" (number of the
        account to change to, 0: stay).

    Returns
    -------
    dict
        "network" and "files": "locked" or "open"; "user": number of the account.
    """
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(start["parent"]):
        sys.exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    if int(start["memory_bytes"]):
        resource.setrlimit(resource.RLIMIT_AS, (int(start["memory_bytes"]),) * 2)
    if int(start["user"]) and os.geteuid() == 0:
        os.setgroups([])
        os.setgid(int(start["user"]))
        os.setuid(int(start["user"]))
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # changing the account clears it
    files, network = "locked", "locked"
    try:
        lock_files([Path(path) for path in start["hidden"]], [Path(path) for path in start["writable"]])
    except ConfigError:
        files = "open"
    try:
        lock_network()
    except ConfigError:
        network = "open"
    library.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return {"network": network, "files": files, "user": os.geteuid(), "number": os.getpid()}


if __name__ == "__main__":
    main()

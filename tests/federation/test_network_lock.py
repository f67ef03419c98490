"""A worker that gives up the network must not get it back, and must still be able to work."""

import platform
import subprocess
import sys

import pytest

from medfl.errors import ConfigError
from medfl.federation import network_lock
from medfl.federation.network_lock import lock_network

_FAMILIES = ("AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET")


def _said(code: str, *, lock: bool = True) -> str:
    """Run code in a process of its own; the lock cannot be taken off again."""
    start = "import ctypes, os, socket, subprocess, sys, threading\n"
    locked = "from medfl.federation.network_lock import lock_network\nlock_network()\n" if lock else ""
    done = subprocess.run([sys.executable, "-c", start + locked + code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


_TRY = """
def tried(family):
    try:
        socket.socket(family, socket.SOCK_RAW if family == socket.AF_PACKET else socket.SOCK_DGRAM).close()
    except OSError as error:
        return error.errno
    return 0
"""


@pytest.mark.parametrize("family", _FAMILIES)
def test_no_socket_beyond_the_machine_can_be_made(family: str) -> None:
    assert _said(f"{_TRY}print(tried(socket.{family}))") == "1"  # EPERM


def test_without_the_lock_the_same_socket_can_be_made() -> None:
    assert _said(f"{_TRY}print(tried(socket.AF_INET))", lock=False) == "0"


def test_local_sockets_go_on_working() -> None:
    assert _said("a, b = socket.socketpair()\na.send(b'x')\nprint(b.recv(1) == b'x')") == "True"


def test_threads_and_children_are_locked_as_well() -> None:
    thread = (
        "found = []\nt = threading.Thread(target=lambda: found.append(tried(socket.AF_INET)))\nt.start(); t.join()\n"
    )
    child = (
        "code = 'import socket, sys\\ntry:\\n socket.socket()\\nexcept PermissionError:\\n sys.exit(7)'\n"
        "print(found[0], subprocess.run([sys.executable, '-c', code]).returncode)"
    )
    assert _said(_TRY + thread + child) == "1 7"


@pytest.mark.parametrize("number", network_lock._MACHINES[platform.machine()][2])
def test_ways_around_the_filter_are_closed(number: int) -> None:
    code = "lib = ctypes.CDLL(None, use_errno=True)\nlib.syscall({}, 0, 0, 0, 0, 0, 0)\nprint(ctypes.get_errno())"
    assert _said(code.format(number)) == "1"


def test_the_lock_can_be_set_twice() -> None:
    assert _said("lock_network()\nprint('twice')") == "twice"


def test_another_machine_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(ConfigError, match="riscv64"):
        lock_network()

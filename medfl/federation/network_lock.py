"""A process that gives up the network for good: no socket but those between processes of the same machine.

A seccomp filter needs no privilege and no container, holds for every thread and child, and cannot be taken off again.
"""

import ctypes
import errno
import platform
import struct
import sys

from medfl.errors import ConfigError

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_AF_UNIX = 1
_X32 = 0x40000000
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _DENY = 0x7FFF0000, 0x00050000 | errno.EPERM
_NUMBER_AT, _MACHINE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16  # of `struct seccomp_data`, low half on little-endian machines

# Audit number of the machine; numbers of socket, io_uring_setup, ptrace, process_vm_readv, process_vm_writev.
_MACHINES = {
    "x86_64": (0xC000003E, 41, (425, 101, 310, 311)),
    "aarch64": (0xC00000B7, 198, (425, 117, 270, 271)),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def lock_network() -> None:
    """Let this process, its threads made from now on and its children open local sockets only.

    Anything else ends with EPERM, and so do io_uring (which can open sockets past a filter) and looking into other
    processes. Sockets that are open already stay so.

    Raises
    ------
    ConfigError
        If this machine or its kernel cannot do it; then nothing is locked.
    """
    program = _program(platform.machine())
    buffer = ctypes.create_string_buffer(program, len(program))
    described = _Program(len(program) // 8, ctypes.cast(buffer, ctypes.c_char_p))
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or library.prctl(
        _PR_SET_SECCOMP, _FILTER, ctypes.byref(described), 0, 0
    ):
        reason = errno.errorcode.get(ctypes.get_errno(), "an unknown error")
        raise ConfigError(f"The kernel must let a process give up the network (seccomp filters); it answered {reason}.")


def _program(machine: str) -> bytes:
    """Return the filter: instructions of 8 bytes (code, jump if true, jump if false, value)."""
    if sys.platform != "linux" or machine not in _MACHINES or sys.byteorder != "little":
        raise ConfigError(f"Giving up the network needs Linux on {' or '.join(_MACHINES)}; this is {machine}.")
    architecture, socket_number, refused = _MACHINES[machine]
    allow = 7 + len(refused)
    deny = allow + 1
    lines = [
        (_LOAD, 0, 0, _MACHINE_AT),
        (_EQUAL, 0, deny - 2, architecture),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, deny - 4, 0, _X32),
        (_EQUAL, 0, 2, socket_number),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        (_EQUAL, allow - 7, deny - 7, _AF_UNIX),
        *((_EQUAL, deny - place - 1, 0, number) for place, number in enumerate(refused, start=7)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _DENY),
    ]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)

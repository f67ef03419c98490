"""A process that gives up files for good: some can no longer be opened, and only a few folders can be written to.

Landlock (Linux 5.13 and later) needs no privilege, holds for every child, and cannot be taken off again.
"""

import ctypes
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from medfl.errors import ConfigError

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_ASK_VERSION, _PATH_BENEATH = 1, 1
_PR_SET_NO_NEW_PRIVS = 38
_EXECUTE, _READ_FILE, _READ_FOLDER = 1 << 0, 1 << 2, 1 << 3
_READ = _EXECUTE | _READ_FILE | _READ_FOLDER
_OF_A_FILE = _EXECUTE | _READ_FILE | 1 << 1 | 1 << 14 | 1 << 15
_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_SIGNALS = 2
_SIGNALS_SINCE = 6
_DEVICES = Path("/dev")


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def lock_files(hidden: Sequence[Path], writable: Sequence[Path]) -> None:
    """Let this process and its children neither read nor write some files, and write in some folders only.

    Everything else that is there now can be read; so can what is made later inside of it. With Linux 6.12 and later
    no signal can be sent to other processes any more.

    Parameters
    ----------
    hidden : sequence of Path
        Files and folders that can no longer be opened; names in them can still be listed.
    writable : sequence of Path
        Folders that must exist; none may hold a hidden path.

    Raises
    ------
    ConfigError
        If the kernel cannot do it, or a folder holds what should be hidden; then nothing is locked.
    """
    library = ctypes.CDLL(None, use_errno=True)
    version = library.syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_ASK_VERSION))
    if version < 1:
        raise _refused("answered")
    hidden, writable = [path.resolve() for path in hidden], [path.resolve() for path in writable]
    if any(secret.is_relative_to(folder) for secret in hidden for folder in writable):
        raise ConfigError("A folder that can be written to must not hold what is to be hidden.")
    every = (1 << _BITS.get(version, 16)) - 1
    ruleset = _Ruleset(every, 0, _SIGNALS if version >= _SIGNALS_SINCE else 0)
    size = ctypes.sizeof(_Ruleset) if version >= _SIGNALS_SINCE else 8
    rules = library.syscall(_CREATE, ctypes.byref(ruleset), ctypes.c_size_t(size), ctypes.c_uint32(0))
    if rules < 0:
        raise _refused("answered")
    try:
        _allow(library, rules, Path("/"), _READ_FOLDER)
        for path in _readable(Path("/"), hidden):
            _allow(library, rules, path, _READ & every)
        for folder in (*writable, _DEVICES):
            _allow(library, rules, folder, every)
        if library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or library.syscall(_RESTRICT, rules, ctypes.c_uint32(0)):
            raise _refused("answered")
    finally:
        os.close(rules)


def _readable(folder: Path, hidden: Sequence[Path]) -> Iterator[Path]:
    """Yield what is beside the way to every hidden path."""
    inside = [path for path in hidden if path.is_relative_to(folder)]
    if not inside:
        yield folder
    elif folder not in inside and folder.is_dir():
        for child in sorted(folder.iterdir()):
            if not child.is_symlink():
                yield from _readable(child, inside)


def _allow(library: ctypes.CDLL, rules: int, path: Path, access: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # gone, or nothing that this process could open anyway
        return
    try:
        allowed = access if path.is_dir() else access & _OF_A_FILE
        rule = _PathRule(allowed, handle)
        if library.syscall(_ADD_RULE, rules, _PATH_BENEATH, ctypes.byref(rule), ctypes.c_uint32(0)):
            raise _refused("answered")
    finally:
        os.close(handle)


def _refused(what: str) -> ConfigError:
    reason = errno.errorcode.get(ctypes.get_errno(), "an unknown error")
    return ConfigError(f"The kernel must let a process give up files (Landlock); it {what} {reason}.")

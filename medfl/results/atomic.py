"""Writing a file so that a kill leaves either the old or the new one."""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK_STEP_S = 0.02


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content`: temporary file, fsync, rename, fsync of the folder.

    The file can be read by its owner only: what medfl writes is mostly for one site's eyes.

    Parameters
    ----------
    path : Path
        Its folder must exist.
    content : bytes
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_text(path: Path, content: str) -> None:
    """Replace `path` by UTF-8 text, atomically."""
    write_bytes(path, content.encode())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for the same folder waiting; a kill lets go, and a signal ends the waiting."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        while not _is_taken(handle):
            time.sleep(_LOCK_STEP_S)
        yield
    finally:
        os.close(handle)


def _is_taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

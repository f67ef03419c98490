"""Writing a file so that a kill leaves the old one or the new one, never half of it."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_file(path: Path, *, permissions: int = 0o644) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` that takes its name when the block ends without an exception.

    Parameters
    ----------
    path : Path
        Its folder must exist.
    permissions : int
        Mode of the new file.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), permissions)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise

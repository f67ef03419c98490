"""Opening what is really a file: a pipe or a device under an image's name could keep a reader waiting forever."""

import os
import stat
from io import FileIO
from pathlib import Path

from medfl.errors import ImageReadError


def open_regular(path: Path) -> FileIO:
    """Open a file for reading, unbuffered; links are followed.

    Raises
    ------
    ImageReadError
        With reason ``"unreadable"`` or ``"not_a_file"``; the message does not name the path.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        sentence = getattr(error, "strerror", None) or "no such path"
        raise ImageReadError("unreadable", f"The file cannot be opened: {sentence}.") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ImageReadError("not_a_file", "An image must be a regular file; this is a folder, a pipe or a device.")
    return FileIO(descriptor)

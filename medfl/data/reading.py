"""The one thing this room asks of a reader of untrusted files."""

from pathlib import Path
from typing import Protocol

from medfl.imaging.volume import Volume


class ImageReader(Protocol):
    """Whatever turns a file into a `Volume` or an `ImageReadError`, such as a `BoundedReader`."""

    def read(self, path: Path) -> Volume:
        """Read one file."""
        ...

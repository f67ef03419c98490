"""A reader for trusted files, without a child process."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medfl.errors import ImageReadError
from medfl.imaging.nifti import read_nifti
from medfl.imaging.volume import Volume


class DirectReader:
    """Reads NIfTI and PNG in this process; a file whose folder/name is in `broken` cannot be read."""

    def __init__(self) -> None:
        self.broken: set[str] = set()

    def read(self, path: Path) -> Volume:
        if f"{path.parent.name}/{path.name}" in self.broken:
            raise ImageReadError("broken", "The file is broken.")
        if path.suffix == ".png":
            array = np.atleast_3d(np.asarray(Image.open(path)))
            return Volume(np.moveaxis(array, -1, 0), np.eye(4))
        return read_nifti(path)


@pytest.fixture
def reader() -> DirectReader:
    return DirectReader()

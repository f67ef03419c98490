"""PNG and JPEG pictures to and from a two-dimensional `Volume`."""

import io
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from medfl.errors import DataError, ImageReadError
from medfl.imaging.quiet import quiet_readers
from medfl.imaging.regular_file import open_regular
from medfl.imaging.volume import Volume
from medfl.results.atomic import write_bytes

#: Pictures with more pixels than this are refused unless the caller allows more.
MAX_PIXELS = 2**26

_FORMATS = ("PNG", "JPEG")
_TARGET_MODE = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "PA": "RGB", "RGB": "RGB", "RGBA": "RGB", "YCbCr": "RGB"}
_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I")


def read_picture(path: Path, *, max_pixels: int = MAX_PIXELS) -> Volume:
    """Read a PNG or JPEG file as it is stored.

    The orientation tag of EXIF is ignored: rows and columns stay those of the file, so that a mask drawn on them still
    fits. Transparency is dropped, palettes become RGB. The affine is the identity, since pictures do not know their
    size in millimeters.

    Parameters
    ----------
    path : Path
        The content decides what it is, not the name.
    max_pixels : int
        Limit on width times height.

    Returns
    -------
    Volume
        Array of shape (1, H, W) for gray and (3, H, W) for color; uint8, or uint16 for 16-bit gray.

    Raises
    ------
    ImageReadError
        With reason ``"unreadable"``, ``"empty"``, ``"not_a_picture"``, ``"too_large"``, ``"truncated"`` or
        ``"unsupported_photometric"``.
    """
    try:
        with quiet_readers(), io.BufferedReader(open_regular(path)) as file:
            _opened(file, max_pixels).verify()  # every checksum of a PNG
            array = np.asarray(_converted(_opened(file, max_pixels)))
    except ImageReadError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise ImageReadError("unreadable", f"The file cannot be read: {error.strerror}.") from None
        raise ImageReadError("truncated", "The picture ends early or is damaged; copy the file again.") from None
    except Exception as error:
        raise ImageReadError("not_a_picture", f"The picture cannot be decoded ({type(error).__name__}).") from None
    planes = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    return Volume(np.ascontiguousarray(planes), np.eye(4))


def write_picture(volume: Volume, path: Path) -> None:
    """Write a two-dimensional volume as PNG; the file appears whole or not at all.

    Parameters
    ----------
    volume : Volume
        Array of shape (1, H, W) or (3, H, W), bool, uint8, or uint16 with one channel.
    path : Path
        Ends in ``.png``; its folder exists.

    Raises
    ------
    DataError
        If the name, shape or dtype is another.
    """
    if path.suffix.lower() != ".png":
        raise DataError("A picture must be written as .png, which loses nothing; choose such a name.")
    array = _writable(volume.array)
    content = io.BytesIO()
    Image.fromarray(array).save(content, format="PNG")
    write_bytes(path, content.getvalue())


def _opened(file: BinaryIO, max_pixels: int) -> Image.Image:
    """Return the picture with its size checked and its pixels not yet decoded."""
    file.seek(0)
    is_empty = not file.read(1)
    file.seek(0)
    if is_empty:
        raise ImageReadError("empty", "The file must hold a picture; it has no bytes.")
    try:
        picture = Image.open(file, formats=_FORMATS)
    except UnidentifiedImageError:
        raise ImageReadError("not_a_picture", "A picture must be PNG or JPEG; this is neither.") from None
    except Image.DecompressionBombError:
        raise ImageReadError("too_large", f"At most {max_pixels} pixels are read; the picture has more.") from None
    if picture.width * picture.height > max_pixels:
        raise ImageReadError("too_large", f"At most {max_pixels} pixels are read; the picture has more.")
    return picture


def _converted(picture: Image.Image) -> Image.Image:
    """Return the decoded picture as gray or RGB."""
    if picture.mode in _SIXTEEN_BIT_MODES:
        return picture.convert("I;16") if picture.mode == "I;16B" else picture
    if picture.mode not in _TARGET_MODE:
        raise ImageReadError("unsupported_photometric", "Pictures must be gray or RGB; this has other colors.")
    return picture if picture.mode == _TARGET_MODE[picture.mode] else picture.convert(_TARGET_MODE[picture.mode])


def _writable(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the array as PNG wants it: (H, W) or (H, W, 3)."""
    if array.ndim != 3 or array.shape[0] not in (1, 3):
        raise DataError(f"A picture must have shape (1, H, W) or (3, H, W), got {array.shape}.")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    if array.dtype != np.uint8 and not (array.dtype == np.uint16 and array.shape[0] == 1):
        raise DataError(f"A picture must be uint8, or uint16 with one channel, got {array.dtype}.")
    return array[0] if array.shape[0] == 1 else np.ascontiguousarray(np.moveaxis(array, 0, -1))

"""Decoding the frames of one DICOM file."""

import os
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from medfl.errors import ImageReadError
from medfl.imaging.dicom_facts import DicomHeader, PixelLayout
from medfl.imaging.quiet import quiet_readers
from medfl.imaging.regular_file import open_regular

#: pydicom's decoder plugins, in the order in which they are tried: the fastest first. Not pylibjpeg for RLE: a damaged
#: frame makes it raise what is no Exception. pyjpegls may never return from a cut frame: see `_check_jpeg_ls_end`.
_PLUGINS = {
    uid.JPEGLSLossless: ("pyjpegls", "gdcm"),
    uid.JPEGLSNearLossless: ("pyjpegls", "gdcm"),
    uid.JPEG2000Lossless: ("pylibjpeg", "gdcm"),
    uid.JPEG2000: ("pylibjpeg", "gdcm"),
    uid.RLELossless: ("pydicom",),
}
_ANY_PLUGIN = ("",)
_LITTLE_ENDIAN = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian)


def stored_dtype(pixels: PixelLayout) -> np.dtype[np.generic]:
    """Return the integer type that holds one sample, in native byte order."""
    return np.dtype(f"{'i' if pixels.is_signed else 'u'}{pixels.bits_allocated // 8}")


def decode_frames(header: DicomHeader) -> Iterator[NDArray[np.generic]]:
    """Yield every frame of a file, as stored numbers before rescaling.

    MONOCHROME1 is inverted within the stored bits, so that larger is always brighter; YBR becomes RGB. Bits above the
    stored ones are cleared. A yielded array is only valid until the next one.

    Decoders are native code that damaged pixels can stop or keep busy forever; files that nobody vouches for are read
    through `medfl.imaging.bounded.BoundedReader`.

    Parameters
    ----------
    header : DicomHeader

    Yields
    ------
    ndarray of shape (samples, rows, columns)

    Raises
    ------
    ImageReadError
        With reason ``"truncated"``, ``"bad_pixels"``, ``"changed"`` or ``"unreadable"``.
    """
    pixels = header.pixels
    is_plain = pixels.transfer_syntax in _LITTLE_ENDIAN and pixels.samples == 1
    try:
        with open_regular(header.path) as file, quiet_readers():
            status = os.fstat(file.fileno())
            if (status.st_size, status.st_mtime_ns) != (pixels.file_bytes, pixels.modified_ns):
                raise ImageReadError("changed", "The file must stay as it was when its header was read; it changed.")
            for frame in _plain_frames(file, pixels) if is_plain else _decoded_frames(file, pixels):
                yield _shown(_without_unused_bits(frame, pixels), pixels)
    except ImageReadError:
        raise
    except OSError as error:
        raise ImageReadError("unreadable", f"The file cannot be read: {error.strerror}.") from None
    except Exception as error:
        raise ImageReadError("bad_pixels", f"The pixels cannot be decoded ({type(error).__name__}).") from None


def _plain_frames(file: FileIO, pixels: PixelLayout) -> Iterator[NDArray[np.generic]]:
    """Yield uncompressed little-endian gray frames, all in one reused buffer."""
    frame = np.empty((1, pixels.rows, pixels.columns), dtype=stored_dtype(pixels).newbyteorder("<"))
    target = frame.reshape(-1).view(np.uint8).data
    file.seek(pixels.offset)
    for _ in range(pixels.n_frames):
        done = 0
        while done < len(target):
            n_read = file.readinto(target[done:])
            if not n_read:
                raise ImageReadError("truncated", "The file ends before its last pixel.")
            done += n_read
        yield frame.astype(frame.dtype.newbyteorder("="), copy=False)


def _decoded_frames(file: FileIO, pixels: PixelLayout) -> Iterator[NDArray[np.generic]]:
    """Yield frames of any other kind, through pydicom's decoders."""
    file.seek(pixels.offset)
    value = file.read() if pixels.length < 0 else file.read(pixels.length)
    syntax = UID(pixels.transfer_syntax)
    options: dict[str, Any] = {
        "rows": pixels.rows,
        "columns": pixels.columns,
        "samples_per_pixel": pixels.samples,
        "number_of_frames": pixels.n_frames,
        "photometric_interpretation": pixels.photometric,
        "planar_configuration": int(pixels.is_planar),
        "bits_allocated": pixels.bits_allocated,
        "bits_stored": pixels.bits_stored,
        "pixel_representation": int(pixels.is_signed),
        "pixel_keyword": "PixelData",
        "pixel_vr": pixels.vr,
    }
    for index in range(pixels.n_frames):
        if syntax in uid.JPEGLSTransferSyntaxes:
            _check_jpeg_ls_end(value, index, pixels.n_frames)
        frame = _first_success(syntax, value, index, options)
        planes = np.moveaxis(frame, -1, 0) if pixels.samples > 1 else frame[None]
        yield planes.astype(stored_dtype(pixels), copy=False)


def _check_jpeg_ls_end(value: bytes, index: int, n_frames: int) -> None:
    """Refuse a JPEG-LS frame that was cut: its decoder would search for the end forever."""
    if not get_frame(value, index, number_of_frames=n_frames).rstrip(b"\0").endswith(b"\xff\xd9"):
        raise ImageReadError("truncated", "A compressed frame must reach its end marker; it stops early.")


def _first_success(syntax: UID, value: bytes, index: int, options: dict[str, Any]) -> NDArray[np.generic]:
    """Decode one frame with the first plugin that can."""
    decoder = get_decoder(syntax)
    *earlier, last = _PLUGINS.get(syntax, _ANY_PLUGIN)
    for plugin in earlier:
        with suppress(Exception):
            return decoder.as_array(value, index=index, decoding_plugin=plugin, **options)[0]
    return decoder.as_array(value, index=index, decoding_plugin=last, **options)[0]


def _without_unused_bits(frame: NDArray[np.generic], pixels: PixelLayout) -> NDArray[np.generic]:
    """Clear, or fill with the sign, the bits above the stored ones, where old overlays may sit."""
    unused = pixels.bits_allocated - pixels.bits_stored
    if not unused:
        return frame
    shifted: NDArray[np.generic] = np.right_shift(np.left_shift(frame, unused), unused)
    return shifted


def _shown(frame: NDArray[np.generic], pixels: PixelLayout) -> NDArray[np.generic]:
    """Invert MONOCHROME1 within the stored bits."""
    if pixels.photometric != "MONOCHROME1":
        return frame
    brightest = -1 if pixels.is_signed else 2**pixels.bits_stored - 1
    inverted: NDArray[np.generic] = np.subtract(brightest, frame, dtype=frame.dtype)
    return inverted

"""Which arrangements of DICOM pixels can be read."""

from math import prod

from pydicom import uid

from medfl.errors import ImageReadError
from medfl.imaging.dicom_facts import PixelLayout

#: Uncompressed transfer syntaxes.
NATIVE = frozenset({uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian})
#: Compressed transfer syntaxes that are decoded.
ENCAPSULATED = frozenset(
    {
        *(uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1),
        *(uid.JPEGLSLossless, uid.JPEGLSNearLossless, uid.RLELossless),
        *(uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K),
    }
)
_COLOR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})


def check_pixels(pixels: PixelLayout, high_bit: int) -> None:
    """Refuse a layout that cannot be, or that is not supported.

    Parameters
    ----------
    pixels : PixelLayout
    high_bit : int
        The attribute HighBit.

    Raises
    ------
    ImageReadError
        With reason ``"bad_dimensions"``, ``"unsupported_bits"``, ``"unsupported_photometric"``,
        ``"unsupported_transfer_syntax"``, ``"bad_header"`` or ``"truncated"``.
    """
    if not (0 < pixels.rows < 65536 and 0 < pixels.columns < 65536 and pixels.n_frames > 0):
        raise ImageReadError("bad_dimensions", "Rows, Columns and NumberOfFrames must be positive; they are not.")
    if pixels.bits_allocated not in (8, 16, 32) or not 1 <= pixels.bits_stored <= pixels.bits_allocated:
        raise ImageReadError("unsupported_bits", "BitsAllocated must be 8, 16 or 32, and BitsStored not more.")
    if high_bit != pixels.bits_stored - 1:
        raise ImageReadError("unsupported_bits", "HighBit must be BitsStored - 1; it is not.")
    known = _COLOR if pixels.samples == 3 else {"MONOCHROME1", "MONOCHROME2"} if pixels.samples == 1 else frozenset()
    if pixels.photometric not in known:
        raise ImageReadError("unsupported_photometric", "Images must be gray or RGB; palettes are not read.")
    if pixels.transfer_syntax == uid.JPEGExtended12Bit and pixels.bits_stored > 8:
        raise ImageReadError("unsupported_transfer_syntax", "JPEG of 12 bits is not read; convert it to JPEG lossless.")
    is_native = pixels.transfer_syntax in NATIVE
    if is_native != (pixels.length >= 0):
        raise ImageReadError("bad_header", "Pixels must be encapsulated exactly when they are compressed.")
    per_pixel = 2 if pixels.photometric == "YBR_FULL_422" else pixels.samples
    n_bytes = prod((pixels.rows, pixels.columns, pixels.n_frames, per_pixel, pixels.bits_allocated // 8))
    if is_native and n_bytes > min(pixels.length, pixels.file_bytes - pixels.offset):
        raise ImageReadError("truncated", f"{n_bytes} bytes of pixels are announced; there are fewer.")
    if not is_native and pixels.n_frames > pixels.file_bytes:
        raise ImageReadError("truncated", f"{pixels.n_frames} frames are announced; the file is too small for them.")

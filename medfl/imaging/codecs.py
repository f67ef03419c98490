"""Which compressed DICOM pictures this installation can decode."""

from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from medfl.imaging.dicom_layout import ENCAPSULATED


def missing_codecs() -> tuple[str, ...]:
    """Return the names of transfer syntaxes that medfl takes and no installed plugin decodes; usually none."""
    return tuple(UID(syntax).name for syntax in sorted(ENCAPSULATED) if not get_decoder(UID(syntax)).is_available)

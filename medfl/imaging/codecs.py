"""Which compressed DICOM pictures this installation can decode."""

from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from medfl.imaging.dicom_layout import ENCAPSULATED


def missing_codecs() -> tuple[str, ...]:
    """Return the names of transfer syntaxes that medfl takes and no installed plugin decodes; usually none."""
    missing = []
    for syntax in sorted(ENCAPSULATED):
        uid = UID(syntax)
        try:
            if not get_decoder(uid).is_available:
                missing.append(uid.name)
        except NotImplementedError:
            missing.append(uid.name)
    return tuple(missing)

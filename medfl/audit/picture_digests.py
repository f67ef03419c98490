"""What a signed report says of pictures that it does not hold."""

import base64
import binascii
import hashlib
from collections.abc import Sequence

from medfl.audit.pictures import Picture
from medfl.errors import AuditError
from medfl.results.report import PictureDigest


def picture_digest(picture: Picture) -> PictureDigest:
    """Return name, caption, and the SHA-256 of the panels' PNG bytes, one after the other.

    Raises
    ------
    AuditError
        If a panel is not base64.
    """
    digest = hashlib.sha256()
    for label, content in picture.panels:
        try:
            digest.update(base64.b64decode(content, validate=True))
        except binascii.Error as error:
            raise AuditError(f"A panel must be a PNG as base64; '{label}' of '{picture.name}' is not.") from error
    return PictureDigest(name=picture.name, caption=picture.caption, sha256=digest.hexdigest())


def check_pictures(pictures: Sequence[Picture], named: Sequence[PictureDigest]) -> None:
    """Make sure that pictures are the ones a report names.

    Raises
    ------
    AuditError
        If one is not among them, for it is missing there or was changed.
    """
    for picture in pictures:
        if picture_digest(picture) not in named:
            raise AuditError(f"A picture must be one that the report names; '{picture.name}' is not. Audit again.")

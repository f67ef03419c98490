"""DICOM attributes as Python values of a known type.

The stored bytes are decoded here rather than by pydicom: that is faster, and nothing in a damaged value can reach a
warning.
"""

from math import isfinite

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from medfl.errors import ImageReadError

_DAYS_PER_UNIT = {"D": 1.0, "W": 7.0, "M": 30.4375, "Y": 365.25}


def text(dataset: Dataset, keyword: str) -> str:
    """Return an ASCII attribute without padding; empty when it is absent."""
    return _stored(dataset, keyword)[0].decode("ascii", "replace").strip(" \0")


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the values of an ASCII attribute."""
    return tuple(part.strip(" \0") for part in text(dataset, keyword).split("\\"))


def person_text(dataset: Dataset, keyword: str) -> str:
    """Return an attribute in the file's own character set, such as a patient id; empty when it is absent."""
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip(" \0")


def required_text(dataset: Dataset, keyword: str) -> str:
    """Return an ASCII attribute that an image cannot do without.

    Raises
    ------
    ImageReadError
        With reason ``"missing_attribute"``.
    """
    if not (value := text(dataset, keyword)):
        raise ImageReadError("missing_attribute", f"The attribute {keyword} must be present; it is not.")
    return value


def short(dataset: Dataset, keyword: str, default: int | None = None) -> int:
    """Return a binary attribute of 16 bits.

    Raises
    ------
    ImageReadError
        With reason ``"missing_attribute"`` when it is absent or empty and there is no default, or ``"bad_header"``.
    """
    value, is_little_endian = _stored(dataset, keyword)
    if not value:
        if default is None:
            raise ImageReadError("missing_attribute", f"The attribute {keyword} must be present; it is not.")
        return default
    if len(value) != 2:
        raise ImageReadError("bad_header", f"The attribute {keyword} must be one number of 16 bits; it is not.")
    return int.from_bytes(value, "little" if is_little_endian else "big")


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return a decimal attribute as `count` finite numbers, or None when it is absent or empty.

    Raises
    ------
    ImageReadError
        With reason ``"bad_header"`` when there are more or fewer, or one is no finite number.
    """
    if not (value := text(dataset, keyword)):
        return None
    try:
        values = tuple(float(part) for part in value.split("\\"))
    except ValueError:
        values = ()
    if len(values) != count or not all(map(isfinite, values)):
        raise ImageReadError("bad_header", f"The attribute {keyword} must hold {count} finite number(s); it does not.")
    return values


def number(dataset: Dataset, keyword: str) -> float | None:
    """Return a decimal attribute as one finite number, or None when it is absent or empty."""
    values = numbers(dataset, keyword, 1)
    return None if values is None else values[0]


def age_years(age: str) -> float | None:
    """Return an age such as ``"034Y"`` or ``"006M"`` in years, or None when it is not one."""
    if len(age) < 2 or not age[:-1].isascii() or not age[:-1].isdigit() or age[-1] not in _DAYS_PER_UNIT:
        return None
    return int(age[:-1]) * _DAYS_PER_UNIT[age[-1]] / 365.25


def _stored(dataset: Dataset, keyword: str) -> tuple[bytes, bool]:
    """Return the bytes of an attribute, empty when it is absent, and whether they are little-endian."""
    tag = tag_for_keyword(keyword)
    element: object = None if tag is None else dataset.get_item(tag, keep_deferred=True)
    if not isinstance(element, RawDataElement) or not isinstance(element.value, bytes):
        return b"", True
    return element.value, element.is_little_endian

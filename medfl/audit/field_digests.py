"""One digest per field of a report, so that an edit can be named and not only noticed."""

from collections.abc import Iterator, Mapping
from typing import Any

from medfl.results.canonical import sha256


def field_digests(report: Mapping[str, Any]) -> dict[str, str]:
    """Return the JSON pointer (RFC 6901) of every leaf with the SHA-256 of its canonical JSON.

    Parameters
    ----------
    report : mapping
        JSON values. Empty lists and objects count as leaves.
    """
    return {pointer: sha256({"value": leaf}) for pointer, leaf in _leaves("", report)}


def changed_fields(report: Mapping[str, Any], signed: Mapping[str, str]) -> tuple[str, ...]:
    """Return what is different from the signed digests, for example ``changed: /verdicts/0/status``, sorted."""
    found = field_digests(report)
    changed = [f"changed: {name}" for name in found.keys() & signed.keys() if found[name] != signed[name]]
    added = [f"added: {name}" for name in found.keys() - signed.keys()]
    removed = [f"removed: {name}" for name in signed.keys() - found.keys()]
    return tuple(sorted([*changed, *added, *removed]))


def _leaves(pointer: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, child in value.items():
            yield from _leaves(f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}", child)
    elif isinstance(value, list | tuple) and value:
        for place, child in enumerate(value):
            yield from _leaves(f"{pointer}/{place}", child)
    else:
        yield pointer, value

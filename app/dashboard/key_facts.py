"""What is known about the keys in use: who holds them, since when, until when; never a key."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from medfl.errors import KeyFileError


@dataclass(frozen=True)
class KeyFacts:
    """One key.

    Attributes
    ----------
    name : str
        Of its file, without the ending.
    key_id, kind : str
        "" where the file cannot be read.
    created, not_after, revoked_on : date or None
    epoch : int
        1 for a first key; rotation counts it up.
    released, cap : int and int or None
        Images released under it, and the most that may be.
    """

    name: str
    key_id: str = ""
    kind: str = ""
    created: date | None = None
    not_after: date | None = None
    revoked_on: date | None = None
    epoch: int = 0
    released: int = 0
    cap: int | None = None


def keys_of(run: Path, site: Path | None) -> tuple[KeyFacts, ...]:
    """Return the keys in the site's folder `keys`, else those that a simulation keeps beside its run folder.

    Parameters
    ----------
    run : Path
    site : Path or None
        The site's state folder.
    """
    folder = run.resolve()
    places = ([] if site is None else [site / "keys"]) + [folder.with_name(f"{folder.name}.keys")]
    for place in places:
        files = sorted(place.glob("*.key"))
        if files:
            return tuple(_facts(file) for file in files)
    return ()


def _facts(path: Path) -> KeyFacts:
    from medfl.privacy.key_files import describe

    try:
        info, state = describe(path)
    except KeyFileError:
        return KeyFacts(path.stem)
    return KeyFacts(
        path.stem,
        info.key_id,
        info.kind,
        info.created,
        info.not_after,
        state.revoked_on,
        info.epoch,
        sum(state.released.values()),
        info.image_cap,
    )

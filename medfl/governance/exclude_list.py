"""The subjects of a site who withdrew: nothing is computed from them any more.

`exclude.json` holds pseudonyms and stays at the site. An entry is never removed by a new import, so it is a tombstone
as well. What a subject was part of before is found by `medfl.governance.withdrawal`.
"""

import hashlib
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from medfl.errors import DataError
from medfl.governance.person import PersonName
from medfl.results.atomic import locked, write_text

FILE = "exclude.json"
_SALT_BYTES = 16
Subject = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


class _Entry(_Closed):
    subject: Subject
    when: AwareDatetime
    by: PersonName


class _List(_Closed):
    schema_: Literal["medfl/exclude/1"] = Field(default="medfl/exclude/1", alias="schema")
    salt: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    entries: tuple[_Entry, ...] = ()


@dataclass(frozen=True)
class Tombstone:
    """One withdrawal, without the pseudonym: `digest` is its SHA-256 with the site's salt; for the audit log."""

    digest: str
    is_new: bool


class ExcludeList:
    """The subjects of a site that nothing is computed from any more.

    Parameters
    ----------
    state : Path
        The site's folder.
    """

    def __init__(self, state: Path) -> None:
        self._path = state / FILE

    def subjects(self) -> frozenset[str]:
        """Return their pseudonyms.

        Raises
        ------
        DataError
            If the list is there and cannot be read; then nothing may be computed.
        """
        found = self._read()
        return frozenset() if found is None else frozenset(entry.subject for entry in found.entries)

    def add(self, subject: str, by: str, now: datetime) -> Tombstone:
        """Put a subject on the list for good; done again, nothing changes.

        Parameters
        ----------
        subject : str
            Pseudonym, as in the manifest.
        by : str
            Who does it.
        now : datetime
            With a time zone.

        Raises
        ------
        DataError
            If the list or a value cannot be used.
        """
        with locked(self._path.parent):
            found = self._read() or _List(salt=secrets.token_hex(_SALT_BYTES))
            digest = hashlib.sha256(f"{found.salt} {subject}".encode()).hexdigest()
            if subject in {entry.subject for entry in found.entries}:
                return Tombstone(digest, is_new=False)
            try:
                entry = _Entry(subject=subject, when=now.astimezone(UTC), by=by)
            except ValidationError:
                raise DataError(
                    "A withdrawal needs a pseudonym and the name of who enters it; one does not fit."
                ) from None
            made = _List(salt=found.salt, entries=(*found.entries, entry))
            write_text(self._path, json.dumps(made.model_dump(mode="json", by_alias=True), indent=1) + "\n")
        return Tombstone(digest, is_new=True)

    def _read(self) -> _List | None:
        try:
            return _List.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            raise DataError(
                f"{FILE} must list the subjects who withdrew; it cannot be read. Restore it from a backup: without it "
                "nothing is computed."
            ) from None

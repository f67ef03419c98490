"""How often a plan's messages came and its replies left; a file, so that a restart forgets nothing."""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medfl.errors import FederationError
from medfl.federation.inbound import RequestError
from medfl.results.atomic import write_text

_FILE = "counts.json"


class _Counts(BaseModel):
    model_config = ConfigDict(extra="forbid")

    asked: dict[str, int] = Field(default_factory=dict)
    sent: dict[str, int] = Field(default_factory=dict)
    bytes_out: int = 0


class RequestCounts:
    """Counts of one plan at one site; one process at a time.

    Parameters
    ----------
    folder : Path
        Of the plan at the site; it is made where it is missing.

    Raises
    ------
    FederationError
        If the file was changed so that it cannot be read; nothing is answered until that was looked into.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / _FILE
        try:
            self._counts = _Counts.model_validate_json(self._path.read_bytes()) if self._path.exists() else _Counts()
        except (OSError, ValidationError) as error:
            raise FederationError(f"{_FILE} must hold counts; it cannot be read. Restore it from a backup.") from error

    @property
    def bytes_out(self) -> int:
        """Bytes of arrays that left so far."""
        return self._counts.bytes_out

    def take(self, kind: str, round: int, most: int) -> None:
        """Count a message before anything is computed for it.

        Raises
        ------
        RequestError
            With reason "message_count" if it came `most` times already.
        """
        key = f"{kind} {round}"
        if self._counts.asked.get(key, 0) >= most:
            raise RequestError("message_count", f"A hub may ask {most} times for the same round; it asked once more.")
        self._counts.asked[key] = self._counts.asked.get(key, 0) + 1
        self._write()

    def send(self, kind: str, times: int, nbytes: int) -> None:
        """Count a reply with content before it leaves.

        Raises
        ------
        RequestError
            With reason "times" if as many left as the approval has.
        """
        if self._counts.sent.get(kind, 0) >= times:
            raise RequestError("times", f"At most {times} replies of this kind may leave; one more was asked for.")
        self._counts.sent[kind] = self._counts.sent.get(kind, 0) + 1
        self._counts.bytes_out += nbytes
        self._write()

    def _write(self) -> None:
        write_text(self._path, json.dumps(self._counts.model_dump()))

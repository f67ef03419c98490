"""Cases that somebody at the site marked, with the reason: a file that only grows."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medfl.errors import ConfigError
from medfl.governance.ledger_clock import Clock, stamp, utc_now
from medfl.results.atomic import locked

Mark = Literal["flagged", "withdrawn"]
_LARGEST = 64_000_000
_LONGEST_REASON = 500


class CaseFlag(BaseModel):
    """One line: a case was flagged, or a flag was taken back.

    Attributes
    ----------
    recorded : str
        UTC, "YYYY-MM-DDTHH:MM:SSZ".
    who : str
        Who did it, as the site's sign-on says.
    run : str
        Name of the run folder.
    site, study : str
        The study's pseudonym; never an accession number.
    mark : str
    reason : str
        1 to 500 printable characters, without anything that names a patient.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recorded: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
    who: str = Field(min_length=1, max_length=200)
    run: str = Field(min_length=1, max_length=1000)
    site: str = Field(min_length=1, max_length=200)
    study: str = Field(min_length=1, max_length=200)
    mark: Mark
    reason: str = Field(min_length=1, max_length=_LONGEST_REASON)


@dataclass(frozen=True)
class FlagJournal:
    """Everything that stands in the file.

    Attributes
    ----------
    lines : tuple of CaseFlag
        In the order in which they were written.
    unreadable : int
        Lines that are no flags; a computer that failed while writing leaves one.
    """

    lines: tuple[CaseFlag, ...]
    unreadable: int

    def standing(self, run: str) -> dict[tuple[str, str], CaseFlag]:
        """Return the flags of a run that were not taken back: (site, study) -> the last line about it."""
        last = {(line.site, line.study): line for line in self.lines if line.run == run}
        return {case: line for case, line in last.items() if line.mark == "flagged"}

    def about(self, run: str, site: str, study: str) -> Sequence[CaseFlag]:
        """Return everything that was said about a case, the latest first."""
        return [line for line in reversed(self.lines) if (line.run, line.site, line.study) == (run, site, study)]


class CaseFlags:
    """The flags of a site.

    Parameters
    ----------
    state : Path
        The site's state folder, which must exist.
    clock : callable
        Returns the present time.
    """

    def __init__(self, state: Path, clock: Clock = utc_now) -> None:
        self._folder = state
        self._path = state / "case_flags.jsonl"
        self._clock = clock

    def add(self, *, who: str, run: str, site: str, study: str, reason: str, mark: Mark = "flagged") -> CaseFlag:
        """Write one line; when this returns it is on the disk.

        Raises
        ------
        ConfigError
            If the reason or a name is empty, too long or not printable, or the folder cannot be written.
        """
        texts = (who, run, site, study, reason)
        if not all(text.strip() and text.isprintable() for text in texts):
            raise ConfigError("A flag needs a name and a reason, each one printable line; one of them is not.")
        try:
            line = CaseFlag(
                recorded=stamp(self._clock), who=who, run=run, site=site, study=study, mark=mark, reason=reason.strip()
            )
        except ValidationError as error:
            raise ConfigError(f"A flag's reason must have at most {_LONGEST_REASON} characters.") from error
        content = json.dumps(line.model_dump(), ensure_ascii=False).encode() + b"\n"
        try:
            with locked(self._folder):
                self._append(content)
        except OSError as error:
            raise ConfigError("The site's state folder must be there and may be written; it is not.") from error
        return line

    def read(self) -> FlagJournal:
        """Return what was written so far; nothing where there is no file.

        Raises
        ------
        ConfigError
            If the file is there and cannot be read, or is larger than 64 MB.
        """
        try:
            if self._path.stat().st_size > _LARGEST:
                raise ConfigError(f"{self._path.name} must be smaller than 64 MB; it is not. Move it away.")
            content = self._path.read_bytes()
        except FileNotFoundError:
            return FlagJournal((), 0)
        except OSError as error:
            raise ConfigError(f"{self._path.name} must be readable; it is not.") from error
        lines, unreadable = [], 0
        for text in content.split(b"\n"):
            if not text.strip():
                continue
            try:
                lines.append(CaseFlag.model_validate_json(text))
            except ValidationError:
                unreadable += 1
        return FlagJournal(tuple(lines), unreadable)

    def _append(self, content: bytes) -> None:
        """Add a line at the end; one that a failing computer cut off is ended first."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                content = b"\n" + content
            written = os.write(handle, content)
            if written != len(content):
                raise OSError("the disk is full")
            os.fsync(handle)
        finally:
            os.close(handle)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

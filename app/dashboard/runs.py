"""Which run folders there are, and in which state; only names and times are looked at."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["finished", "running", "incomplete"]

_DEEPEST = 3
_MOST_RUNS = 500
_MOST_LOOKS = 20_000
_MARKS = frozenset({"config.yaml", "plan.json", "history.json", "metrics.json"})
_LARGEST = 64_000_000


@dataclass(frozen=True)
class RunEntry:
    """One run folder.

    Attributes
    ----------
    folder : Path
    name : str
        Of the folder, below the folder of runs.
    state : str
        "finished": with final metrics. "running": with settings and without final metrics; it may have been stopped.
        "incomplete": not even settings.
    changed : float
        Time of the last change of a file directly in it, in seconds since 1970.
    stamp : tuple of (str, int, int)
        Name, time and size of every file directly in it: what was read from the folder holds as long as this does.
    """

    folder: Path
    name: str
    state: State
    changed: float
    stamp: tuple[tuple[str, int, int], ...]

    def is_large(self, name: str) -> bool:
        """Tell whether a file is larger than any that medfl writes (64 MB)."""
        return any(found == name and size > _LARGEST for found, _, size in self.stamp)


def find_runs(root: Path) -> tuple[RunEntry, ...]:
    """Return the run folders in a folder, or the folder itself when it is one; the last changed comes first.

    Folders are looked at three levels deep, and inside of run folders no further.

    Parameters
    ----------
    root : Path
    """
    found: list[RunEntry] = []
    for folder in _candidates(root):
        entry = entry_of(folder, root)
        if entry is not None:
            found.append(entry)
        if len(found) == _MOST_RUNS:
            break
    return tuple(sorted(found, key=lambda one: (-one.changed, one.name)))


def entry_of(folder: Path, root: Path) -> RunEntry | None:
    """Return what a folder is; None when it holds nothing of a run or cannot be listed."""
    stamp: list[tuple[str, int, int]] = []
    try:
        for place in folder.iterdir():
            if place.is_file():
                facts = place.stat()
                stamp.append((place.name, facts.st_mtime_ns, facts.st_size))
    except OSError:
        return None
    names = {name for name, _, _ in stamp}
    if not names & _MARKS:
        return None
    state: State = "incomplete"
    if "config.yaml" in names:
        state = "finished" if "metrics.json" in names else "running"
    name = folder.name if folder == root else folder.relative_to(root).as_posix()
    return RunEntry(folder, name, state, max(time for _, time, _ in stamp) / 1e9, tuple(sorted(stamp)))


def _candidates(root: Path) -> Iterator[Path]:
    """Yield folders that may be runs, breadth first."""
    level, looks = [root], 0
    for _ in range(_DEEPEST + 1):
        below: list[Path] = []
        for folder in level:
            yield folder
            try:
                inside = sorted(folder.iterdir())
            except OSError:
                continue
            if any(place.name in _MARKS for place in inside):
                continue
            looks += len(inside)
            if looks > _MOST_LOOKS:
                return
            below += [place for place in inside if place.is_dir() and not place.name.startswith(".")]
        level = below

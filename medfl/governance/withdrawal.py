"""What a subject who withdraws was part of before: runs and their models, at this site.

Nothing here takes anything back: numbers that left stay where they went, and a model that was trained on a subject
stays as it is.
"""

from dataclasses import dataclass
from pathlib import Path

from medfl.errors import RunFolderError
from medfl.results.store import RunStore


@dataclass(frozen=True)
class AffectedRun:
    """A run that a subject was part of.

    Attributes
    ----------
    name : str
        Of its folder at the site.
    plan : str
        SHA-256 of what decided its result; empty where the folder does not say.
    releases : tuple of str
        Names of what left the site and was computed from this subject among others, such as "round-0003".
    """

    name: str
    plan: str
    releases: tuple[str, ...]

    @property
    def in_training(self) -> bool:
        """Whether its models were trained on the subject, not only judged by it."""
        return any(not name.startswith("measures-") for name in self.releases)


@dataclass(frozen=True)
class Affected:
    """All runs at a site: those that a subject was part of, and those that kept no list of subjects."""

    runs: tuple[AffectedRun, ...]
    unknown: tuple[str, ...]


def affected_runs(runs: Path, subject: str) -> Affected:
    """Return every run of a site that a subject was part of.

    Parameters
    ----------
    runs : Path
        Folder of the site's run folders.
    subject : str
        Pseudonym.
    """
    found, unknown = [], []
    for folder in sorted(path for path in runs.glob("*") if (path / "config.yaml").is_file()):
        store = RunStore(folder)
        files = store.releases()
        try:
            names = tuple(path.stem for path in files if subject in _members(store, path))
            plan = str(store.read_settings()[1].get("sha256", ""))
        except RunFolderError:
            unknown.append(folder.name)
            continue
        if names:
            found.append(AffectedRun(folder.name, plan, names))
        elif not files:
            unknown.append(folder.name)
    return Affected(tuple(found), tuple(unknown))


def _members(store: RunStore, path: Path) -> tuple[str, ...]:
    release = store.read_release(path.parent.name, path.stem)
    return () if release is None else release[1]

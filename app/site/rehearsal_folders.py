"""Where a site's rehearsals lie, and how they go; they hold what belongs to the site's patients."""

import shutil
from pathlib import Path

_FOLDER = "rehearsals"
_SHORT = 16


def rehearsal_folder(state: Path, plan_sha256: str) -> Path:
    """Return where the rehearsal of a plan lies, whether it is there or not."""
    return state / _FOLDER / plan_sha256[:_SHORT]


def forget_rehearsals(state: Path) -> int:
    """Delete every rehearsal of a site, and return how many there were."""
    folder = state / _FOLDER
    found = [path for path in folder.glob("*") if path.is_dir()]
    shutil.rmtree(folder, ignore_errors=True)
    return len(found)

"""What two run folders of one federation have in common."""

import json
from pathlib import Path

from medfl.results.history import History, RoundRecord

_HUB_ONLY_FACTS = {"plan.json", "history.json", "curves.svg", "checkpoint.safetensors"}
"""Files that hold seconds, digests that only a simulation knows, or what a simulation keeps for its sites."""


def files_of(*folders: Path) -> dict[str, bytes]:
    """Return every file below the folders; `cases.csv` is left out, it joins the files in `cases/`."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "cases.csv"
    }


def assert_same_run(found: dict[str, bytes], expected: dict[str, bytes]) -> None:
    """Every file is there; all that do not hold seconds are equal, byte by byte."""
    assert found.keys() == expected.keys()
    different = [name for name in expected.keys() - _HUB_ONLY_FACTS if found[name] != expected[name]]
    assert not different
    assert _rounds(found) == _rounds(expected)
    plans = [json.loads(files["plan.json"]) for files in (found, expected)]
    assert plans[0]["config_sha256"] == plans[1]["config_sha256"]


def _rounds(files: dict[str, bytes]) -> list[RoundRecord]:
    history = History.model_validate_json(files["history.json"])
    return [
        record.model_copy(
            update={
                "seconds": 0.0,
                "sites": tuple(site.model_copy(update={"seconds": 0.0}) for site in record.sites),
            }
        )
        for record in history.rounds
    ]

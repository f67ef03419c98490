import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.hub.init import init_hub
from app.hub.superlink import SuperLink
from tests.app.hub.conftest import NOW


def test_every_run_is_asked_for_however_many_there_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **settings: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        runs = [{"run-id": "7", "status": "running"}, {"run-id": "6", "status": "finished:completed"}]
        return subprocess.CompletedProcess(command, 0, json.dumps({"success": True, "runs": runs}), "")

    settings = init_hub(tmp_path / "hub", name="trial", host="localhost", port=8443, now=NOW)[0]
    monkeypatch.setattr(subprocess, "run", run)
    assert [(one.number, one.is_over) for one in SuperLink(settings).runs()] == [(7, False), (6, True)]
    assert int(asked[0][asked[0].index("--limit") + 1]) >= 1_000_000

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medfl.governance.audit_log import AuditLog

Medfl = Callable[..., Any]


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    log = AuditLog(tmp_path / "audit.jsonl")
    for number in range(30):
        log.append("reply.send", who="medfl", plan_sha256="ab" * 32, run_id="7", round=number, bytes_out=1000)
    log.append("plan.revoke", who="Jo Admin", plan_sha256="cd" * 32, verdict="ok")
    return log


def test_show_ends_with_what_left_and_the_head(medfl: Medfl, log: AuditLog, tmp_path: Path) -> None:
    lines = medfl("log", "show", tmp_path).out.splitlines()
    assert len(lines) == 22
    assert "reply.send" in lines[0]
    assert "round 11" in lines[0]
    assert "by Jo Admin" in lines[-3]
    assert lines[-2:] == ["20 of 31 entries; 30,000 bytes of arrays left in all.", f"head {log.head()}"]


def test_show_as_json_is_one_object(medfl: Medfl, log: AuditLog, tmp_path: Path) -> None:
    facts = json.loads(medfl("log", "show", log.path, "--last", "0", "--plan", "cdcd", "--json").out)
    assert [entry["operation"] for entry in facts["entries"]] == ["plan.revoke"]
    assert facts["head"] == str(log.head())


def test_verify_passes_and_names_the_head(medfl: Medfl, log: AuditLog, tmp_path: Path) -> None:
    head = str(log.head())
    passed = medfl("log", "verify", tmp_path, "--head", head)
    assert (passed.code, f"head {head}" in passed.out) == (0, True)
    assert json.loads(medfl("log", "verify", tmp_path, "--json").out) == {"valid": True, "broken": None, "head": head}


def test_verify_names_the_first_line_that_was_changed(medfl: Medfl, log: AuditLog, tmp_path: Path) -> None:
    head = str(log.head())
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[:4] + lines[5:]))
    found = medfl("log", "verify", tmp_path)
    assert (found.code, "line 5 is not" in found.err) == (1, True)
    log.path.write_bytes(b"".join(lines[:-1]))
    assert medfl("log", "verify", tmp_path).code == 0
    short = medfl("log", "verify", tmp_path, "--head", head, "--json")
    assert short.code == 1
    assert json.loads(short.out)["broken"]["line"] == 31


def test_a_folder_without_a_log_and_a_bad_head_are_named(medfl: Medfl, log: AuditLog, tmp_path: Path) -> None:
    assert medfl("log", "verify", tmp_path, "--head", "yesterday").code == 2
    (tmp_path / "empty").mkdir()
    missing = medfl("log", "show", tmp_path / "empty")
    assert (missing.code, "audit.jsonl" in missing.err) == (3, True)

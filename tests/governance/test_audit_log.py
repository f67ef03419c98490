import json
import stat
import subprocess
import sys
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medfl.errors import AuditLogError
from medfl.governance.audit_log import AuditLog
from medfl.governance.ledger_chain import Head

CLOCK = datetime(2027, 1, 5, 12, 30, 1, tzinfo=UTC)
CANARIES = ("DOE^JANE", "/data/DOE_JANE/ct.nii", "1962-04-01\nDOE", "Jane\x00Doe", "x" * 65)


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path / "audit.jsonl", lambda: CLOCK)


def filled(log: AuditLog, count: int = 4) -> list[bytes]:
    for number in range(count):
        log.append("reply.send", who="medfl", round=number, bytes_out=1000 + number, verdict="sent")
    return log.path.read_bytes().splitlines(keepends=True)


def test_entries_come_back_as_they_were_written(log: AuditLog) -> None:
    assert log.entries() == ()
    assert log.verify() is None
    head = log.append(
        "reply.send",
        who="Jo Admin",
        plan_sha256="ab" * 32,
        run_id="17",
        round=3,
        bytes_out=1200,
        epsilon=0.5,
        verdict="sent",
    )
    (entry,) = log.entries()
    assert entry.model_dump() == {
        "when": "2027-01-05T12:30:01Z",
        "operation": "reply.send",
        "who": "Jo Admin",
        "plan_sha256": "ab" * 32,
        "run_id": "17",
        "round": 3,
        "bytes_out": 1200,
        "epsilon": 0.5,
        "verdict": "sent",
        "reason": "",
        "digest": "",
    }
    assert log.head() == head == Head(1, head.digest)
    assert log.verify() is None
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600


def test_no_guarantee_is_written_as_infinite(log: AuditLog) -> None:
    log.append("reply.send", who="medfl", epsilon=float("inf"))
    assert log.entries()[0].epsilon == "infinite"


@pytest.mark.parametrize("canary", CANARIES)
@pytest.mark.parametrize("field", ["who", "plan_sha256", "run_id", "verdict", "digest", "operation"])
def test_no_field_takes_a_text_about_a_person(log: AuditLog, field: str, canary: str) -> None:
    values = {"operation": "reply.send", "who": "medfl"} | {field: canary}
    operation = values.pop("operation")
    with pytest.raises(AuditLogError, match=field) as caught:
        log.append(operation, **values)  # type: ignore[arg-type]
    assert canary not in str(caught.value)
    assert not log.path.exists()


def test_a_reason_that_is_not_listed_becomes_one_word(log: AuditLog) -> None:
    log.append("reply.refuse", who="medfl", verdict="refused", reason="jane_doe")
    assert log.entries()[0].reason == "unlisted"
    assert b"jane" not in log.path.read_bytes()


def test_each_edit_removal_and_move_is_found(log: AuditLog) -> None:
    lines = filled(log)
    assert log.verify() is None
    for number in range(4):
        edited = [*lines]
        edited[number] = edited[number].replace(b'"bytes_out":100', b'"bytes_out":900')
        log.path.write_bytes(b"".join(edited))
        found = log.verify()
        assert found is not None
        assert found.number == number + 1
    for number in range(3):
        log.path.write_bytes(b"".join(lines[:number] + lines[number + 1 :]))
        found = log.verify()
        assert found is not None
        assert found.number == number + 1
    for order in permutations(range(4)):
        log.path.write_bytes(b"".join(lines[place] for place in order))
        assert (log.verify() is None) == (order == (0, 1, 2, 3))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_every_changed_byte_is_found(log: AuditLog, data: st.DataObject) -> None:
    log.path.unlink(missing_ok=True)
    content = b"".join(filled(log))
    place = data.draw(st.integers(0, len(content) - 2))  # without the last line break nothing is lost
    value = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[place]))
    log.path.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
    assert log.verify() is not None


def test_a_noted_head_finds_what_the_chain_alone_cannot(log: AuditLog, tmp_path: Path) -> None:
    lines = filled(log)
    head = log.head()
    assert log.verify(head) is None
    log.append("site.stop", who="medfl")
    assert log.verify(head) is None
    log.path.write_bytes(b"".join(lines[:-1]))
    assert log.verify() is None
    found = log.verify(head)
    assert found is not None
    assert (found.number, "missing" in found.reason) == (4, True)
    rewritten = AuditLog(tmp_path / "other.jsonl", lambda: CLOCK)
    for _ in range(6):
        rewritten.append("site.start", who="medfl")
    assert rewritten.verify() is None
    found = rewritten.verify(head)
    assert found is not None
    assert found.number == 4


@pytest.mark.parametrize("cut", [1, 2, 40, 200])
def test_an_unfinished_line_is_named_then_marked_by_the_next_entry(log: AuditLog, cut: int) -> None:
    content = b"".join(filled(log))
    log.path.write_bytes(content[:-cut])
    if cut == 1:  # all but the line break is there: nothing was lost
        assert log.verify() is None
        log.append("site.start", who="medfl")
        assert [entry.operation for entry in log.entries()] == ["reply.send"] * 4 + ["site.start"]
    else:
        found = log.verify()
        assert found is not None
        assert (found.number, "unfinished" in found.reason) == (4, True)
        log.append("site.start", who="medfl")
        operations = [entry.operation for entry in log.entries()]
        assert operations == ["reply.send"] * 3 + ["log.recovered", "site.start"]
        changed = log.path.read_bytes().replace(b'"bytes_out":1003', b'"bytes_out":9003')
        assert log.verify() is None
        if changed != log.path.read_bytes():
            log.path.write_bytes(changed)
            assert log.verify() is not None


def test_a_cut_while_recovering_is_recovered_as_well(log: AuditLog) -> None:
    content = b"".join(filled(log))
    log.path.write_bytes(content[:-100])
    log.append("site.start", who="medfl")
    log.path.write_bytes(log.path.read_bytes()[: len(content) + 60])
    assert log.verify() is not None
    log.append("site.start", who="medfl")
    assert log.verify() is None
    assert [entry.operation for entry in log.entries()][-2:] == ["log.recovered", "site.start"]


def test_a_first_line_that_is_unfinished_is_recovered(log: AuditLog) -> None:
    log.path.write_bytes(b'{"digest":"ab')
    log.append("site.start", who="medfl")
    assert log.verify() is None
    assert [entry.operation for entry in log.entries()] == ["log.recovered", "site.start"]


@pytest.mark.parametrize("ending", [b"nonsense\n", b"\n"])
def test_nothing_is_appended_behind_a_last_line_that_was_changed(log: AuditLog, ending: bytes) -> None:
    content = b"".join(filled(log))
    log.path.write_bytes(content + ending)
    with pytest.raises(AuditLogError, match="medfl log verify"):
        log.append("site.start", who="medfl")
    assert log.path.read_bytes() == content + ending
    found = log.verify()
    assert found is not None
    assert (found.number, found.reason) == (5, "it cannot be read")


def test_an_edited_last_line_stops_the_log(log: AuditLog) -> None:
    content = b"".join(filled(log)).replace(b'"bytes_out":1003', b'"bytes_out":9003')
    log.path.write_bytes(content)
    with pytest.raises(AuditLogError, match="as it was written"):
        log.append("site.start", who="medfl")


def test_a_log_that_cannot_be_written_is_a_named_refusal(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(AuditLogError, match="Nothing leaves"):
        AuditLog(tmp_path / "folder").append("site.start", who="medfl")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AuditLogError, match="Nothing leaves"):
        AuditLog(tmp_path / "link").append("site.start", who="medfl")
    with pytest.raises(AuditLogError, match="readable"):
        AuditLog(tmp_path / "folder").entries()


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    program = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from medfl.errors import AuditLogError; from medfl.governance.audit_log import AuditLog\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "log = AuditLog(Path(sys.argv[1])); log.append('site.start', who='medfl')\n"
        "size = log.path.stat().st_size; resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, size + 100))\n"
        "try: log.append('site.stop', who='medfl')\n"
        "except AuditLogError: print(log.path.stat().st_size == size, log.verify())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "audit.jsonl")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "None"]


def test_many_processes_keep_one_chain(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from medfl.governance.audit_log import AuditLog\n"
        "log = AuditLog(Path(sys.argv[1]))\n"
        "for number in range(25): log.append('reply.send', who=f'program {sys.argv[2]}', round=number)\n"
    )
    path = tmp_path / "audit.jsonl"
    running = [subprocess.Popen([sys.executable, "-c", program, str(path), str(number)]) for number in range(4)]
    assert [process.wait(timeout=120) for process in running] == [0, 0, 0, 0]
    log = AuditLog(path)
    assert log.verify() is None
    entries = log.entries()
    assert len(entries) == 100
    for number in range(4):
        assert [entry.round for entry in entries if entry.who == f"program {number}"] == list(range(25))


def test_a_kill_at_any_moment_leaves_a_log_that_goes_on(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from medfl.governance.audit_log import AuditLog\n"
        "log = AuditLog(Path(sys.argv[1]))\n"
        "while True: log.append('reply.send', who='medfl'); print('x', flush=True)\n"
    )
    log = AuditLog(tmp_path / "audit.jsonl")
    for count in (1, 7):
        process = subprocess.Popen([sys.executable, "-c", program, str(log.path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(count):
            process.stdout.readline()
        process.kill()
        process.communicate()
        log.append("site.start", who="medfl")
        assert log.verify() is None
    assert len(log.entries()) >= 10


def test_every_line_is_one_json_object_for_stock_tools(log: AuditLog) -> None:
    for line in filled(log):
        assert set(json.loads(line)) == {"digest", "entry", "previous", "sequence"}

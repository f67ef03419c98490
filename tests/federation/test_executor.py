"""Everything a hub can try, against an executor whose worker would answer anything."""

from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from medfl.federation.frames import Frame, FrameError
from medfl.federation.guard import INTERNAL_ERROR, WORDS
from medfl.federation.packing import PACKED, pack, unpack
from tests.federation.played_site import MODEL, NOW, ORDER, PLAN, FakeTask, Site, a_reply, a_request, saying


@pytest.fixture(autouse=True)
def _identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower makes messages only inside of a task."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_an_approved_message_is_answered_and_written_down(site: Site) -> None:
    reply = site.ask(FakeTask())
    assert not reply.has_error()
    model = unpack(reply.content).array_records["model"]
    assert model["weight"].numpy().tolist() == MODEL["weight"].tolist()
    assert site.last().operation == "reply.send"
    assert site.last().bytes_out > 24
    assert site.last().epsilon == "infinite"
    assert site.log.verify() is None


def test_a_worker_that_was_started_ahead_takes_the_first_message_and_is_no_second_one(site: Site) -> None:
    site.executor.warm()
    assert site.worker.starts == 1
    for _ in range(2):
        assert not site.ask(FakeTask()).has_error()
    assert site.worker.starts == 1
    site.worker.is_running = False
    site.ask(FakeTask(kind="evaluate", records=RecordDict({"order": ConfigRecord({"round": 1, "rounds": 2})})))
    assert site.worker.starts == 2


def test_no_worker_is_started_ahead_where_nothing_is_approved(site: Site) -> None:
    site.approvals.revoke(PLAN.sha256(), "Jo Admin", NOW)
    site.executor.warm()
    assert site.worker.starts == 0


def test_a_packed_message_is_looked_at_like_any_other(site: Site) -> None:
    assert not site.ask(FakeTask(pack(a_request()))).has_error()
    assert site.ask(FakeTask(pack(a_request({"other": MODEL["weight"]})))).has_error()
    assert site.last().reason == "message_array"


def test_a_full_disk_is_one_word_to_the_hub_and_a_reason_in_the_log(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medfl.federation.request_counts.write_text", full)
    reply = site.ask(FakeTask())
    assert reply.error.reason == WORDS[INTERNAL_ERROR]
    assert (site.last().operation, site.last().reason, site.last().bytes_out) == ("reply.error", "disk_full", 0)


_BROKEN = Array(dtype="uint8", shape=(3,), stype="medfl.packed/1", data=b"bad")

_REFUSED: dict[str, tuple[FakeTask, str]] = {
    "a broken packing": (
        FakeTask(RecordDict({PACKED: ArrayRecord({"records": _BROKEN}), "order": ConfigRecord(ORDER)})),
        "unreadable",
    ),
    "another bundle": (FakeTask(bundle="c" * 64), "not_approved"),
    "no bundle": (FakeTask(bundle=""), "not_approved"),
    "another kind of task": (FakeTask(task="flwr-agentapp"), "task_type"),
    "other settings": (FakeTask(run_config={"plan": PLAN.settings + " "}), "settings"),
    "no settings": (FakeTask(run_config={}), "settings"),
    "another key": (FakeTask(run_config={"plan": PLAN.settings, "epochs": 9}), "run_config"),
    "another kind": (FakeTask(kind="query.dump"), "message_kind"),
    "another round": (FakeTask(a_request(order=ORDER | {"round": 3})), "message_round"),
    "round zero": (FakeTask(a_request(order=ORDER | {"round": 0})), "message_round"),
    "a round that is no number": (FakeTask(a_request(order=ORDER | {"round": True})), "message_round"),
    "more rounds": (FakeTask(a_request(order=ORDER | {"rounds": 99})), "message_round"),
    "another option": (FakeTask(a_request(order=ORDER | {"proximal": 0.2})), "message_order"),
    "one option more": (FakeTask(a_request(order=ORDER | {"epochs": 9})), "message_order"),
    "an option of another type": (FakeTask(a_request(order=ORDER | {"proximal": "0.1"})), "message_order"),
    "another split": (
        FakeTask(RecordDict({"order": ConfigRecord({"round": 1, "rounds": 2, "split": "train"})}), kind="evaluate"),
        "message_order",
    ),
    "another shape": (FakeTask(a_request({"weight": np.ones((3, 2), np.float32)})), "message_shape"),
    "another dtype": (FakeTask(a_request({"weight": np.ones((2, 3))})), "message_dtype"),
    "one array more": (FakeTask(a_request(MODEL | {"more": np.ones(1)})), "message_array"),
    "no array": (FakeTask(a_request({})), "message_record"),
    "one record more": (FakeTask(RecordDict({**a_request(), "x": MetricRecord({"a": 1})})), "message_record"),
    "too many bytes": (FakeTask(size=10**9), "message_bytes"),
}


@pytest.mark.parametrize("name", _REFUSED)
def test_whatever_the_plan_does_not_have_is_refused_and_nothing_is_computed(site: Site, name: str) -> None:
    task, reason = _REFUSED[name]
    reply = site.ask(task)
    assert reply.has_error()
    assert reply.error.reason in ("not_approved", "request_refused")
    assert site.worker.asked == []
    assert (site.last().operation, site.last().verdict, site.last().reason) == ("message.refuse", "refused", reason)


def test_a_pickled_array_is_refused_without_being_read(site: Site) -> None:
    bad = Array(dtype="float32", shape=(2, 3), stype="numpy.ndarray", data=b"\x80\x04cposix\nsystem\n.")
    reply = site.ask(FakeTask(RecordDict({"model": ArrayRecord({"weight": bad}), "order": ConfigRecord(ORDER)})))
    assert reply.error.reason == "request_refused"
    assert site.worker.asked == []


@pytest.mark.parametrize("name", ["another bundle", "other settings", "another kind of task"])
def test_a_message_is_not_even_fetched_without_an_approval(site: Site, name: str) -> None:
    task = FakeTask(
        bundle=_REFUSED[name][0].bundle, run_config=_REFUSED[name][0].run_config, task=_REFUSED[name][0].task
    )
    site.ask(task)
    assert not task.fetched


def test_a_revoked_plan_is_refused_at_the_next_message(site: Site) -> None:
    assert not site.ask(FakeTask()).has_error()
    site.approvals.revoke(PLAN.sha256(), "tester", NOW)
    assert site.ask(FakeTask()).error.reason == "not_approved"
    assert site.last().reason == "revoked"


def test_a_plan_revoked_while_it_is_computed_sends_nothing(tmp_path: Path) -> None:
    def revoked(question: Frame) -> Frame:
        site.approvals.revoke(PLAN.sha256(), "tester", NOW)
        return saying()(question)

    site = Site(tmp_path, revoked)
    assert site.ask(FakeTask()).error.reason == "not_approved"
    assert [entry.operation for entry in site.log.entries()].count("reply.send") == 0


def test_a_paused_site_answers_one_word(site: Site) -> None:
    site.paused = True
    assert site.ask(FakeTask()).error.reason == "paused"


def test_a_round_asked_too_often_is_refused(site: Site) -> None:
    assert [site.ask(FakeTask()).has_error() for _ in range(3)] == [False, False, True]
    assert site.last().reason == "message_count"


_REPLIES: dict[str, tuple[RecordDict | bytes, str]] = {
    "one array more": (a_reply(MODEL | {"more": np.ones(1)}), "unknown_array"),
    "another shape": (a_reply({"weight": np.ones((2, 4), np.float32)}), "shape"),
    "another dtype": (a_reply({"weight": np.ones((2, 3))}), "dtype"),
    "too few subjects": (a_reply(subjects=4), "too_few_subjects"),
    "one record more": (RecordDict({**a_reply(), "secret": ConfigRecord({"name": "x"})}), "unknown_record"),
    "no records at all": (b"\xff\xff\xff", "unreadable"),
}


@pytest.mark.parametrize("name", _REPLIES)
def test_whatever_the_approval_does_not_have_does_not_leave(tmp_path: Path, name: str) -> None:
    content, reason = _REPLIES[name]
    site = Site(tmp_path, saying(content))
    reply = site.ask(FakeTask())
    assert reply.error.reason == "forbidden_reply"
    assert (site.last().operation, site.last().reason, site.last().bytes_out) == ("reply.refuse", reason, 0)


def test_the_site_s_own_limit_of_bytes_holds_over_all_replies(tmp_path: Path) -> None:
    site = Site(tmp_path, most_bytes_out=300)
    replies = [site.ask(FakeTask(a_request(order=ORDER | {"round": number}))) for number in (1, 2)]
    assert [reply.has_error() for reply in replies] == [False, True]
    assert site.last().reason == "total_bytes"


@pytest.mark.parametrize("reason", ["worker_died", "worker_timeout", "worker_start"])
def test_a_worker_that_fails_is_one_word(tmp_path: Path, reason: str) -> None:
    def fails(question: Frame) -> Frame:
        raise FrameError(reason, "/data/patients/Mustermann")

    site = Site(tmp_path, fails)
    reply = site.ask(FakeTask())
    assert (reply.error.reason, site.last().reason) == ("worker_failed", reason)
    assert b"Mustermann" not in site.log.path.read_bytes()


def test_an_error_of_the_program_leaves_as_a_word_of_the_list(tmp_path: Path) -> None:
    site = Site(tmp_path, lambda _: Frame({"error": 9001}))
    assert site.ask(FakeTask()).error.reason == "data_error"
    unknown = Site(tmp_path, lambda _: Frame({"error": 12345, "text": "Mustermann"}))
    assert unknown.ask(FakeTask()).error.reason in WORDS.values()


def test_any_other_failure_is_an_internal_error_without_a_text(tmp_path: Path) -> None:
    def fails(question: Frame) -> Frame:
        raise KeyError("Mustermann")

    reply = Site(tmp_path, fails).ask(FakeTask())
    assert (reply.error.code, reply.error.reason) == (INTERNAL_ERROR, "internal_error")


def test_where_the_log_cannot_be_written_nothing_leaves(tmp_path: Path) -> None:
    site = Site(tmp_path)
    (tmp_path / "audit.jsonl").unlink(missing_ok=True)
    (tmp_path / "audit.jsonl").mkdir()
    assert site.ask(FakeTask()).has_error()
    assert site.worker.asked == []


def test_memory_of_a_round_is_what_the_round_before_left(tmp_path: Path) -> None:
    site = Site(tmp_path, lambda question: saying(memory=b"after " + question.parts[1])(question))
    for number in (1, 1, 2):
        site.ask(FakeTask(a_request(order=ORDER | {"round": number})))
    assert [question.parts[1] for question in site.worker.asked] == [b"", b"", b"after "]

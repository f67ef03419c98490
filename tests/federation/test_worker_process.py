"""The executor outlives a worker that dies, hangs, babbles or never starts."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from medfl.federation.frames import Frame, FrameError
from medfl.federation.worker_process import WorkerProcess, WorkerSettings

_CHILD = """
import os, socket, sys, time
from medfl.federation.frames import Frame, receive_frame, send_frame
if os.environ.get("NEVER"):
    sys.exit(3)
link = socket.socket(fileno=int(sys.argv[1]))
start = receive_frame(link, most_bytes=0).head
send_frame(link, Frame({"parent": start["parent"] == os.getppid(), "names": sorted(os.environ)}))
while True:
    asked = receive_frame(link, most_bytes=10_000_000)
    if asked.head["do"] == "die":
        os._exit(9)
    if asked.head["do"] == "hang":
        time.sleep(600)
    if asked.head["do"] == "babble":
        link.sendall(b"nonsense" * 100)
        continue
    if asked.head["do"] == "flood":
        send_frame(link, Frame({}, (bytes(2_000_000),)))
        continue
    send_frame(link, Frame({"number": os.getpid()}, asked.parts))
"""


def _worker(folder: Path, **environment: str) -> WorkerProcess:
    (folder / "child.py").write_text(_CHILD)
    root = str(Path(__file__).parents[2])
    variables = {"PYTHONPATH": f"{folder}:{root}", **environment}
    return WorkerProcess(WorkerSettings("child", variables, {}, 1_000_000, (sys.executable, "-m")))


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[WorkerProcess]:
    made = _worker(tmp_path, LANG="C")
    yield made
    made.stop()


def _ask(worker: WorkerProcess, do: str, seconds: float = 20.0) -> Frame:
    return worker.ask(Frame({"do": do}, (b"data",)), time.monotonic() + seconds)


def test_one_child_answers_all_questions(worker: WorkerProcess) -> None:
    first, second = _ask(worker, "answer"), _ask(worker, "answer")
    assert first.head["number"] == second.head["number"]
    assert first.parts == (b"data",)
    assert worker.facts["parent"] is True


def test_the_child_sees_the_named_variables_only(worker: WorkerProcess) -> None:
    worker.start()
    assert set(worker.facts["names"]) <= {"LANG", "PYTHONPATH", "LC_CTYPE"}


@pytest.mark.parametrize(
    ("do", "reason"), [("die", "worker_died"), ("hang", "worker_timeout"), ("babble", "bytes"), ("flood", "bytes")]
)
def test_a_bad_child_is_ended_and_another_one_takes_over(worker: WorkerProcess, do: str, reason: str) -> None:
    before = _ask(worker, "answer").head["number"]
    with pytest.raises(FrameError) as caught:
        _ask(worker, do, seconds=1.0)
    assert caught.value.reason == reason
    assert not worker.is_running
    assert _ask(worker, "answer").head["number"] != before


def test_a_child_that_does_not_start_is_named(tmp_path: Path) -> None:
    with pytest.raises(FrameError) as caught:
        _worker(tmp_path, NEVER="1").start()
    assert caught.value.reason == "worker_start"


def test_whoever_watches_ends_the_child_in_the_middle_of_its_work(worker: WorkerProcess) -> None:
    worker.start()

    def watch() -> None:
        raise RuntimeError("paused")

    with pytest.raises(RuntimeError, match="paused"):
        worker.ask(Frame({"do": "hang"}), time.monotonic() + 60, watch)
    assert not worker.is_running

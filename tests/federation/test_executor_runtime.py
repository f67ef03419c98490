"""What of a site's access to its SuperNode needs no SuperNode; the rest is tests/end_to_end/test_site_executor.py."""

from importlib import metadata
from pathlib import Path

import pytest

from medfl.errors import ConfigError
from medfl.federation import executor_runtime
from medfl.federation.executor_runtime import FLOWER_VERSION, Runtime, check_flower_version
from medfl.federation.executor_task import TaskLostError


def test_the_installed_flower_is_the_one_it_was_written_for() -> None:
    check_flower_version()
    assert metadata.version("flwr") == FLOWER_VERSION


def test_any_other_flower_is_refused_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(executor_runtime, "version", lambda name: "1.41.1")
    with pytest.raises(ConfigError, match=r"1\.41\.0 exactly, found 1\.41\.1"):
        Runtime("127.0.0.1:1", b"secret", tmp_path / "task.json")


def test_a_supernode_that_is_not_there_is_said_without_the_secret(tmp_path: Path) -> None:
    runtime = Runtime("127.0.0.1:1", b"a-secret-of-the-site", tmp_path / "task.json")
    with pytest.raises(TaskLostError) as found:
        runtime.acquire()
    assert "127.0.0.1:1" in str(found.value)
    assert "a-secret" not in str(found.value)
    assert not (tmp_path / "task.json").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"kind": "x"}', "null"])
def test_a_damaged_note_of_an_unfinished_task_is_no_task(content: str, tmp_path: Path) -> None:
    journal = tmp_path / "task.json"
    journal.write_text(content)
    runtime = Runtime("127.0.0.1:1", b"secret", journal)
    assert runtime.left_over() is None

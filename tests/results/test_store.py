import csv
import json
import math
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from medfl.errors import RunFolderError
from medfl.results.history import History, RoundRecord, SiteRound
from medfl.results.metrics import MetricValue, RunMetrics
from medfl.results.privacy import PrivacyRecord, Release
from medfl.results.store import Checkpoint, RunStore

METRICS = RunMetrics(
    split="test",
    pooled={"dice": MetricValue(value=0.9, ci_low=0.8, ci_high=0.95, n=12, error_bound=0.01, note="per case")},
    sites={"nörd": {"dice": MetricValue(value=None, n=0, note="undefined")}},
    suppressed={"east": "fewer than 5 subjects"},
)
HISTORY = History(
    rounds=(
        RoundRecord(
            number=1,
            seconds=1.5,
            sites=(
                SiteRound(site="a", subjects=3, studies=4, loss=0.25, seconds=0.1, bytes_down=8, bytes_up=8),
                SiteRound(site="b", refused="not_finite", detail="w must hold finite numbers only"),
            ),
            metrics={"dice": MetricValue(value=0.5, n=3)},
        ),
        RoundRecord(number=2, seconds=0.1, skipped="0 good replies, 1 needed", sites=()),
    )
)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "run")


def test_a_new_store_touches_nothing_until_it_writes(store: RunStore) -> None:
    assert not store.is_started()
    assert not store.is_finished()
    assert store.read_checkpoint() is None
    assert not store.folder.exists()


def test_settings_come_back_as_written(store: RunStore) -> None:
    store.write_settings("name: späte\n", {"sha256": "ab", "data": {"a": "b"}})
    assert store.is_started()
    assert store.read_settings() == ("name: späte\n", {"sha256": "ab", "data": {"a": "b"}})


def test_history_metrics_and_privacy_come_back_as_written(store: RunStore) -> None:
    privacy = PrivacyRecord(releases=(Release(site="a", what="weights", subjects=3, times=2),), statement="all of it")
    store.write_history(HISTORY)
    store.write_metrics(METRICS)
    store.write_privacy(privacy)
    assert store.read_history() == HISTORY
    assert store.read_metrics() == METRICS
    assert store.read_privacy() == privacy
    assert store.is_finished()


def test_an_infinite_epsilon_survives_and_is_never_blank_or_zero(store: RunStore) -> None:
    store.write_privacy(PrivacyRecord(releases=(Release(site="a", what="weights", subjects=3, times=2),), statement=""))
    text = (store.folder / "privacy.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["releases"][0]["epsilon"] == "Infinity"
    assert math.isinf(store.read_privacy().releases[0].epsilon)


def test_the_model_comes_back_bit_for_bit_with_shapes_and_types(store: RunStore) -> None:
    arrays = {
        "w": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3).T,  # not contiguous
        "batches": np.array(7, dtype=np.int64),
        "empty": np.zeros((0, 2), dtype=np.float16),
        "flag": np.array([True, False]),
    }
    store.write_model(arrays, "# card\n")
    found = store.read_model()
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert (store.folder / "model_card.md").read_text() == "# card\n"


def test_a_checkpoint_keeps_its_round_and_whole_numbers_without_axes(store: RunStore) -> None:
    store.write_checkpoint(Checkpoint(12, {"model/bn.num_batches_tracked": np.array(5, dtype=np.int64)}))
    found = store.read_checkpoint()
    assert found is not None
    assert found.round == 12
    assert found.arrays["model/bn.num_batches_tracked"].shape == ()
    assert found.arrays["model/bn.num_batches_tracked"].dtype == np.int64
    assert int(found.arrays["model/bn.num_batches_tracked"]) == 5


def test_cases_of_all_sites_stand_in_one_table(store: RunStore) -> None:
    header = ["site", "subject", "note"]
    store.write_cases("b", header, [["b", "s2", 'says "x", twice\nand more']])
    store.write_cases("a", header, [["a", "s1", ""], ["a", "s3", "ü"]])
    store.write_cases("a", header, [["a", "s1", "again"]])
    with (store.folder / "cases.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [header, ["a", "s1", "again"], ["b", "s2", 'says "x", twice\nand more']]


def test_two_processes_that_want_a_run_folder_alone_follow_each_other(store: RunStore) -> None:
    told: list[str] = []

    def second() -> None:
        with RunStore(store.folder).alone():
            told.append("second")

    thread = threading.Thread(target=second)
    with store.alone():
        thread.start()
        thread.join(timeout=0.2)
        told.append("first")
    thread.join()
    assert told == ["first", "second"]


def test_a_release_carries_its_members(store: RunStore) -> None:
    store.write_release("a", "round-0001", {"w": np.ones(2, dtype=np.float32)}, ("s1", "s2"))
    with safe_open(store.released / "a" / "round-0001.safetensors", framework="numpy") as file:
        assert json.loads(file.metadata()["subjects"]) == ["s1", "s2"]
        np.testing.assert_array_equal(file.get_tensor("w"), [1, 1])


@pytest.mark.parametrize("site", ["", "..", "../up", "a/b", "a\\b", ".hidden", "a\0b"])
def test_no_name_of_a_site_leads_out_of_the_run_folder(store: RunStore, site: str) -> None:
    with pytest.raises(RunFolderError):
        store.predictions_of(site)
    with pytest.raises(RunFolderError):
        store.write_release(site, "round-0001", {}, ())
    with pytest.raises(RunFolderError):
        store.write_cases(site, ["a"], [])


READERS: dict[str, Callable[[RunStore], object]] = {
    "plan.json": RunStore.read_settings,
    "config.yaml": RunStore.read_settings,
    "history.json": RunStore.read_history,
    "metrics.json": RunStore.read_metrics,
    "privacy.json": RunStore.read_privacy,
    "model.safetensors": RunStore.read_model,
}


@pytest.fixture
def written(store: RunStore) -> RunStore:
    store.write_settings("name: a\n", {})
    store.write_history(HISTORY)
    store.write_metrics(METRICS)
    store.write_privacy(PrivacyRecord(releases=(), statement=""))
    store.write_model({"w": np.ones(1)}, "")
    return store


@pytest.mark.parametrize("name", READERS)
def test_a_missing_file_is_a_named_error(written: RunStore, name: str) -> None:
    READERS[name](written)
    (written.folder / name).unlink()
    with pytest.raises(RunFolderError, match=name):
        READERS[name](written)


@pytest.mark.parametrize("name", [name for name in READERS if name != "config.yaml"])
@pytest.mark.parametrize("content", [b"\xff\xfe\x00broken", b"", b"[1]", b"{" * 5])
def test_an_unreadable_file_is_a_named_error(written: RunStore, name: str, content: bytes) -> None:
    (written.folder / name).write_bytes(content)
    with pytest.raises(RunFolderError, match=name):
        READERS[name](written)


@pytest.mark.parametrize("name", READERS)
def test_a_folder_in_place_of_a_file_is_a_named_error(written: RunStore, name: str) -> None:
    (written.folder / name).unlink()
    (written.folder / name).mkdir()
    with pytest.raises(RunFolderError, match=name):
        READERS[name](written)


def test_a_broken_checkpoint_is_a_named_error(store: RunStore) -> None:
    store.folder.mkdir()
    (store.folder / "checkpoint.safetensors").write_bytes(b"\x10" * 40)
    with pytest.raises(RunFolderError, match="checkpoint"):
        store.read_checkpoint()


def test_a_checkpoint_without_its_round_is_a_named_error(store: RunStore) -> None:
    store.write_model({"w": np.ones(1)}, "")
    (store.folder / "model.safetensors").rename(store.folder / "checkpoint.safetensors")
    with pytest.raises(RunFolderError, match="round"):
        store.read_checkpoint()

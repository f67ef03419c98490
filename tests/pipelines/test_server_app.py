import errno
import tomllib
from pathlib import Path
from typing import cast

import pytest
from flwr.app import Context, RecordDict
from flwr.serverapp import Grid

from medfl.errors import FederationError
from medfl.results.metrics import RunMetrics
from medfl.results.store import RunStore
from pipelines import server_app
from pipelines.run_config import HubSettings, run_config_toml
from tests.pipelines.conftest import MakeConfig

FULL = OSError(errno.ENOSPC, "No space left on device", "/srv/hub/runs/secret")


def run_with(failure: Exception, make_config: MakeConfig, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **settings: object) -> None:
        raise failure

    monkeypatch.setattr(server_app, "serve", fail)
    values = tomllib.loads(run_config_toml(HubSettings(make_config(), out, sites=2)))
    context = Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config=values)
    with pytest.raises(type(failure)):
        server_app.main(cast("Grid", None), context)


@pytest.mark.parametrize(
    ("failure", "word"),
    [
        (FULL, "The hub's disk must have room"),
        (OSError(errno.EROFS, "Read-only file system", "/srv/hub"), "must be writable; Read-only file system"),
        (FederationError("Every site must answer; none did."), "Every site must answer"),
        (ValueError("pat-0042"), r"unexpected happened (ValueError)"),
    ],
)
def test_a_run_that_ends_early_leaves_its_reason_as_a_sentence(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, word: str
) -> None:
    run_with(failure, make_config, tmp_path, monkeypatch)
    reason = RunStore(tmp_path).read_stopped()
    assert word in reason
    assert "pat-0042" not in reason
    assert "/srv/hub" not in reason


def test_the_reason_that_no_longer_fits_hides_no_error(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = RunStore.write_stopped

    def write(store: RunStore, reason: str) -> None:
        if reason:
            raise FULL
        really(store, reason)

    monkeypatch.setattr(RunStore, "write_stopped", write)
    run_with(FULL, make_config, tmp_path, monkeypatch)
    assert RunStore(tmp_path).read_stopped() == ""


def test_a_run_that_has_finished_asks_nobody_again(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_app, "serve", lambda *args, **settings: pytest.fail("asked again"))
    RunStore(tmp_path).write_metrics(RunMetrics(split="test", pooled={}, sites={}, suppressed={}))
    values = tomllib.loads(run_config_toml(HubSettings(make_config(), tmp_path, sites=2)))
    context = Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config=values)
    server_app.main(cast("Grid", None), context)

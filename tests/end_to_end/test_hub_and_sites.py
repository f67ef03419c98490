"""A hub and three sites over TLS with keys and approved plans; what is killed comes back, and the model is the same."""

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from flwr.app import Message
from flwr.clientapp import ClientApp

from medfl.config.settings import Config
from medfl.data.manifest import Manifest
from medfl.federation.loopback import LoopbackGrid
from medfl.federation.records import TRAIN
from medfl.governance.audit_log import AuditLog
from medfl.results.store import RunStore
from pipelines.client_app import make_client_app
from pipelines.progress import Observer
from pipelines.server_app import serve
from pipelines.simulate import prepare
from pipelines.site_program import PipelineProgram

from .federation import Federation, rounds_of
from .run_folders import assert_same_run, files_of
from .three_sites import ROUNDS, SITES, config_of, plan_of, simulated

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class _WithGaps(LoopbackGrid):
    """Does not deliver what a site missed."""

    gaps: frozenset[tuple[int, str]] = frozenset()

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Deliver all but the gaps."""
        for message in messages:
            site = str(self.nodes[message.metadata.dst_node_id].context.node_config["site"])
            is_training = message.metadata.message_type == TRAIN
            if not is_training or (int(message.metadata.group_id), site) not in self.gaps:
                yield from super().send_and_receive([message], timeout=timeout)


def scripted(config: Config, out: Path, gaps: frozenset[tuple[int, str]]) -> None:
    """Run the same in this process, with replies missing on purpose."""
    threads = torch.get_num_threads()
    store = RunStore(out)
    prepared = prepare(config, store, Observer())

    def app_of(program: PipelineProgram) -> ClientApp:
        return make_client_app(lambda context: program)

    grid = _WithGaps({site: app_of(program) for site, program in prepared.programs.items()}, run_config={})
    grid.gaps = gaps
    with grid.open():
        serve(grid, config, store, sites=len(SITES), pipeline=prepared.pipeline)
    torch.set_num_threads(threads)


def test_a_superlink_and_then_a_hub_killed_in_mid_round_come_to_the_undisturbed_run(
    joined: Federation, patients: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDFL_CACHE", str(tmp_path / "cache"))
    config = config_of(patients, "killed", strategy="scaffold", every=2)
    store = joined.submit(plan_of(config, joined))
    joined.wait_for_round(store, 1)
    joined.kill_program(joined.hub, "superlink")
    joined.wait_for_round(store, 3)
    joined.kill("hub")
    assert len(rounds_of(store)) < ROUNDS
    joined.start_hub()
    joined.wait_for_end(store)
    joined.stop()

    expected = simulated(config, tmp_path / "undisturbed")
    found = files_of(*(run for name in SITES for run in (joined.site(name) / "runs").glob("killed-*")), store.folder)
    wanted = files_of(expected)
    assert found["model.safetensors"] == wanted["model.safetensors"], joined.logs()
    assert_same_run(found, wanted)
    for name in SITES:
        assert AuditLog(joined.site(name) / "audit.jsonl").verify() is None
    assert joined.alive() == []


def test_a_site_that_pauses_and_one_that_is_killed_cost_only_the_replies_they_missed(
    joined: Federation, patients: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDFL_CACHE", str(tmp_path / "cache"))
    config = config_of(patients, "missed", timeout_s=20, rounds=30)
    store = joined.submit(plan_of(config, joined))
    joined.wait_for_round(store, 1)
    joined.medfl("site", "pause", joined.site("site-2"), "--by", "Jo Admin")
    joined.wait_for_round(store, 3)
    joined.medfl("site", "resume", joined.site("site-2"), "--by", "Jo Admin")
    joined.wait_for_round(store, 5)
    joined.kill("site-3")
    joined.wait_for_round(store, 6)
    joined.start_site("site-3")
    joined.wait_for_end(store, timeout_s=500)
    joined.stop()

    missed = frozenset((one.number, site.site) for one in rounds_of(store) for site in one.sites if site.refused)
    assert {site for _, site in missed} == {"site-2", "site-3"}
    assert not missed & {(30, "site-2"), (30, "site-3")}, "a site never came back"
    paused = [site.detail for one in rounds_of(store) for site in one.sites if site.site == "site-2" and site.refused]
    assert paused
    assert all("paused" in detail for detail in paused)
    scripted(config, tmp_path / "scripted", missed)
    assert (store.folder / "model.safetensors").read_bytes() == (
        tmp_path / "scripted" / "model.safetensors"
    ).read_bytes()

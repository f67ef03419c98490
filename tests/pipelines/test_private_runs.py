import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from medfl.config.settings import Config
from medfl.errors import ConfigError, DataError, PrivacyError
from medfl.governance.ledger import Ledger
from medfl.governance.ledger_errors import LedgerExhaustedError
from medfl.governance.ledger_events import Account, Budget, Reserved
from medfl.privacy.composition import ADD_OR_REMOVE, REPLACE
from medfl.results.history import RoundRecord
from medfl.results.privacy import Release
from medfl.results.store import RunStore
from pipelines.canary_check import check_canaries
from pipelines.private_training import PrivateTraining
from pipelines.progress import Observer
from pipelines.simulate import prepare, simulate
from pipelines.training_events import round_event, training_event

MakeConfig = Callable[..., Config]

NORM = "network.norm=instance"
DP_SGD = (NORM, "privacy.kind=dp_sgd", "privacy.epsilon=4", "privacy.delta=1e-3", "privacy.rate=0.25")
QUIET = ("evaluation.every=0", "evaluation.uncertainty_passes=0", "evaluation.save_predictions=false")
SITES = ("site-1", "site-2")
ACCOUNT = Account("tiny", "research")


class Killed(BaseException):
    pass


class Killer(Observer):
    """Ends the run when its second round begins, as a kill would."""

    def round_started(self, number: int) -> None:
        if number == 2:
            raise Killed


class AfterTraining(Observer):
    """Ends the run when every site has answered in the second round, before anything of it is written."""

    def __init__(self) -> None:
        self.replies = 0

    def site_replied(self, number: int, reply: object) -> None:
        self.replies += number == 2
        if self.replies == len(SITES):
            raise Killed


def ledgers(folder: Path, budget: Budget) -> Path:
    folder.mkdir()
    for site in SITES:
        Ledger.create(folder / f"{site}.db").close()
        with Ledger.open(folder / f"{site}.db") as ledger:
            ledger.open_account(ACCOUNT, budget)
    return folder


def spent(folder: Path, site: str = SITES[0]) -> float:
    with Ledger.open(folder / f"{site}.db") as ledger:
        return ledger.spent(ACCOUNT).epsilon


def booked(folder: Path, site: str = SITES[0]) -> list[Reserved]:
    with Ledger.open(folder / f"{site}.db") as ledger:
        return [entry.content for entry in ledger.events() if isinstance(entry.content, Reserved)]


def weights(store: RunStore) -> list[Release]:
    return [release for release in store.read_privacy().releases if "weights" in release.what]


def test_a_private_run_states_its_epsilon_and_books_every_round(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(*DP_SGD, *QUIET, "training.rounds=3")
    run = simulate(config, tmp_path / "run")
    store = RunStore(run.folder)
    for release in weights(store):
        assert 3.8 < release.epsilon <= 4
        assert (release.delta, release.adjacency) == (1e-3, ADD_OR_REMOVE)
        assert "12 steps" in release.note
        assert "replace one subject" in release.note
    assert len(weights(store)) == len(SITES)
    for site in SITES:
        assert [entry.round for entry in booked(store.ledgers, site)] == [1, 2, 3]
        assert 3.8 < spent(store.ledgers, site) <= 4
    card = (run.folder / "model_card.md").read_text()
    assert "epsilon 4 at delta 0.001" in card
    assert "Research use only" in card


def test_losses_and_seconds_of_private_training_are_not_told(make_config: MakeConfig, tmp_path: Path) -> None:
    run = simulate(make_config(*DP_SGD, *QUIET), tmp_path / "run")
    parts = [part for record in RunStore(run.folder).read_history().rounds for part in record.sites]
    assert len(parts) == 4
    assert all(part.loss is None and part.seconds == 0 and not part.refused for part in parts)
    assert not any("loss" in release.what for release in RunStore(run.folder).read_privacy().releases)


def test_measures_and_counts_are_declared_outside_of_the_guarantee(make_config: MakeConfig, tmp_path: Path) -> None:
    record = RunStore(simulate(make_config(*DP_SGD, *QUIET), tmp_path / "run").folder).read_privacy()
    others = [release for release in record.releases if "weights" not in release.what]
    assert others
    assert all(math.isinf(release.epsilon) for release in others)
    assert "outside of the guarantee" in record.statement


def test_the_seed_of_a_run_does_not_repeat_its_noise(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(*DP_SGD, *QUIET)
    first, second = (simulate(config, tmp_path / name).folder / "model.safetensors" for name in "ab")
    assert first.read_bytes() != second.read_bytes()


def test_steps_without_anybody_are_legal(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(*DP_SGD, *QUIET, "privacy.rate=0.0001", "training.local_epochs=1", "training.rounds=1")
    config = config.model_copy(update={"training": config.training.model_copy(update={"local_epochs": 1})})
    programs = prepare(config, None, Observer()).programs
    trainer = PrivateTraining(
        programs["site-1"].pipeline, programs["site-1"].studies["train"], config, torch.device("cpu")
    )
    batch = trainer._batch(trainer._sampler(), (1, 2, 3))
    assert batch.subjects == 0
    assert batch.image.shape[1:] == (1, 16, 16)


def test_what_is_drawn_for_a_study_does_not_depend_on_who_else_was_drawn(make_config: MakeConfig) -> None:
    """Else one subject more would move the gradients of others, and the clip would bound nothing."""
    config = make_config(*DP_SGD, "training.augmentation.noise=1", "preprocessing.size=[32, 32]", "privacy.copies=2")
    program = prepare(config, None, Observer()).programs["site-1"]
    trainer = PrivateTraining(program.pipeline, program.studies["train"], config, torch.device("cpu"))
    alone, _ = trainer._stacked(np.array([3, 3]), (1, 2, 0))
    among, _ = trainer._stacked(np.array([1, 1, 3, 3, 4, 4]), (1, 2, 0))
    later, _ = trainer._stacked(np.array([3, 3]), (1, 2, 1))
    assert torch.equal(alone, among[2:4])
    assert not torch.equal(alone[0], alone[1])  # copies are changed each by itself
    assert not torch.equal(alone, later)


@pytest.mark.parametrize("strategy", ["fedprox", "fedbn", "fedadam", "scaffold"])
def test_private_steps_work_under_every_strategy(make_config: MakeConfig, tmp_path: Path, strategy: str) -> None:
    config = make_config(*DP_SGD, *QUIET, f"federation.strategy.kind={strategy}", "training.rounds=1")
    store = RunStore(simulate(config, tmp_path / "run").folder)
    assert all(np.isfinite(array).all() for array in store.read_model().values())
    assert all(release.epsilon <= 4 for release in weights(store))


@pytest.mark.parametrize("kind", ["dp_updates", "dp_fedavg"])
def test_whole_updates_can_be_noised_at_the_sites_or_by_the_hub(
    make_config: MakeConfig, tmp_path: Path, kind: str
) -> None:
    config = make_config(NORM, *QUIET, f"privacy.kind={kind}", "privacy.epsilon=4", "privacy.delta=1e-3")
    store = RunStore(simulate(config, tmp_path / "run").folder)
    finite = [release for release in store.read_privacy().releases if math.isfinite(release.epsilon)]
    assert [release.site for release in finite] == list(SITES)
    assert all(3.9 < release.epsilon <= 4 and release.adjacency == REPLACE for release in finite)
    assert ("trusted" in finite[0].release_model) == (kind == "dp_fedavg")
    at_the_hub = [release.epsilon for release in weights(store)]
    assert all(math.isinf(value) for value in at_the_hub) == (kind == "dp_fedavg")
    assert store.ledgers.exists() == (kind == "dp_updates")


def test_whole_updates_cost_the_same_whatever_the_adjacency_of_the_account(make_config: MakeConfig) -> None:
    config = make_config(NORM, "privacy.kind=dp_updates", "privacy.epsilon=4", "privacy.delta=1e-3")
    from medfl.privacy.composition import composed_epsilon
    from medfl.privacy.sampled_gaussian import Adjacency

    found = {
        adjacency: composed_epsilon({round_event(config, adjacency): 2}, 1e-3, adjacency.value)
        for adjacency in Adjacency
    }
    assert found[Adjacency.ADD_OR_REMOVE] == pytest.approx(found[Adjacency.REPLACE], rel=1e-3)


def test_a_spent_budget_ends_the_run_and_keeps_the_model_of_the_last_allowed_round(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(*DP_SGD, *QUIET, "training.rounds=4")
    places = ledgers(tmp_path / "ledgers", Budget(5.0, 1e-3, ADD_OR_REMOVE))
    simulate(config, tmp_path / "first", ledgers=places)
    with pytest.raises(LedgerExhaustedError, match="refused round"):
        simulate(config, tmp_path / "second", ledgers=places)
    store = RunStore(tmp_path / "second")
    history = store.read_history()
    allowed = [record for record in history.rounds if not record.skipped]
    assert 1 <= len(allowed) < 4
    assert {part.refused for part in history.rounds[-1].sites} == {"budget_exhausted"}
    assert store.is_finished()
    assert store.read_metrics().pooled
    checkpoint = store.read_checkpoint()
    assert checkpoint is not None
    assert checkpoint.round == len(allowed)
    for name, array in store.read_model().items():
        np.testing.assert_array_equal(array, checkpoint.arrays[f"model/{name}"])
    assert spent(places) <= 5
    assert len(booked(places)) == 4 + len(allowed)
    stated = weights(store)[0]
    assert f"{4 * len(allowed)} steps" in stated.note


def test_more_budget_lets_the_same_run_go_on(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(*DP_SGD, *QUIET, "training.rounds=4")
    places = ledgers(tmp_path / "ledgers", Budget(5.0, 1e-3, ADD_OR_REMOVE))
    simulate(config, tmp_path / "first", ledgers=places)
    with pytest.raises(LedgerExhaustedError):
        simulate(config, tmp_path / "second", ledgers=places)
    for site in SITES:
        with Ledger.open(places / f"{site}.db") as ledger:
            ledger.change_budget(ACCOUNT, Budget(20.0, 1e-3, ADD_OR_REMOVE), note="board decision 4")
    simulate(config, tmp_path / "second", ledgers=places, resume=True)
    assert [record.number for record in RunStore(tmp_path / "second").read_history().rounds] == [1, 2, 3, 4]


def test_a_plan_that_asks_for_more_than_the_ledger_allows_is_refused_before_anything_is_computed(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    places = ledgers(tmp_path / "ledgers", Budget(2.0, 1e-3, ADD_OR_REMOVE))
    with pytest.raises(ConfigError, match="no more than the ledger"):
        simulate(make_config(*DP_SGD), tmp_path / "run", ledgers=places)
    assert not booked(places)
    assert not RunStore(tmp_path / "run").has_history()


def test_a_plan_is_weighed_in_the_terms_of_the_account(make_config: MakeConfig, tmp_path: Path) -> None:
    places = ledgers(tmp_path / "ledgers", Budget(4.0, 1e-3, REPLACE))
    with pytest.raises(ConfigError, match="in those terms"):
        simulate(make_config(*DP_SGD), tmp_path / "run", ledgers=places)


def test_training_without_noise_needs_an_account_without_a_limit(make_config: MakeConfig, tmp_path: Path) -> None:
    limited = ledgers(tmp_path / "limited", Budget(100.0, 1e-3, REPLACE))
    with pytest.raises(ConfigError, match="what has no proof"):
        simulate(make_config(*QUIET), tmp_path / "refused", ledgers=limited)
    assert not booked(limited)
    free = ledgers(tmp_path / "free", Budget(None, 1e-3, REPLACE))
    simulate(make_config(*QUIET), tmp_path / "run", ledgers=free)
    assert math.isinf(spent(free))
    assert len(booked(free)) == 2


def test_a_ledger_without_the_account_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    places = ledgers(tmp_path / "ledgers", Budget(9.0, 1e-3, REPLACE))
    with pytest.raises(ConfigError, match="must have the account 'tiny' for 'marketing'"):
        simulate(make_config(*DP_SGD, "ledger.purpose=marketing"), tmp_path / "run", ledgers=places)


def test_a_round_that_is_computed_again_is_paid_for_again(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(*DP_SGD, *QUIET, "training.rounds=3")
    places = ledgers(tmp_path / "ledgers", Budget(50.0, 1e-3, ADD_OR_REMOVE))
    with pytest.raises(Killed):
        simulate(config, tmp_path / "run", ledgers=places, observer=AfterTraining())
    simulate(config, tmp_path / "run", ledgers=places, resume=True)
    store = RunStore(tmp_path / "run")
    assert [entry.round for entry in booked(places)] == [1, 2, 2, 3]
    assert store.read_history().resumed == 1
    stated = weights(store)[0].epsilon
    assert stated > 4
    assert stated == pytest.approx(spent(places), rel=0.01)


def test_a_run_that_was_interrupted_keeps_to_its_own_budget(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(*DP_SGD, *QUIET, "training.rounds=3")
    with pytest.raises(Killed):
        simulate(config, tmp_path / "run", observer=AfterTraining())
    with pytest.raises(LedgerExhaustedError, match="round 3 of 3"):
        simulate(config, tmp_path / "run", resume=True)
    assert spent(RunStore(tmp_path / "run").ledgers) <= 4
    assert RunStore(tmp_path / "run").is_finished()


def test_a_subject_at_two_sites_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(*DP_SGD)
    prepared = prepare(config, None, Observer())
    first, second = prepared.programs.values()
    second.studies["train"].append(first.studies["train"][0])
    from pipelines.privacy_checks import check_privacy

    with pytest.raises(DataError, match="at one site"):
        check_privacy(config, prepared.programs)


@pytest.mark.parametrize("kind", ["dp_sgd", "dp_updates", "dp_fedavg"])
def test_networks_with_running_statistics_are_refused_by_name(make_config: MakeConfig, kind: str) -> None:
    config = make_config(f"privacy.kind={kind}", "privacy.epsilon=4", "privacy.delta=1e-3", task="classification")
    with pytest.raises(PrivacyError, match=r"BatchNorm2d\) takes statistics of the batch"):
        prepare(config, None, Observer())


@pytest.mark.parametrize("kind", ["dp_sgd", "dp_updates", "dp_fedavg"])
def test_a_delta_too_large_for_the_subjects_is_refused(make_config: MakeConfig, kind: str) -> None:
    config = make_config(NORM, f"privacy.kind={kind}", "privacy.epsilon=4", "privacy.delta=0.01")
    with pytest.raises(ConfigError, match="delta must be above 0 and at most"):
        prepare(config, None, Observer())


def test_before_the_end_the_stated_epsilon_is_that_of_all_planned_rounds(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(*DP_SGD, *QUIET, "training.rounds=3")
    with pytest.raises(Killed):
        simulate(config, tmp_path / "run", observer=Killer())
    (release, _) = weights(RunStore(tmp_path / "run"))
    assert release.epsilon == training_event(config, subjects=10, rounds=3).epsilon
    assert release.times == 1


def test_no_round_claims_nothing(make_config: MakeConfig) -> None:
    config = make_config(*DP_SGD)
    assert math.isinf(training_event(config, subjects=10, rounds=0).epsilon)
    assert training_event(config, subjects=10, rounds=1).epsilon < training_event(config, subjects=10, rounds=2).epsilon


def test_a_skipped_round_is_recorded_with_its_reason(make_config: MakeConfig, tmp_path: Path) -> None:
    places = ledgers(tmp_path / "ledgers", Budget(4.0, 1e-3, ADD_OR_REMOVE))
    config = make_config(*DP_SGD, *QUIET)
    with Ledger.open(places / "site-2.db") as ledger:
        ledger.change_budget(ACCOUNT, Budget(40.0, 1e-3, ADD_OR_REMOVE), note="board decision 5")
    simulate(config, tmp_path / "first", ledgers=places)
    simulate(config, tmp_path / "second", ledgers=places)  # one site goes on alone
    rounds: tuple[RoundRecord, ...] = RunStore(tmp_path / "second").read_history().rounds
    assert [[part.refused for part in record.sites] for record in rounds] == [["budget_exhausted", ""]] * 2
    assert "budget_exhausted" in rounds[0].sites[0].detail
    assert [release.site for release in weights(RunStore(tmp_path / "second"))] == ["site-2"]


def test_canaries_are_checked_against_the_claim_and_reported(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(*DP_SGD, *QUIET, "privacy.canaries=300", "training.rounds=3")
    run = simulate(config, tmp_path / "run")
    checks = check_canaries(config, RunStore(run.folder), SITES)
    assert [check.site for check in checks] == list(SITES)
    for check in checks:
        assert (check.canaries, check.steps) == (300, 12)
        assert 3.8 < check.claimed <= 4
        assert 0 <= check.lower_bound <= check.ceiling
        assert not check.flagged
    first, second = (RunStore(run.folder).read_canaries(site) for site in SITES)
    assert first is not None
    assert second is not None
    assert not np.array_equal(first["included"], second["included"])


def test_noise_that_is_missing_is_flagged_by_the_canaries_of_a_run(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent:
        def __init__(self, source: object) -> None:
            del source

        def normals(self, count: int) -> NDArray[np.float64]:
            return np.full(count, 1e-3)

    monkeypatch.setattr("pipelines.private_training.NoiseReserve", Silent)
    config = make_config(*DP_SGD, *QUIET, "privacy.canaries=300", "training.rounds=2")
    run = simulate(config, tmp_path / "run")
    checks = check_canaries(config, RunStore(run.folder), SITES)
    assert all(check.flagged and "flagged" in check.words for check in checks)


def test_a_resumed_run_keeps_its_canaries(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(*DP_SGD, *QUIET, "privacy.canaries=50", "training.rounds=2")
    with pytest.raises(Killed):
        simulate(config, tmp_path / "run", observer=Killer())
    simulate(config, tmp_path / "run", resume=True)
    arrays = RunStore(tmp_path / "run").read_canaries("site-1")
    assert arrays is not None
    assert int(arrays["steps"]) == 8


def test_a_run_leaves_what_the_ledgers_say_at_its_end(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(*DP_SGD, *QUIET)
    places = ledgers(tmp_path / "ledgers", Budget(9.0, 1e-3, ADD_OR_REMOVE))
    for name in "ab":
        simulate(config, tmp_path / name, ledgers=places)
    first, second = (RunStore(tmp_path / name).read_balances()[0] for name in "ab")
    assert (first.site, first.data_set, first.purpose, first.limit, first.entries) == (
        SITES[0],
        "tiny",
        "research",
        9,
        2,
    )
    assert second.entries == 4
    assert first.spent < second.spent == spent(places)
    assert not RunStore(simulate(make_config(*QUIET), tmp_path / "c").folder).read_balances()

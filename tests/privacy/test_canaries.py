import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from medfl.attacks.one_run_audit import ClaimTest, one_run_bound, one_run_claim_test, one_run_gaussian_bound
from medfl.attacks.privacy_audit import gaussian_bound, verdict
from medfl.errors import ConfigError, PrivacyError, ShapeError
from medfl.networks.heads import vector_head
from medfl.privacy.canaries import LENGTH, CanaryOutcome, GradientCanaries, of_all_rounds
from medfl.privacy.dp_sgd import PrivateStep, clip_and_sum, private_gradients
from medfl.privacy.gaussian import NoiseSource, SeededNoise
from medfl.privacy.keystream import Keystream
from medfl.privacy.privacy_curve import privacy_curve
from medfl.privacy.sampled_gaussian import Adjacency, SampledGaussian, epsilon_of
from medfl.privacy.subject_gradients import SubjectBatch, SubjectGradients, trainable
from medfl.privacy.subject_sampling import PoissonSubjects
from medfl.training.losses import classification_loss

DELTA, SUBJECTS, FEATURES, CANARIES = 1e-5, 200, 255, 500
PLAN = SampledGaussian(noise_multiplier=1.0, rate=0.05, steps=100)
"""What the account claims; every self-test below breaks one thing about it."""


class Silence:
    def normals(self, count: int, /) -> NDArray[np.float64]:
        return np.zeros(count)


def stream(number: int, seed: int) -> Keystream:
    return Keystream(bytes([number, seed]) + bytes(30))


def canaries(
    count: int = 40, sizes: tuple[int, ...] = (60, 4), clip: float = 1.0, rate: float = 1.0, seed: int = 0
) -> GradientCanaries:
    return GradientCanaries(count, sizes, clip=clip, rate=rate, coins=stream(1, seed), source=stream(2, seed))


def clipped(gradients: SubjectGradients) -> Tensor:
    return clip_and_sum(gradients, 1.0)


def unclipped(gradients: SubjectGradients) -> Tensor:
    return clip_and_sum(gradients, math.inf)


def clipped_by_layer(gradients: SubjectGradients) -> Tensor:
    return torch.cat([clip_and_sum([one], 1.0) for one in gradients])


@dataclass(frozen=True)
class Broken:
    """What a run does other than it claims."""

    noise_multiplier: float = PLAN.noise_multiplier
    clip: float = 1.0
    rate: float = PLAN.rate
    silent: bool = False


def run(broken: Broken, seed: int) -> CanaryOutcome:
    """Train a head on subjects with signal, canaries among them."""
    generator = torch.Generator().manual_seed(seed)
    image = 0.3 * torch.randn(SUBJECTS, FEATURES, generator=generator)
    target = (image[:, 0] > 0).long()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = vector_head(features=FEATURES, classes=2, dropout=0.0, hidden=0).train()
    subjects = PoissonSubjects([[subject] for subject in range(SUBJECTS)], broken.rate, source=stream(3, seed))
    sizes = [parameter.numel() for parameter in trainable(head)]
    among = GradientCanaries(CANARIES, sizes, clip=1.0, rate=broken.rate, coins=stream(1, seed), source=stream(2, seed))
    step = PrivateStep(broken.clip, broken.noise_multiplier / broken.clip, PLAN.rate * SUBJECTS)
    source: NoiseSource = Silence() if broken.silent else SeededNoise(seed)
    for _ in range(PLAN.steps):
        drawn = subjects.draw()
        studies = torch.from_numpy(drawn.studies)
        batch = SubjectBatch(image[studies], target[studies], torch.from_numpy(drawn.owner))
        private_gradients(
            head, classification_loss(), batch, step=step, source=source, method="outer products", canaries=among
        )
        with torch.no_grad():
            for parameter in trainable(head):
                assert parameter.grad is not None
                parameter -= 0.5 * parameter.grad
    return among.outcome()


def claim(outcome: CanaryOutcome) -> ClaimTest:
    epsilons = np.linspace(0.0, 6.0, 61)
    deltas = privacy_curve([PLAN], epsilons)
    return one_run_claim_test(outcome.scores, outcome.included, epsilons=epsilons, deltas=deltas, cut=0.0)


@pytest.mark.parametrize("seed", range(3))
def test_a_correct_run_is_not_flagged(seed: int) -> None:
    outcome = run(Broken(), seed)
    claimed = epsilon_of([PLAN], DELTA, Adjacency.ADD_OR_REMOVE)
    plain = one_run_bound(outcome.scores, outcome.included, delta=DELTA, cut=0.0)
    assert 0 < plain.epsilon < claimed  # the audit hears its canaries
    for bound in (
        plain,
        one_run_gaussian_bound(outcome.scores, outcome.included, delta=DELTA, cut=0.0),
        gaussian_bound(outcome.scores, outcome.included, delta=DELTA),
    ):
        assert verdict(bound, claimed).within_reach
        assert not verdict(bound, claimed).flagged
    assert claim(outcome).within_reach
    assert not claim(outcome).flagged


@pytest.mark.parametrize(
    "broken",
    [Broken(noise_multiplier=0.05), Broken(silent=True), Broken(clip=10.0), Broken(rate=1.0)],
    ids=["a twentieth of the noise", "no noise", "ten times the clip", "everyone in every step"],
)
def test_a_broken_run_is_flagged_without_any_assumption(broken: Broken) -> None:
    outcome = run(broken, 3)
    claimed = epsilon_of([PLAN], DELTA, Adjacency.ADD_OR_REMOVE)
    assert verdict(one_run_bound(outcome.scores, outcome.included, delta=DELTA, cut=0.0), claimed).flagged
    assert verdict(gaussian_bound(outcome.scores, outcome.included, delta=DELTA), claimed).flagged
    assert claim(outcome).flagged


def test_half_the_noise_is_flagged_by_the_whole_curve() -> None:
    assert claim(run(Broken(noise_multiplier=0.5), 0)).flagged


@pytest.mark.parametrize("sum_of", [unclipped, clipped_by_layer], ids=["no clip", "a clip for each layer"])
def test_a_clip_that_does_not_hold_is_seen_by_the_canaries(sum_of: Callable[[SubjectGradients], Tensor]) -> None:
    """Noise of 1 per coordinate, as an account with clip 1 and noise multiplier 1 presumes."""
    outcomes = []
    for summed in (clipped, sum_of):
        among = canaries(count=300, sizes=(128,) * 4, rate=0.05)
        noise = SeededNoise(0)
        for _ in range(100):
            among.observe(among.contribution(summed) + torch.from_numpy(noise.normals(512)))
        outcomes.append(claim(among.outcome()))
    assert [one.flagged for one in outcomes] == [False, True]


def test_pure_noise_gives_a_lower_bound_of_nothing() -> None:
    for seed in range(8):
        among, noise = canaries(count=300, sizes=(512,), rate=0.05, seed=seed), SeededNoise(seed)
        for _ in range(50):
            among.contribution(clipped)
            among.observe(torch.from_numpy(noise.normals(512)))
        outcome = among.outcome()
        assert one_run_bound(outcome.scores, outcome.included, delta=DELTA, cut=0.0).epsilon < 0.2
        assert gaussian_bound(outcome.scores, outcome.included, delta=DELTA).epsilon == 0
        assert not claim(outcome).flagged


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 60), st.lists(st.integers(1, 40), min_size=1, max_size=4), st.floats(1e-3, 1e3))
def test_each_canary_adds_the_clip_in_a_direction_of_its_own(count: int, sizes: list[int], clip: float) -> None:
    count = min(count, sum(sizes))
    among = canaries(count, tuple(sizes), clip=clip)
    seen: list[Tensor] = []

    def keep(gradients: SubjectGradients) -> Tensor:
        seen.append(torch.cat([one.dense() for one in gradients], dim=1))
        return clip_and_sum(gradients, clip)

    total = among.contribution(keep)
    included = int(among.outcome().included.sum())
    assert total.shape == (sum(sizes),)
    assert total.dtype == torch.float64
    assert float(total.norm()) == pytest.approx(clip * math.sqrt(included), rel=1e-4)
    if included:
        gradients = torch.cat(seen) / (LENGTH * clip)
        torch.testing.assert_close(gradients @ gradients.T, torch.eye(included, dtype=torch.float64))


def test_directions_are_new_at_every_step_and_coins_stay() -> None:
    among = canaries()
    first = among.contribution(clipped)
    among.observe(first)
    before = among.outcome().included
    second = among.contribution(clipped)
    assert abs(float(first @ second)) < 0.7 * float(first @ first)
    np.testing.assert_array_equal(among.outcome().included, before)
    assert among.outcome().steps == 1


def test_whatever_the_real_subjects_add_scores_of_the_others_stay_around_their_mean() -> None:
    """A gradient that points one way in all steps would shift scores as a canary does, if directions stayed."""
    scores = []
    for strength in (0.0, 20.0):
        among = canaries(count=400, sizes=(512,), rate=0.2)
        noise, steady = SeededNoise(1), torch.full((512,), strength / math.sqrt(512), dtype=torch.float64)
        for _ in range(60):
            among.observe(among.contribution(clipped) + steady + torch.from_numpy(noise.normals(512)))
        outcome = among.outcome()
        scores.append([outcome.scores[outcome.included], outcome.scores[~outcome.included]])
    for inside, outside in scores:
        assert stats.ttest_ind(inside, outside, alternative="greater").pvalue < 1e-6
        assert float(np.mean(outside)) < 0


def test_scores_are_log_likelihood_ratios() -> None:
    """With all subjects in every step a score is N(-T mu^2/2, T mu^2) or N(T mu^2/2, T mu^2), mu = 1 / sigma."""
    sigma, steps = 5.0, 30
    among, noise = canaries(count=2000, sizes=(4000,)), SeededNoise(3)
    for _ in range(steps):
        among.observe(among.contribution(clipped) + sigma * torch.from_numpy(noise.normals(4000)))
    outcome = among.outcome()
    spread = steps / sigma**2
    for who, mean in ((outcome.included, spread / 2), (~outcome.included, -spread / 2)):
        assert float(outcome.scores[who].mean()) == pytest.approx(mean, abs=0.12)
        assert float(outcome.scores[who].var()) == pytest.approx(spread, rel=0.15)
    certain = 1 / (1 + np.exp(-outcome.scores))
    assert float(certain.mean()) == pytest.approx(outcome.included.mean(), abs=0.03)


def test_coins_are_fair_and_rates_are_kept() -> None:
    flags = np.concatenate([canaries(count=64, seed=seed).outcome().included for seed in range(60)])
    assert stats.binomtest(int(flags.sum()), len(flags), 0.5).pvalue > 0.001
    among, drawn = canaries(count=64, rate=0.1), 0.0
    for _ in range(300):
        total = among.contribution(clipped)
        drawn += float(total @ total)
        among.observe(total)
    expected = 300 * int(among.outcome().included.sum())
    assert stats.binomtest(round(drawn), expected, 0.1).pvalue > 0.001


def test_nobody_drawn_is_legal() -> None:
    among = canaries(count=1, rate=1e-9)
    assert not among.contribution(clipped).any()
    among.observe(torch.zeros(64))
    assert np.isfinite(among.outcome().scores).all()


def test_many_canaries_of_a_large_network_are_summed_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = canaries().contribution(clipped)
    monkeypatch.setattr("medfl.privacy.canaries._VALUES_AT_ONCE", 150)
    torch.testing.assert_close(canaries().contribution(clipped), whole)


def test_rounds_of_one_run_add_up() -> None:
    rounds = []
    for number in range(2):
        among = GradientCanaries(40, (64,), clip=1.0, rate=0.5, coins=stream(1, 0), source=stream(2, number))
        among.observe(among.contribution(clipped))
        rounds.append(among.outcome())
    whole = of_all_rounds(rounds)
    np.testing.assert_allclose(whole.scores, rounds[0].scores + rounds[1].scores)
    assert whole.steps == 2
    for mixed in ([], [rounds[0], canaries(count=40, seed=5).outcome()], [rounds[0], canaries(count=39).outcome()]):
        with pytest.raises(ShapeError, match="same canaries"):
            of_all_rounds(mixed)


def test_a_step_is_drawn_and_observed_in_turn() -> None:
    among = canaries()
    with pytest.raises(PrivacyError, match="observed once"):
        among.observe(torch.zeros(64))
    total = among.contribution(clipped)
    with pytest.raises(PrivacyError, match="before those of the next"):
        among.contribution(clipped)
    for wrong in (torch.zeros(63), torch.full((64,), torch.nan)):
        with pytest.raises(ShapeError, match="64 finite values"):
            among.observe(wrong)
    among.observe(total)
    assert among.outcome().steps == 1


def test_numbers_out_of_range_are_refused() -> None:
    for count, sizes in ((0, (64,)), (65, (64,)), (1, ()), (1, (64, 0))):
        with pytest.raises(ConfigError, match="direction each"):
            canaries(count, sizes)
    for clip in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ConfigError, match="clip"):
            canaries(clip=clip)
    for rate in (0.0, 1.5):
        with pytest.raises(ConfigError, match="rate"):
            canaries(rate=rate)

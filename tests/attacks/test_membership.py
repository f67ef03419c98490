from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medfl.attacks.membership import blind_auc, evaluate_membership
from medfl.attacks.membership_signals import MembershipSignals, by_subject, rmia_scores
from medfl.errors import ConfigError, ShapeError, TooFewSubjectsError
from medfl.results.attack import AttackResult

PROBABILITIES = st.floats(0.01, 1.0)


def probabilities(images: torch.Tensor, labels: torch.Tensor, learned: torch.Tensor | None, seed: int) -> np.ndarray:
    """Probability of the true answer under a small network that learned the images marked."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(images.shape[1], 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(0 if learned is None else 60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images[learned]), labels[learned]).backward()
        optimizer.step()
    with torch.no_grad():
        return model(images).softmax(1)[torch.arange(len(labels)), labels].numpy()


def trained(*, people: int = 60, visits: int = 3, seed: int = 0, strangers: bool = False) -> MembershipSignals:
    """One network that learned random labels of half the people, or of strangers, and four reference networks."""
    generator = np.random.default_rng(seed)
    subjects = np.repeat(np.arange(people), visits)
    member = generator.permutation(people) < people // 2
    saw = np.array([generator.permutation(people) < people // 2 for _ in range(3)])
    saw = np.concatenate([saw, ~saw[:1]])  # the first and the last one leave nobody without a reference
    images = torch.from_numpy(generator.normal(size=(2 * len(subjects), 20)).astype(np.float32))
    labels = torch.from_numpy(generator.integers(0, 2, 2 * len(subjects)))
    tested = torch.arange(len(labels)) < len(subjects)
    learned = [~tested] * 5
    if not strangers:
        learned = [tested & torch.from_numpy(np.tile(one[subjects], 2)) for one in (member, *saw)]
    signals = [probabilities(images, labels, one, number)[: len(subjects)] for number, one in enumerate(learned)]
    seen = np.zeros_like(saw) if strangers else saw
    return MembershipSignals(signals[0], np.array(signals[1:]), seen[:, subjects], subjects, member[subjects])


def simulated(
    *, people: int = 400, visits: int = 3, gain: float = 0.3, noise: float = 0.5, difficulty: float = 1.0, seed: int = 0
) -> MembershipSignals:
    """Losses with a difficulty of each subject that all models share, and a gain for members."""
    generator = np.random.default_rng(seed)
    subjects = np.repeat(np.arange(people), visits)
    member = (np.arange(people) % 2 == 0)[subjects]
    hard = (difficulty * generator.normal(size=people))[subjects]
    logits = hard + noise * generator.normal(size=(5, len(subjects)))
    logits[0] += gain * member
    signals = 1 / (1 + np.exp(-logits))
    return MembershipSignals(signals[0], signals[1:], np.zeros((4, len(subjects)), bool), subjects, member)


def attacked(signals: MembershipSignals, *, draws: int = 100, **options: float) -> tuple[AttackResult, ...]:
    return evaluate_membership(signals, seed=1, draws=draws, **options)


def values(signals: MembershipSignals, **options: float) -> np.ndarray:
    return np.array([row.value for row in attacked(signals, draws=1, **options)])


@given(st.lists(st.tuples(PROBABILITIES, PROBABILITIES, PROBABILITIES), min_size=2, max_size=8), st.floats(0, 1))
def test_rmia_is_the_share_of_the_population_with_a_smaller_ratio(
    rows: list[tuple[float, float, float]], offline_a: float
) -> None:
    target, *references = np.array(rows).T
    found = rmia_scores(
        target[:1], np.array(references)[:, :1], target[1:], np.array(references)[:, 1:], offline_a=offline_a
    )
    expected = ((1 + offline_a) * np.mean(references, axis=0) + 1 - offline_a) / 2
    ratios = target / expected
    beaten = [ratios[0] > one for one in ratios[1:] if abs(ratios[0] - one) > 1e-12]
    ties = len(ratios) - 1 - len(beaten)
    assert sum(beaten) <= found[0] * (len(ratios) - 1) + 1e-9
    assert found[0] * (len(ratios) - 1) <= sum(beaten) + ties + 1e-9


def test_a_larger_gamma_asks_for_a_larger_lead() -> None:
    population = np.array([0.1, 0.2, 0.4]), np.ones((1, 3))
    found = [rmia_scores([0.4], [[1.0]], *population, gamma=gamma)[0] for gamma in (0.5, 1.0, 3.0, 5.0)]
    assert found == pytest.approx([1, 2 / 3, 1 / 3, 0])


@given(st.lists(st.tuples(st.integers(0, 3), PROBABILITIES), min_size=1, max_size=12))
def test_pooling_is_the_geometric_mean_of_each_subject_in_any_order(studies: list[tuple[int, float]]) -> None:
    subjects, signals = np.array([s for s, _ in studies]), np.array([p for _, p in studies])
    expected = [np.exp(np.log(signals[subjects == one]).mean()) for one in np.unique(subjects)]
    assert by_subject(signals, subjects) == pytest.approx(expected)
    assert by_subject(np.stack([signals, signals])[:, ::-1], subjects[::-1])[1] == pytest.approx(expected)


def test_members_of_an_overfitted_network_are_found() -> None:
    loss, rmia = attacked(trained())
    assert [loss.name, rmia.name] == ["loss threshold", "RMIA"]
    assert min(loss.value, rmia.value) >= 0.9
    assert (rmia.subjects, rmia.positives, rmia.negatives) == (60, 30, 30)
    assert (loss.attacker_subjects, rmia.attacker_subjects) == (0, 60)


def test_networks_that_saw_nobody_give_intervals_with_one_half() -> None:
    signals = trained(people=80, strangers=True)
    generator = np.random.default_rng(5)
    missed = np.zeros(2)
    for _ in range(20):
        member = generator.permutation(80) < 40
        rows = attacked(replace(signals, is_member=member[np.asarray(signals.subjects)]), draws=200)
        missed += [not row.ci_low <= 0.5 <= row.ci_high for row in rows]
        assert all(row.ci_high - row.ci_low < 0.35 for row in rows)
    assert missed.max() <= 2


def test_rmia_beats_the_loss_where_subjects_differ_in_difficulty() -> None:
    found = np.array([values(simulated(difficulty=1.5, seed=seed)) for seed in range(5)])
    assert (found[:, 1] > found[:, 0]).all()
    assert found[:, 1].mean() > found[:, 0].mean() + 0.05


def test_pooling_the_studies_of_a_subject_beats_single_studies() -> None:
    runs = [simulated(visits=6, gain=0.6, seed=seed) for seed in range(4)]
    singles = [replace(one, subjects=np.arange(len(np.asarray(one.subjects)))) for one in runs]
    gains = np.mean([values(one) - values(single) for one, single in zip(runs, singles, strict=True)], axis=0)
    assert gains[0] > 0.01
    assert gains[1] > 0.05


def test_more_studies_of_the_same_subjects_do_not_narrow_the_interval() -> None:
    signals = simulated(people=60, visits=1)
    copies = MembershipSignals(
        *(np.repeat(getattr(signals, name), 10, axis=-1) for name in ("target", "references", "seen")),
        np.repeat(signals.subjects, 10),
        np.repeat(signals.is_member, 10),
    )
    for one, other in zip(attacked(signals), attacked(copies), strict=True):
        assert (one.value, one.ci_low, one.ci_high) == (other.value, other.ci_low, other.ci_high)


@given(st.floats(0.01, 1.0), st.floats(0.01, 1.0), st.integers(0, 100))
def test_equal_signals_give_exactly_one_half(target: float, reference: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    subjects = np.concatenate([np.arange(6), generator.integers(0, 6, 12)])
    seen = np.concatenate([np.zeros((1, 6), bool), generator.random((2, 6)) < 0.5])[:, subjects]
    signals = MembershipSignals(np.full(18, target), np.full((3, 18), reference), seen, subjects, subjects < 3)
    for row in attacked(signals, draws=5):
        assert row.value == row.ci_low == row.ci_high == 0.5


def test_a_reference_that_saw_a_subject_says_nothing_about_it() -> None:
    signals = simulated(people=40)
    seen = np.zeros((4, 120), bool)
    seen[2, ::3] = True  # one study of each subject is enough
    told = np.array(signals.references)
    told[2] = 0.5
    assert values(replace(signals, seen=seen))[1] == values(replace(signals, seen=seen, references=told))[1]
    assert values(signals)[1] != values(replace(signals, references=told))[1]


def test_a_subject_that_every_reference_saw_is_refused() -> None:
    signals = simulated(people=10)
    seen = np.zeros((4, 30), bool)
    seen[:, 3] = True
    with pytest.raises(ConfigError, match="1 have none"):
        attacked(replace(signals, seen=seen))


def test_the_rate_at_few_false_alarms_needs_enough_non_members() -> None:
    few = attacked(simulated(people=100))[1].further[0]
    assert few.value is None
    assert "3000" in few.note
    many = attacked(simulated(people=6000, visits=1, gain=2.0), draws=20)[1].further[0]
    assert many.value is not None
    assert many.ci_low is not None
    assert many.ci_high is not None
    assert many.chance == 0.01 < many.ci_low <= many.value <= many.ci_high
    chance = attacked(simulated(people=6000, visits=1, gain=0.0), draws=20)[1].further[0]
    assert chance.value == pytest.approx(0.01, abs=0.006)


def test_equal_seeds_give_equal_results() -> None:
    signals = simulated(people=40)
    first, second, other = (evaluate_membership(signals, seed=seed, draws=50)[1] for seed in (1, 1, 2))
    assert (first.ci_low, first.ci_high) == (second.ci_low, second.ci_high) != (other.ci_low, other.ci_high)


@pytest.mark.parametrize("bad", [np.nan, 0.0, -0.1, 1.1, np.inf])
@pytest.mark.parametrize("name", ["target", "references"])
def test_a_signal_outside_its_range_is_refused(bad: float, name: str) -> None:
    signals = simulated(people=10)
    broken = np.array(getattr(signals, name))
    broken[..., 4] = bad
    with pytest.raises(ShapeError, match=r"\(0, 1\]"):
        attacked(replace(signals, **{name: broken}))


@pytest.mark.parametrize(
    "change",
    [
        {"target": np.full(29, 0.5)},
        {"references": np.full((4, 29), 0.5)},
        {"seen": np.zeros((3, 30), bool)},
        {"seen": np.zeros((4, 30), int)},
        {"subjects": np.arange(29)},
        {"is_member": np.zeros(29, bool)},
        {"is_member": np.arange(30) % 2},
    ],
    ids=str,
)
def test_arrays_that_do_not_fit_are_refused(change: dict[str, np.ndarray]) -> None:
    with pytest.raises(ShapeError):
        attacked(replace(simulated(people=10), **change))


def test_settings_out_of_range_are_refused() -> None:
    signals = simulated(people=10)
    for broken in (
        lambda: attacked(signals, draws=0),
        lambda: attacked(signals, offline_a=1.5),
        lambda: attacked(replace(signals, references=np.empty((0, 30)), seen=np.empty((0, 30), bool))),
        lambda: attacked(replace(signals, is_member=np.arange(30) < 16)),
        lambda: rmia_scores([0.5], [[0.5]], [0.5], [[0.5]], gamma=0.0),
    ):
        with pytest.raises(ConfigError):
            broken()


@pytest.mark.parametrize("members", [0, 1, 9, 10])
def test_fewer_than_two_on_a_side_are_refused(members: int) -> None:
    signals = simulated(people=10)
    subjects = np.asarray(signals.subjects)
    with pytest.raises(TooFewSubjectsError, match="two members and two non-members"):
        attacked(replace(signals, is_member=subjects < members))
    with pytest.raises(TooFewSubjectsError):
        blind_auc(np.zeros((30, 2)), subjects < members, subjects, 0)


def metadata(people: int, shift: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    subjects = np.repeat(np.arange(people), 2)
    member = subjects % 2 == 0
    features = generator.normal(size=(people, 3))[subjects] * [1, 10, 0.1] + [0, 50, 0]
    features[:, 1] += 10 * shift * member
    return np.column_stack([features, np.ones(len(features))]), member, subjects


def test_a_difference_without_the_model_is_seen_by_the_blind_baseline() -> None:
    controls = [blind_auc(*metadata(200, 2.0, seed), seed, draws=200) for seed in range(6)]
    assert all(one.kind == "confounder" and one.passed is False for one in controls)
    assert np.mean([one.value for one in controls]) == pytest.approx(0.92, abs=0.03)  # Phi(2 / sqrt(2))


def test_the_blind_baseline_finds_nothing_where_nothing_differs() -> None:
    found = [blind_auc(*metadata(80, 0.0, seed), seed, draws=200) for seed in range(20)]
    assert sum(not one.passed for one in found) <= 2
    assert np.mean([one.value for one in found]) == pytest.approx(0.5, abs=0.05)


def test_the_blind_baseline_does_not_learn_from_whom_it_scores() -> None:
    generator = np.random.default_rng(0)
    subjects = np.repeat(np.arange(40), 5)
    own = generator.normal(size=(40, 60))[subjects]  # more columns than subjects: memory would be perfect
    assert blind_auc(own, subjects % 2 == 0, subjects, 0, draws=50).value < 0.75


def test_features_that_cannot_be_used_are_refused() -> None:
    features, member, subjects = metadata(10, 0.0, 0)
    for broken in (features[:, 0], features[1:], features[:, :0], np.where(features == 1, np.nan, features)):
        with pytest.raises(ShapeError):
            blind_auc(broken, member, subjects, 0)

import copy
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfl.errors import ConfigError, PrivacyError, ReplyError, ShapeError, TooFewSubjectsError
from medfl.privacy.accounting import ReleaseEvent
from medfl.privacy.class_sums import ClassSums, class_sums, joined, noised
from medfl.privacy.gaussian import NoiseSource, SeededNoise, analytic_sigma

CLASSES = 3


def population(n: int, channels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % CLASSES
    features = generator.standard_normal((n, channels)) + labels[:, None]
    return features, labels, [f"s{number}" for number in range(n)]


def sums_of(n: int, channels: int, seed: int = 0) -> ClassSums:
    return class_sums(*population(n, channels, seed), classes=CLASSES, minimum_subjects=1)


class Constant:
    """A source whose noise is one number, so that what noise is added to, and how much, can be seen."""

    def __init__(self, value: float) -> None:
        self._value = value

    def normals(self, count: int, /) -> np.ndarray:
        return np.full(count, self._value)


def test_the_sums_are_those_of_the_samples() -> None:
    features, labels, subjects = population(30, 4)
    found = class_sums(features, labels, subjects, classes=CLASSES, minimum_subjects=5)
    assert found.counts.tolist() == [10, 10, 10]
    assert found.subjects.tolist() == [10, 10, 10]
    assert found.sums[1] == pytest.approx(features[labels == 1].sum(axis=0))
    assert found.cross == pytest.approx(sum(np.outer(x, x) for x in features))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=4))
def test_added_sums_of_sites_are_the_sums_of_the_pooled_samples(sizes: list[int]) -> None:
    features, labels, subjects = population(sum(sizes), 3)
    ends = np.cumsum(sizes)
    parts = [
        class_sums(features[a:b], labels[a:b], subjects[a:b], classes=CLASSES, minimum_subjects=1)
        for a, b in zip([0, *ends[:-1]], ends, strict=True)
    ]
    pooled = class_sums(features, labels, subjects, classes=CLASSES, minimum_subjects=1).to_arrays()
    for name, array in joined(parts).to_arrays().items():
        assert array == pytest.approx(pooled[name], abs=1e-9)


def test_subjects_are_counted_once_per_class() -> None:
    found = class_sums(
        np.ones((5, 2)), np.array([0, 0, 1, 1, 1]), ["a", "a", "a", "b", "b"], classes=2, minimum_subjects=1
    )
    assert found.counts.tolist() == [2, 3]
    assert found.subjects.tolist() == [1, 2]


def test_a_class_of_few_subjects_is_refused_however_many_samples_they_have() -> None:
    labels = np.array([0] * 10 + [1] * 10)
    subjects = [f"s{number}" for number in range(10)] + ["one", "two"] * 5
    with pytest.raises(TooFewSubjectsError, match="at least 3 subjects per class"):
        class_sums(np.ones((20, 2)), labels, subjects, classes=2, minimum_subjects=3)


def test_a_class_that_nobody_has_is_legal() -> None:
    found = class_sums(np.ones((3, 2)), np.array([0, 0, 0]), ["a", "b", "c"], classes=2, minimum_subjects=3)
    assert found.counts.tolist() == [3, 0]


def test_a_site_without_samples_adds_nothing() -> None:
    empty = class_sums(np.zeros((0, 4)), np.zeros(0, dtype=np.int64), [], classes=CLASSES, minimum_subjects=5)
    whole = empty + sums_of(12, 4)
    assert whole.cross == pytest.approx(sums_of(12, 4).cross)
    assert ClassSums.zeros(CLASSES, 4).to_arrays().keys() == empty.to_arrays().keys()


def test_features_that_are_not_finite_are_refused() -> None:
    features, labels, subjects = population(9, 2)
    features[3, 1] = np.nan
    with pytest.raises(PrivacyError, match="must be finite"):
        class_sums(features, labels, subjects, classes=CLASSES, minimum_subjects=1)


def test_labels_outside_the_classes_are_refused() -> None:
    features, labels, subjects = population(9, 2)
    with pytest.raises(ShapeError, match="labels must be in"):
        class_sums(features, labels, subjects, classes=2, minimum_subjects=1)


def test_sums_survive_the_wire() -> None:
    sent = sums_of(12, 4)
    received = ClassSums.from_arrays(sent.to_arrays())
    assert all(np.array_equal(array, received.to_arrays()[name]) for name, array in sent.to_arrays().items())


def spoiled(name: str, value: np.ndarray) -> dict[str, np.ndarray]:
    return {**copy.deepcopy(sums_of(12, 4).to_arrays()), name: value}


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        (spoiled("counts", np.array([4.0, -1.0, 4.0])), "bad_sums"),
        (spoiled("counts", np.array([4, 4, 4])), "bad_sums"),
        (spoiled("counts", np.array([4.0, 4.0])), "bad_sums"),
        (spoiled("subjects", np.array([5.0, 4.0, 4.0])), "bad_sums"),
        (spoiled("sums", np.full((3, 4), np.inf)), "not_finite"),
        (spoiled("sums", np.zeros(4)), "bad_sums"),
        (spoiled("cross", np.triu(np.ones((4, 4)))), "bad_sums"),
        (spoiled("cross", -np.eye(4)), "bad_sums"),
        (spoiled("cross", np.eye(5)), "bad_sums"),
        (spoiled("more", np.eye(5)), "bad_sums"),
    ],
)
def test_sums_that_no_samples_have_are_refused_with_a_reason(arrays: dict[str, np.ndarray], reason: str) -> None:
    with pytest.raises(ReplyError) as caught:
        ClassSums.from_arrays(arrays)
    assert caught.value.reason == reason


def test_sums_of_other_shapes_do_not_add() -> None:
    with pytest.raises(ShapeError, match="equal shapes"):
        sums_of(12, 4) + sums_of(12, 5)
    with pytest.raises(ShapeError, match="at least one part"):
        joined([])


# --- what raw sums tell -----------------------------------------------------------------------------------------------


def distance_to_samples(cross: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """The attack: the share of each candidate that lies outside the space that the samples span."""
    values, vectors = np.linalg.eigh(cross)
    space = vectors[:, values > 1e-9 * values[-1]]
    outside = candidates - candidates @ space @ space.T
    return np.asarray(np.linalg.norm(outside, axis=1) / np.linalg.norm(candidates, axis=1))


def test_raw_sums_of_few_samples_tell_who_is_in_them() -> None:
    features, labels, subjects = population(60, 100)
    members, others = features[:30], features[30:]
    found = class_sums(members, labels[:30], subjects[:30], classes=CLASSES, minimum_subjects=5)
    assert distance_to_samples(found.cross, members).max() < 1e-6
    assert distance_to_samples(found.cross, others).min() > 0.3


# --- noise ------------------------------------------------------------------------------------------------------------


def noised_sums(
    features: np.ndarray,
    labels: np.ndarray,
    subjects: list[str],
    source: NoiseSource,
    *,
    clip: float = 2.0,
    epsilon: float = 2.0,
    delta: float = 1e-4,
    minimum: int = 5,
) -> tuple[ClassSums, ReleaseEvent]:
    return noised(
        features,
        labels,
        subjects,
        classes=CLASSES,
        minimum_subjects=minimum,
        clip=clip,
        epsilon=epsilon,
        delta=delta,
        source=source,
    )


def membership_auc(source: NoiseSource) -> float:
    """How well leverage, the attack above for matrices of full rank, tells members from others."""
    features, labels, subjects = population(60, 40, seed=3)
    found, _ = noised_sums(features[:30], labels[:30], subjects[:30], source, epsilon=1.0, clip=10.0)
    floor = np.linalg.eigvalsh(found.cross).min() * (1 - 1e-6)
    leverage = np.einsum(
        "nc,cd,nd->n", features, np.linalg.pinv(found.cross - floor * np.eye(40) + np.eye(40)), features
    )
    return float(np.mean(leverage[:30, None] < leverage[None, 30:]))


def test_the_same_attack_fails_on_noised_sums_and_works_without_the_noise() -> None:
    assert membership_auc(Constant(0.0)) > 0.95
    assert abs(np.mean([membership_auc(SeededNoise(seed)) for seed in range(8)]) - 0.5) < 0.1


def test_noised_sums_report_the_epsilon_that_was_asked_for() -> None:
    _, event = noised_sums(*population(30, 4), SeededNoise(0))
    assert event.mechanism == "GaussianDpEvent"
    assert event.epsilon == pytest.approx(2.0, rel=1e-3)
    assert event.delta == 1e-4
    assert "replace" in event.adjacency


def replaced(seed: int, extreme: bool) -> tuple[ClassSums, ClassSums]:
    """Noiseless sums with and without one subject replaced; the noise's floor is the same in both and cancels."""
    generator = np.random.default_rng(seed)
    subjects = [f"s{number}" for number in np.sort(generator.integers(0, 6, 20))]
    features, labels = generator.standard_normal((20, 3)) * 3, generator.integers(0, CLASSES, 20)
    other_features, other_labels = features.copy(), labels.copy()
    own = np.array([name == subjects[0] for name in subjects])
    other_features[own] = generator.standard_normal((int(own.sum()), 3)) * 10.0 ** generator.integers(-3, 4)
    other_labels[own] = generator.integers(0, CLASSES, int(own.sum()))
    if extreme:
        other_features[own] = -features[own] * 1e6
    first, _ = noised_sums(features, labels, subjects, Constant(0.0), minimum=1)
    second, _ = noised_sums(other_features, other_labels, subjects, Constant(0.0), minimum=1)
    return first, second


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_replacing_a_subject_moves_no_part_further_than_its_sensitivity(seed: int, extreme: bool) -> None:
    first, second = replaced(seed, extreme)
    clip = 2.0
    assert np.linalg.norm(first.counts - second.counts) <= math.sqrt(2) * (1 + 1e-9)
    assert np.linalg.norm(first.sums - second.sums) <= 2 * clip * (1 + 1e-9)
    assert np.linalg.norm(first.cross - second.cross) <= math.sqrt(2) * clip**2 * (1 + 1e-9)


def test_the_sensitivities_are_reached() -> None:
    def found(label: int, vector: list[float]) -> ClassSums:
        features = np.array([[1.0, 0.0]] * 9 + [vector])
        labels = np.array([0] * 9 + [label])
        return noised_sums(features, labels, [f"s{n}" for n in range(10)], Constant(0.0), clip=2.0)[0]

    base = found(0, [100.0, 0.0])
    assert np.linalg.norm(base.counts - found(1, [100.0, 0.0]).counts) == pytest.approx(math.sqrt(2))
    assert np.linalg.norm(base.sums - found(0, [-100.0, 0.0]).sums) == pytest.approx(4.0)
    assert np.linalg.norm(base.cross - found(0, [0.0, 100.0]).cross) == pytest.approx(math.sqrt(2) * 4.0)


def test_every_part_gets_noise_of_its_own_sensitivity() -> None:
    data = population(2000, 4)
    clear, _ = noised_sums(*data, Constant(0.0), delta=1e-5)
    noisy, _ = noised_sums(*data, Constant(1.0), delta=1e-5)
    sigma = analytic_sigma(2.0, 1e-5, math.sqrt(3))
    assert noisy.sums - clear.sums == pytest.approx(np.full((CLASSES, 4), sigma * 2 * 2.0))
    moved = noisy.cross - clear.cross
    assert np.diag(moved) == pytest.approx(np.full(4, sigma * math.sqrt(2) * 4.0))
    assert moved[np.triu_indices(4, 1)] == pytest.approx(np.full(6, sigma * 4.0))


def test_noised_counts_get_their_noise_and_add_up_to_the_subjects() -> None:
    features, labels, subjects = population(3000, 2)
    counts = np.array(
        [noised_sums(features, labels, subjects, SeededNoise(seed), delta=1e-5)[0].counts for seed in range(24)]
    )
    assert counts.sum(axis=1) == pytest.approx(np.full(24, 3000.0))
    expected = analytic_sigma(2.0, 1e-5, math.sqrt(3)) * math.sqrt(2) * math.sqrt(1 - 1 / CLASSES)
    assert counts.std() == pytest.approx(expected, rel=0.25)


def test_a_subject_counts_once_whatever_its_number_of_samples() -> None:
    features, labels, subjects = population(12, 3)
    once, _ = noised_sums(features, labels, subjects, Constant(0.0))
    twice, _ = noised_sums(
        np.repeat(features, 2, axis=0), np.repeat(labels, 2), list(np.repeat(subjects, 2)), Constant(0.0)
    )
    assert twice.counts == pytest.approx(once.counts)
    assert twice.cross == pytest.approx(once.cross)


def test_noised_sums_travel_like_any_other() -> None:
    found, _ = noised_sums(*population(30, 6), SeededNoise(0), epsilon=0.1)
    assert ClassSums.from_arrays(found.to_arrays()).cross == pytest.approx(found.cross)
    assert np.linalg.eigvalsh(found.cross).min() > 0


@pytest.mark.parametrize("clip", [0.0, -1.0, math.inf, math.nan])
def test_noise_with_unknown_sensitivity_is_refused(clip: float) -> None:
    with pytest.raises(ConfigError, match="unknown sensitivity"):
        noised_sums(*population(30, 4), SeededNoise(0), clip=clip)


def test_a_delta_too_large_for_so_many_subjects_is_refused() -> None:
    with pytest.raises(ConfigError, match="delta must be"):
        noised_sums(*population(30, 4), SeededNoise(0), delta=0.01)


def test_a_refusal_of_noised_sums_depends_on_the_number_of_subjects_only() -> None:
    features, _, subjects = population(12, 3)
    lonely = np.array([0] * 11 + [1])
    assert noised_sums(features, lonely, subjects, SeededNoise(0))[0].counts.shape == (CLASSES,)
    with pytest.raises(TooFewSubjectsError, match="at least 13 subjects"):
        noised_sums(features, lonely, subjects, SeededNoise(0), minimum=13)

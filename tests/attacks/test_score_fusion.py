import numpy as np
import pytest

from medfl.attacks.linear_attackers import LdaAttacker
from medfl.attacks.network_attackers import SiameseAttacker
from medfl.attacks.pairs import verification_pairs
from medfl.attacks.score_fusion import FusionAttacker, fusion_weights
from medfl.attacks.statistics import auc, cluster_bootstrap_auc

SEED = 3


def hospital(people: int, *, identity: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pooled features (n, 200), never under 0: identity in eighty quiet channels, loud channels of skewed nuisance."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(80, 200)) / 9  # the same world for everybody
    subjects = np.repeat([f"{seed}-{number}" for number in range(people)], 3)
    own = identity * np.repeat(generator.normal(size=(people, 80)), 3, axis=0)
    values = (own + generator.normal(size=(len(subjects), 80))) @ mixing + 0.5 * generator.normal(size=(len(own), 200))
    values[:, :20] += 3 * generator.exponential(size=(len(subjects), 20))
    return np.maximum(values, 0) ** 2, subjects


@pytest.fixture(scope="module")
def known() -> tuple[np.ndarray, np.ndarray]:
    return hospital(150, identity=0.7, seed=0)


def test_the_fusion_is_stronger_than_what_it_is_made_of(known: tuple[np.ndarray, np.ndarray]) -> None:
    strangers, names = hospital(150, identity=0.7, seed=1)
    pairs = verification_pairs(names, np.random.default_rng(0), 5000)
    areas = [one.fit(*known).area(strangers, pairs) for one in (FusionAttacker(1), LdaAttacker(1), SiameseAttacker(1))]
    assert areas[0] > 0.8
    assert areas[0] > max(areas[1:]) + 0.02


@pytest.mark.parametrize("seed", range(3))
def test_the_fusion_knows_nothing_from_noise(seed: int) -> None:
    generator = np.random.default_rng(seed)
    features, subjects = generator.normal(size=(180, 60)), np.repeat(np.arange(60), 3)
    strangers, names = generator.normal(size=(240, 60)), np.repeat(np.arange(80), 3)
    pairs = verification_pairs(names, np.random.default_rng(0), 5000)
    scores = FusionAttacker(seed).fit(features, subjects).of_pairs(strangers, pairs)
    found = cluster_bootstrap_auc(scores, names[pairs.first], names[pairs.second], 300, generator)
    assert found.low <= 0.5 <= found.high
    assert found.high - found.low < 0.2


def test_weights_go_to_scores_that_tell_persons_apart() -> None:
    generator = np.random.default_rng(0)
    is_same = np.arange(4000) < 1000
    good, better, noise = (generator.normal(size=4000) + shift * is_same for shift in (1.0, 2.0, 0.0))
    scores = np.column_stack([good, 100 * better, noise, -good])
    weights = fusion_weights(scores, is_same) * [1, 100, 1, 1]
    assert weights[1] == pytest.approx(2 * weights[0], rel=0.2)  # Gaussian scores: the weight is the distance of means
    assert weights[2] < 0.1 * weights[0]
    assert weights[3] == 0
    fused = scores @ fusion_weights(scores, is_same)
    assert auc(fused[is_same], fused[~is_same]) > auc(better[is_same], better[~is_same]) + 0.01


def test_a_score_that_never_changes_weighs_nothing_and_without_any_worth_all_weigh_the_same() -> None:
    is_same = np.arange(600) < 200
    generator = np.random.default_rng(1)
    worse = generator.normal(size=(600, 2)) - 2 * is_same[:, None]
    weights = fusion_weights(np.column_stack([worse, np.full(600, 0.3)]), is_same)
    np.testing.assert_allclose(weights * np.append(worse[~is_same].std(axis=0), 1), [1, 1, 0])
    assert (fusion_weights(np.full((600, 2), 0.1), is_same) == 0).all()


def test_six_linked_subjects_are_enough() -> None:
    features, subjects = hospital(4, identity=2.0, seed=0)
    scores = FusionAttacker(SEED).fit(features, subjects)(features[::3], features[1::3])
    assert scores.shape == (4,)
    assert np.isfinite(scores).all()

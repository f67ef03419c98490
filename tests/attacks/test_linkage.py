import numpy as np
import pytest
import torch

from medfl.attacks.linkage import evaluate_linkage, key_free_invariants
from medfl.attacks.pairs import verification_pairs
from medfl.attacks.statistics import auc
from medfl.errors import ConfigError, ShapeError, TooFewSubjectsError
from medfl.privacy.keyed_transform import KeyedNonlinearTransform, TransformSettings
from medfl.privacy.keys import ContextKey
from medfl.results.attack import AttackResult

WIDTH = 16
KEYS = ContextKey(bytes(range(32))), ContextKey(bytes(range(32, 64)))


def persons(people: int, *shape: int, noise: float = 0.7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    subjects = np.repeat([f"s{number}" for number in range(people)], 3)
    return generator.normal(size=(people, *shape)).repeat(3, axis=0) + noise * generator.normal(
        size=(3 * people, *shape)
    ), subjects


def under_two_keys(features: np.ndarray, **settings) -> list[np.ndarray]:
    chosen = TransformSettings(**settings)
    transforms = [KeyedNonlinearTransform(key, features.shape[1:], chosen) for key in KEYS]
    return [transform(torch.from_numpy(features)).numpy() for transform in transforms]


def row(results: tuple[AttackResult, ...], name: str, setting: str = "") -> AttackResult:
    (found,) = [one for one in results if (one.name, one.setting) == (name, setting)]
    return found


def same_key_area(features: np.ndarray, subjects: np.ndarray) -> float:
    pairs = verification_pairs(subjects, np.random.default_rng(0), 5000)
    centered = features - features.mean(axis=0)
    unit = centered / np.linalg.norm(centered, axis=1, keepdims=True)
    scores = (unit[pairs.first] * unit[pairs.second]).sum(axis=1)
    return auc(scores[pairs.is_same], scores[~pairs.is_same])


def test_anchors_undo_the_separation_of_two_affine_keys() -> None:
    features, subjects = persons(60, WIDTH)
    results = evaluate_linkage(
        *under_two_keys(features, mode="affine", permutation="none"), subjects, seed=0, draws=100, anchors=(4, 64)
    )
    reached = same_key_area(features, subjects)
    assert reached > 0.9
    assert abs(row(results, "anchored ridge", "64 known images").value - reached) < 0.03
    assert row(results, "anchored ridge", "64 known images").further[0].value == 1
    naive = row(results, "cross-key cosine")
    assert abs(naive.value - 0.5) < 0.15
    assert row(results, "anchored ridge", "4 known images").value < reached - 0.05


def test_more_anchors_link_better_across_nonlinear_keys() -> None:
    features, subjects = persons(120, WIDTH)
    results = evaluate_linkage(
        *under_two_keys(features), subjects, seed=1, draws=50, anchors=(4, 16, 128), impostors=3000
    )
    few, some, many = (row(results, "anchored ridge", f"{n} known images").value for n in (4, 16, 128))
    assert few < some < many
    assert many > 0.8


def test_a_key_that_turns_every_sign_round_does_not_hide_a_person() -> None:
    features, subjects = persons(60, WIDTH)
    found = evaluate_linkage(features, -features, subjects, seed=0, draws=50, anchors=(4,))
    turned = row(found, "cross-key cosine", "turned round")
    straight = row(evaluate_linkage(features, features, subjects, seed=0, draws=50, anchors=(4,)), "cross-key cosine")
    assert turned.value == pytest.approx(straight.value)
    assert turned.value > 0.8
    assert turned.ci_low <= turned.value <= turned.ci_high


def test_invariants_link_an_image_with_itself_across_orthogonal_keys() -> None:
    features, subjects = persons(20, 8, 8, 8)
    results = evaluate_linkage(
        *under_two_keys(features, mode="affine"), subjects, seed=0, draws=50, anchors=(4,), impostors=3000
    )
    for setting in ("singular values", "position norms", "all"):
        assert row(results, "key-free invariants", setting).further[0].value > 0.99


def test_invariants_do_not_change_under_mixing_and_permutation() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(3, 6, 4, 5))
    turned = np.linalg.qr(generator.normal(size=(6, 6)))[0]
    moved = np.einsum("ij,njs->nis", turned, features.reshape(3, 6, 20))[:, :, generator.permutation(20)]
    before, after = key_free_invariants(features), key_free_invariants(moved.reshape(3, 6, 4, 5))
    for name in ("norm", "singular values", "position norms"):
        np.testing.assert_allclose(before[name], after[name], atol=1e-9)
    assert not np.allclose(before["channel moments"], after["channel moments"])
    permuted = key_free_invariants(features.reshape(3, 6, 20)[:, :, generator.permutation(20)])
    for name, values in before.items():
        np.testing.assert_allclose(values, permuted[name], atol=1e-9)


def test_nobody_links_pure_noise() -> None:
    found = []
    for seed in range(5):
        first, second = np.random.default_rng(seed).normal(size=(2, 180, WIDTH))
        subjects = np.repeat(np.arange(60), 3)
        found += evaluate_linkage(first, second, subjects, seed=seed, draws=200, anchors=(16, 64), impostors=3000)
    assert len(found) == 5 * (1 + 2 + 3)
    outside = [one for one in found if not one.ci_low <= 0.5 <= one.ci_high]
    assert len(outside) <= 6  # of 30: with so few subjects about a tenth of the rows leaves, not a twentieth
    assert all(abs(one.value - 0.5) < 0.12 for one in found)
    assert all(abs(one.further[0].value - 0.5) < 0.15 for one in found)


def test_every_row_is_of_the_same_strangers_and_pairs() -> None:
    features, subjects = persons(20, WIDTH)
    results = evaluate_linkage(features, features, subjects, seed=0, draws=20, anchors=(4, 16, 5000))
    assert {(one.subjects, one.positives, one.negatives) for one in results} == {(10, 60, 2 * 405)}
    assert [one.setting for one in results if one.knowledge == "anchored"] == ["4 known images", "16 known images"]
    assert {one.family for one in results} == {"linkage"}


def test_equal_seeds_give_equal_rows() -> None:
    features, subjects = persons(12, WIDTH)
    drawn = [
        [
            one.model_copy(update={"seconds": 0.0})
            for one in evaluate_linkage(features, features[:, ::-1], subjects, seed=s, draws=20, anchors=(8,))
        ]
        for s in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_sets_that_do_not_fit_are_refused() -> None:
    features, subjects = persons(6, WIDTH)
    with pytest.raises(ShapeError, match="one shape"):
        evaluate_linkage(features, features[:, :3], subjects, seed=0)
    with pytest.raises(ShapeError, match="the same in all arrays"):
        evaluate_linkage(features, features, subjects[1:], seed=0)
    with pytest.raises(ConfigError, match="at least 4"):
        evaluate_linkage(features, features, subjects, seed=0, anchors=(2,))
    with pytest.raises(TooFewSubjectsError, match="four subjects"):
        evaluate_linkage(features[:9], features[:9], subjects[:9], seed=0)

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medfl.attacks.feature_inversion import (
    ESTIMATORS,
    evaluate_feature_inversion,
    fit_procrustes,
    fit_ridge,
    known_and_strangers,
    ratio_interval,
)
from medfl.errors import ConfigError, ShapeError, TooFewSubjectsError
from medfl.privacy.keyed_transform import KeyedNonlinearTransform, TransformSettings
from medfl.privacy.keys import ContextKey
from medfl.results.attack import AttackResult

WIDTH = 16
KEY = ContextKey(bytes(range(32)))


def persons(people: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    subjects = np.repeat(np.arange(people), 3)
    return 2 + generator.normal(size=(people, WIDTH)).repeat(3, axis=0) + 0.5 * generator.normal(
        size=(3 * people, WIDTH)
    ), subjects


def keyed(features: np.ndarray, **options) -> np.ndarray:
    transform = KeyedNonlinearTransform(KEY, features.shape[1:], TransformSettings(**options))
    return transform(torch.from_numpy(features)).numpy()


def further(result: AttackResult, name: str) -> float:
    (found,) = [one.value for one in result.further if one.name == name]
    assert found is not None
    return found


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 20), st.integers(0, 8), st.integers(0, 1000))
def test_an_orthogonal_map_is_found_from_one_pair_more_than_dimensions(width: int, more: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    turned, bias = np.linalg.qr(generator.normal(size=(width, width)))[0], generator.normal(size=width)
    clear, new = generator.normal(size=(width + 1 + more, width)), generator.normal(size=(5, width))
    for _, fit in ESTIMATORS:
        found = fit(clear @ turned + bias, clear)(new @ turned + bias)
        assert np.linalg.norm(found - new) / np.linalg.norm(new) < 1e-6


def test_ridge_finds_an_affine_map_that_stretches() -> None:
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(WIDTH, WIDTH))
    clear, new = generator.normal(size=(WIDTH + 4, WIDTH)), generator.normal(size=(9, WIDTH))
    found = fit_ridge(clear @ matrix + 3, clear)(new @ matrix + 3)
    assert np.linalg.norm(found - new) / np.linalg.norm(new) < 1e-6


def test_procrustes_keeps_lengths_up_to_one_scale() -> None:
    generator = np.random.default_rng(0)
    clear = generator.normal(size=(40, 5))
    found = fit_procrustes(clear + generator.normal(size=(40, 5)), clear)
    matrix = found.down @ found.up
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(5) * (matrix @ matrix.T)[0, 0], atol=1e-9)


def test_ridge_shrinks_to_the_mean_where_nothing_is_to_be_learned() -> None:
    generator = np.random.default_rng(1)
    inputs, outputs = generator.normal(size=(2, 200, 30))
    found = fit_ridge(inputs, outputs)
    new, true = generator.normal(size=(2, 500, 30))
    assert ((found(new) - true) ** 2).mean() < 1.1 * ((true - outputs.mean(axis=0)) ** 2).mean()


def test_an_affine_key_is_undone_and_every_stranger_found() -> None:
    clear, subjects = persons(40)
    results = evaluate_feature_inversion(keyed(clear, mode="affine"), clear, subjects, seed=0, known=(4, 20), draws=100)
    few, exact = (one for one in results if one.name == "ridge")
    assert further(exact, "relative_error") < 1e-6
    assert further(exact, "rank_1") == 1
    assert exact.value > 1 - 1e-9
    assert few.value < 0.5
    assert (exact.knowledge, exact.family, exact.positives) == ("anchored", "inversion", 60)


def test_a_nonlinear_key_keeps_some_of_it_from_closed_forms() -> None:
    clear, subjects = persons(100)
    results = evaluate_feature_inversion(keyed(clear), clear, subjects, seed=0, known=(16, 128), draws=100)
    few, many = (one for one in results if one.name == "ridge")
    assert few.value < many.value < 0.99
    assert many.ci_low > 0.3
    assert further(many, "rank_1") > 20 / 150


@pytest.mark.parametrize("seed", range(3))
def test_noise_tells_nothing_of_the_features(seed: int) -> None:
    clear, subjects = persons(60, seed=seed)
    noise = np.random.default_rng(seed + 100).normal(size=clear.shape)
    for one in evaluate_feature_inversion(noise, clear, subjects, seed=seed, known=(64,), draws=200):
        assert one.value < 0.05
        measure = one.further[0]
        assert measure.ci_low <= measure.chance <= measure.ci_high


def test_known_subjects_are_no_strangers() -> None:
    subjects = np.array(["a", "a", "b", "b", "b", "c", "d", "d", "e", "e"])
    known, strangers = known_and_strangers(subjects, np.random.default_rng(0))
    assert sorted([*known, *strangers]) == list(range(10))
    assert not set(subjects[known]) & set(subjects[strangers])
    assert "c" in subjects[known]
    firsts = len(set(subjects[known]))
    assert len(set(subjects[known[:firsts]])) == firsts


def test_the_interval_counts_subjects_and_not_images() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(1, 0.3, size=20)
    ones = np.ones(20)
    value, low, high = ratio_interval(values, ones, np.arange(20), 2000, np.random.default_rng(1))
    copied = ratio_interval(
        np.repeat(values, 9), np.ones(180), np.repeat(np.arange(20), 9), 2000, np.random.default_rng(1)
    )
    assert copied == pytest.approx((value, low, high))
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(20), rel=0.15)


def test_arguments_that_do_not_fit_are_refused() -> None:
    clear, subjects = persons(10)
    with pytest.raises(ShapeError, match="the same in all arrays"):
        evaluate_feature_inversion(clear[1:], clear, subjects, seed=0)
    with pytest.raises(ShapeError, match="finite"):
        evaluate_feature_inversion(np.full_like(clear, np.nan), clear, subjects, seed=0)
    with pytest.raises(ConfigError, match="at least 4"):
        evaluate_feature_inversion(clear, clear, subjects, seed=0, known=(3,))
    with pytest.raises(TooFewSubjectsError, match="may be known"):
        evaluate_feature_inversion(clear, clear, subjects, seed=0, known=(256,))

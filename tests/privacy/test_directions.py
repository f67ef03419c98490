from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cross_decomposition import PLSSVD, PLSRegression
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from medfl.errors import ConfigError, ShapeError
from medfl.privacy.class_sums import ClassSums, class_sums, joined
from medfl.privacy.directions import Directions, choose_k, fit_directions

Method = Literal["pls", "lda"]


def population(n: int = 240, channels: int = 12, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, n)
    centers = generator.standard_normal((classes, channels)) * 1.5
    mixing = generator.standard_normal((channels, channels))
    return (centers[labels] + generator.standard_normal((n, channels))) @ mixing + 3.0, labels


def sums_of(features: np.ndarray, labels: np.ndarray, classes: int = 4) -> ClassSums:
    subjects = [f"s{number}" for number in range(len(labels))]
    return class_sums(features, labels, subjects, classes=classes, minimum_subjects=1)


def whitened(features: np.ndarray, components: int, shrinkage: float) -> np.ndarray:
    """From raw features what the module derives from sums: standardized, projected, divided by shrunk deviations."""
    centered = (features - features.mean(axis=0)) / features.std(axis=0)
    _, values, axes = np.linalg.svd(centered, full_matrices=False)
    variances = values[:components] ** 2 / len(features)
    return np.asarray(
        centered @ axes[:components].T / np.sqrt((1 - shrinkage) * variances + shrinkage * variances.mean())
    )


def one_hot(labels: np.ndarray) -> np.ndarray:
    return np.asarray(labels[:, None] == np.unique(labels), dtype=np.float64)


def same_up_to_sign(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-8) -> bool:
    """Columns, after moving both to mean 0 and scaling them to unit variance."""
    found, expected = found - found.mean(axis=0), expected - expected.mean(axis=0)
    found, expected = found / found.std(axis=0), expected / expected.std(axis=0)
    signs = np.sign((found * expected).sum(axis=0))
    return bool(np.abs(found - expected * signs).max() < tolerance)


@pytest.mark.parametrize("method", ["pls", "lda"])
def test_directions_of_added_sums_are_those_of_the_pooled_features(method: Method) -> None:
    features, labels = population()
    parts = [sums_of(features[a::3], labels[a::3]) for a in range(3)]
    federated = fit_directions(joined(parts), 3, method=method)
    pooled = fit_directions(sums_of(features, labels), 3, method=method)
    assert federated.matrix == pytest.approx(pooled.matrix, abs=1e-8)
    assert federated.mean == pytest.approx(features.mean(axis=0))


def nipals(features: np.ndarray, targets: np.ndarray, k: int) -> np.ndarray:
    """Scores of partial least squares, features and targets deflated sample by sample."""
    features, targets = features - features.mean(axis=0), targets - targets.mean(axis=0)
    scores = []
    for _ in range(k):
        score = features @ np.linalg.svd(features.T @ targets)[0][:, 0]
        onto = np.outer(score, score) / (score @ score)
        features, targets = features - onto @ features, targets - onto @ targets
        scores.append(score)
    return np.stack(scores, axis=1)


@pytest.mark.parametrize("shrinkage", [0.03, 0.3, 1.0])
@pytest.mark.parametrize("components", [7, 256])
def test_pls_from_sums_is_pls_on_raw_features(shrinkage: float, components: int) -> None:
    features, labels = population()
    found = fit_directions(sums_of(features, labels), 5, components=components, shrinkage=shrinkage)
    expected = nipals(whitened(features, components, shrinkage), one_hot(labels), 5)
    assert same_up_to_sign(found.scores(features), expected)


@pytest.mark.parametrize("shrinkage", [0.3, 1.0])  # nearer to 0 the singular values are close and its iteration slow
@pytest.mark.parametrize("components", [7, 256])
def test_pls_scores_are_those_of_scikit_learn_on_raw_features(shrinkage: float, components: int) -> None:
    features, labels = population()
    found = fit_directions(sums_of(features, labels), 5, components=components, shrinkage=shrinkage)
    reference = PLSRegression(n_components=5, scale=False, tol=1e-14, max_iter=100000)
    reference.fit(whitened(features, components, shrinkage), one_hot(labels))
    assert same_up_to_sign(found.scores(features), reference.x_scores_, 1e-6)


def test_with_full_whitening_pls_scores_are_those_of_the_singular_vectors() -> None:
    features, labels = population()
    found = fit_directions(sums_of(features, labels), 3, components=8, shrinkage=0.0)
    reference = PLSSVD(n_components=3, scale=False)
    scores = reference.fit_transform(whitened(features, 8, 0.0), one_hot(labels))[0]
    assert same_up_to_sign(found.scores(features), scores)


def test_lda_scores_are_those_of_scikit_learn_on_raw_features() -> None:
    features, labels = population()
    found = fit_directions(sums_of(features, labels), 3, method="lda", shrinkage=0.0)
    reference = LinearDiscriminantAnalysis(solver="eigen").fit(features, labels)
    assert same_up_to_sign(found.scores(features), reference.transform(features)[:, :3], 1e-7)


def test_shrunk_lda_scores_are_those_of_scikit_learn_on_principal_components() -> None:
    features, labels = population()
    found = fit_directions(sums_of(features, labels), 3, method="lda", components=8, shrinkage=0.2)
    centered = (features - features.mean(axis=0)) / features.std(axis=0)
    components = centered @ np.linalg.svd(centered, full_matrices=False)[2][:8].T
    means = np.stack([components[labels == label].mean(axis=0) for label in range(4)])
    within = (components - means[labels]).T @ (components - means[labels]) / len(labels)
    shrunk = 0.8 * within + 0.2 * np.trace(within) / 8 * np.eye(8)
    between = np.cov(means[labels].T, bias=True)
    values, vectors = np.linalg.eig(np.linalg.solve(shrunk, between))
    expected = components @ vectors[:, np.argsort(-values.real)[:3]].real
    assert same_up_to_sign(found.scores(features), expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["pls", "lda"]), st.floats(0.01, 1.0))
def test_scores_have_mean_0_and_unit_variance(seed: int, method: Method, shrinkage: float) -> None:
    features, labels = population(seed=seed)
    scores = fit_directions(sums_of(features, labels), 2, method=method, shrinkage=shrinkage).scores(features)
    assert scores.mean(axis=0) == pytest.approx(np.zeros(2), abs=1e-8)
    assert scores.std(axis=0) == pytest.approx(np.ones(2))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 6))
def test_pls_scores_are_uncorrelated(seed: int, k: int) -> None:
    features, labels = population(seed=seed)
    scores = fit_directions(sums_of(features, labels), k).scores(features)
    assert np.cov(scores.T, bias=True).reshape(k, k) == pytest.approx(np.eye(k), abs=1e-6)


@pytest.mark.parametrize("method", ["pls", "lda"])
def test_the_unit_of_a_channel_does_not_matter(method: Method) -> None:
    features, labels = population()
    units = 10.0 ** np.arange(-3, 9)
    scores = fit_directions(sums_of(features, labels), 2, method=method).scores(features)
    scaled = fit_directions(sums_of(features * units, labels), 2, method=method).scores(features * units)
    assert same_up_to_sign(scaled, scores, 1e-6)


@pytest.mark.parametrize("method", ["pls", "lda"])
def test_fewer_directions_are_the_first_of_more(method: Method) -> None:
    sums = sums_of(*population())
    assert fit_directions(sums, 3, method=method).first(2).matrix == pytest.approx(
        fit_directions(sums, 2, method=method).matrix
    )
    with pytest.raises(ConfigError, match="1 to 2"):
        fit_directions(sums, 2, method=method).first(3)


@pytest.mark.parametrize("method", ["pls", "lda"])
def test_constant_channels_are_left_out(method: Method) -> None:
    features, labels = population()
    with_constant = np.insert(features, 5, 1234.5, axis=1)
    found = fit_directions(sums_of(with_constant, labels), 2, method=method)
    assert (found.matrix[:, 5] == 0).all()
    assert np.delete(found.matrix, 5, axis=1) == pytest.approx(
        fit_directions(sums_of(features, labels), 2, method=method).matrix, abs=1e-7
    )


@pytest.mark.parametrize("method", ["pls", "lda"])
def test_fewer_samples_than_channels_are_enough(method: Method) -> None:
    features, labels = population(n=20, channels=60)
    scores = fit_directions(sums_of(features, labels), 2, method=method).scores(features)
    assert np.isfinite(scores).all()
    assert scores.std(axis=0) == pytest.approx(np.ones(2))


def test_classes_that_nobody_has_change_nothing() -> None:
    features, labels = population()
    plain = fit_directions(sums_of(features, labels), 3)
    assert fit_directions(sums_of(features, labels, classes=9), 3).matrix == pytest.approx(plain.matrix)


def test_two_classes_have_one_direction_with_full_whitening_and_several_without() -> None:
    sums = sums_of(*population(classes=2), classes=2)
    assert len(fit_directions(sums, 4).matrix) == 4
    with pytest.raises(ConfigError, match="more than the features have"):
        fit_directions(sums, 2, shrinkage=0.0)
    with pytest.raises(ConfigError, match="at most 1"):
        fit_directions(sums, 2, method="lda")


@pytest.mark.parametrize("k", [13, 400])
def test_more_directions_than_channels_are_refused(k: int) -> None:
    with pytest.raises(ConfigError, match="more than the features have"):
        fit_directions(sums_of(*population()), k)


def test_settings_out_of_range_are_refused() -> None:
    sums = sums_of(*population())
    for k, components, shrinkage in ((0, 256, 0.1), (1, 0, 0.1), (1, 256, -0.1), (1, 256, 1.1), (1, 256, np.nan)):
        with pytest.raises(ConfigError, match="directions need k >= 1"):
            fit_directions(sums, k, components=components, shrinkage=shrinkage)


def test_one_class_or_constant_features_have_no_directions() -> None:
    features, labels = population()
    with pytest.raises(ConfigError, match="two classes"):
        fit_directions(sums_of(features, np.zeros_like(labels)), 1)
    with pytest.raises(ConfigError, match="one channel that varies"):
        fit_directions(sums_of(np.ones_like(features), labels), 1)
    with pytest.raises(ConfigError, match="two classes"):
        fit_directions(ClassSums.zeros(3, 4), 1)


def test_directions_survive_the_wire_and_odd_ones_are_refused() -> None:
    sent = fit_directions(sums_of(*population()), 2)
    assert np.array_equal(Directions.from_arrays(sent.to_arrays()).matrix, sent.matrix)
    for arrays in (
        {"mean": sent.mean},
        {**sent.to_arrays(), "more": sent.mean},
        {"mean": sent.mean, "matrix": sent.matrix[:, 1:]},
        {"mean": sent.mean, "matrix": sent.matrix[:0]},
        {"mean": sent.mean, "matrix": sent.matrix * np.nan},
        {"mean": sent.mean, "matrix": sent.matrix.astype(np.float32)},
    ):
        with pytest.raises(ShapeError, match="directions"):
            Directions.from_arrays(arrays)


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [([0.9, 0.9, 0.9], 1), ([0.8, 0.896, 0.9], 4), ([0.8, 0.85, 0.9], 8), ([np.nan, 0.9, 0.9], 4)],
)
def test_the_smallest_k_within_the_tolerance_is_chosen(scores: list[float], chosen: int) -> None:
    assert choose_k([1, 4, 8], scores, tolerance=0.005) == chosen
    assert choose_k([8, 4, 1], scores[::-1], tolerance=0.005) == chosen


def test_choosing_needs_one_finite_score_per_candidate() -> None:
    for candidates, scores in (([], []), ([1, 2], [0.5]), ([1], [float("nan")])):
        with pytest.raises(ConfigError, match="choosing k"):
            choose_k(candidates, scores)

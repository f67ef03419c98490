import copy
import math
import pickle

import numpy as np
import pytest
import torch
from dp_accounting import get_epsilon_gaussian
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from medfl.errors import ConfigError, PrivacyError, ShapeError
from medfl.privacy.gaussian import (
    GaussianNoise,
    PlainNoise,
    SeededNoise,
    analytic_sigma,
    clip_samples,
    gaussian_delta,
)
from medfl.privacy.keystream import Keystream


def noise(
    *, clip: float | None = 1.0, epsilon: float = 1.0, delta: float = 0.02, releases: int = 1, seed: int = 0
) -> GaussianNoise:
    return GaussianNoise(
        clip=clip, epsilon=epsilon, delta=delta, source=SeededNoise(seed), releases_per_subject=releases
    )


# --- calibration ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epsilon", "sigma"), [(1, 3.7306), (2, 1.9939), (4, 1.0812), (8, 0.6002), (16, 0.3442), (32, 0.2049), (64, 0.1267)]
)
def test_the_noise_is_that_of_the_analytic_gaussian_mechanism(epsilon: float, sigma: float) -> None:
    assert analytic_sigma(epsilon, 1e-5, 1.0) == pytest.approx(sigma, rel=3e-4)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.05, 100), st.floats(1e-9, 0.3), st.floats(0.01, 100), st.integers(1, 20))
def test_the_noise_keeps_delta_and_hardly_less_noise_does_not(
    epsilon: float, delta: float, sensitivity: float, releases: int
) -> None:
    sigma = analytic_sigma(epsilon, delta, sensitivity, releases)
    composed = sensitivity * math.sqrt(releases)
    assert gaussian_delta(epsilon, sigma, composed) <= delta
    assert gaussian_delta(epsilon, 0.999 * sigma, composed) > delta


@pytest.mark.parametrize("delta", [1e-5, 0.05])
def test_the_closed_form_agrees_with_dp_accounting(delta: float) -> None:
    for sigma in (0.2, 0.7, 3.0):
        assert gaussian_delta(get_epsilon_gaussian(sigma, delta), sigma, 1.0) == pytest.approx(delta, rel=1e-6)


def test_the_classical_formula_is_not_used_where_it_is_wrong() -> None:
    classical = math.sqrt(2 * math.log(1.25 / 1e-5)) / 16
    assert gaussian_delta(16, classical, 1.0) > 1e-5
    assert analytic_sigma(16, 1e-5, 1.0) > classical


@pytest.mark.parametrize(
    ("epsilon", "delta", "sensitivity", "releases"),
    [
        (0, 1e-5, 1, 1),
        (math.inf, 1e-5, 1, 1),
        (math.nan, 1e-5, 1, 1),
        (1, 0, 1, 1),
        (1, 1, 1, 1),
        (1, 1e-5, 0, 1),
        (1, 1e-5, math.inf, 1),
        (1, 1e-5, math.nan, 1),
        (1, 1e-5, 1, 0),
    ],
)
def test_numbers_out_of_range_are_refused(epsilon: float, delta: float, sensitivity: float, releases: int) -> None:
    with pytest.raises(ConfigError, match=r"must be|at least 1"):
        analytic_sigma(epsilon, delta, sensitivity, releases)


# --- the guarantee ----------------------------------------------------------------------------------------------------

TRIALS = 200_000


def privacy_loss_beyond(protector: GaussianNoise, epsilon: float) -> tuple[float, float]:
    """The best distinguisher's P[hit | first] - exp(epsilon) P[hit | second], and its standard error.

    For the worst pair: two subjects at opposite ends of the clipping ball, far outside of it before. The distinguisher
    of Neyman and Pearson says "first" where the likelihood ratio exceeds exp(epsilon).
    """
    releases = protector.releases_per_subject
    direction = torch.tensor([0.6, -0.8, 0.0])
    first = protector((1000 * direction).expand(TRIALS * releases, 3))
    second = protector((-1000 * direction).expand(TRIALS * releases, 3))
    apart = protector.sensitivity * math.sqrt(releases)
    threshold = epsilon * protector.sigma**2 / apart
    hits = [
        float(((each @ direction).view(TRIALS, releases).sum(dim=1) / math.sqrt(releases) > threshold).double().mean())
        for each in (first, second)
    ]
    variances = [rate * (1 - rate) / TRIALS for rate in hits]
    beyond = hits[0] - math.exp(epsilon) * hits[1]
    return beyond, math.sqrt(variances[0] + math.exp(2 * epsilon) * variances[1])


@pytest.mark.parametrize("releases", [1, 3])
@pytest.mark.parametrize("epsilon", [0.5, 1.5])
def test_no_distinguisher_of_the_worst_pair_beats_epsilon_and_delta(epsilon: float, releases: int) -> None:
    beyond, error = privacy_loss_beyond(noise(epsilon=epsilon, releases=releases), epsilon)
    assert beyond - 4 * error < 0.02, "more is told than the guarantee allows"
    assert beyond + 4 * error > 0.02, "the noise is larger than it must be"


@pytest.mark.parametrize("releases", [1, 3])
@pytest.mark.parametrize("epsilon", [0.5, 1.5])
def test_with_half_the_noise_the_same_distinguisher_beats_them(epsilon: float, releases: int) -> None:
    protector = noise(epsilon=epsilon, releases=releases)
    protector.sigma /= 2
    beyond, error = privacy_loss_beyond(protector, epsilon)
    assert beyond - 4 * error > 0.02


def test_noise_for_one_release_does_not_cover_three() -> None:
    protector = noise(epsilon=1.5, releases=3)
    protector.sigma /= math.sqrt(3)
    beyond, error = privacy_loss_beyond(protector, 1.5)
    assert beyond - 4 * error > 0.02


# --- the module -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7,), (3, 4, 2), (3, 2, 2, 2)])
def test_the_whole_sample_is_clipped(shape: tuple[int, ...]) -> None:
    features = torch.randn((5, *shape), generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [0.0, 0.01, 1.0, 10.0, 1e30]
    ).view(5, *(1,) * len(shape))
    clipped = clip_samples(features, 0.5)
    norms = clipped.flatten(1).norm(dim=1)
    assert norms[0] == 0
    assert torch.equal(clipped[1], features[1].double())
    assert norms[2:].tolist() == pytest.approx([0.5] * 3)
    assert float(norms.max()) <= 0.5 * (1 + 1e-12)


def test_the_sensitivity_follows_from_the_clip() -> None:
    assert noise(clip=3.5).sensitivity == 7.0
    assert noise(clip=3.5).sigma == pytest.approx(3.5 * noise(clip=1.0).sigma)


@pytest.mark.parametrize("source", [Keystream(bytes(range(32))), SeededNoise(0)])
def test_the_noise_is_normal_with_the_calibrated_deviation(source: Keystream | SeededNoise) -> None:
    protector = GaussianNoise(clip=1.0, epsilon=2.0, delta=1e-5, source=source)
    found = protector(torch.zeros(50, 400)).flatten().numpy()
    assert stats.kstest(found / protector.sigma, "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.03


def test_no_noise_is_used_twice() -> None:
    protector = noise()
    features = torch.zeros(3, 4)
    first, second = protector(features), protector(features)
    assert not torch.isclose(first, second).any()
    assert len(first.unique()) == 12
    assert not torch.isclose(copy.deepcopy(protector)(features), protector(features)).any()


@pytest.mark.parametrize("protector", [noise(), PlainNoise(1.0, SeededNoise(0))])
def test_its_source_is_neither_exchanged_nor_pickled_nor_shown(protector: GaussianNoise | PlainNoise) -> None:
    assert not protector.state_dict()
    assert "Seeded" not in repr(protector)
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(protector)


@pytest.mark.parametrize("clip", [None, 0.0, -1.0, math.inf, math.nan])
def test_noise_with_unknown_sensitivity_is_refused(clip: float | None) -> None:
    with pytest.raises(ConfigError, match="unknown sensitivity"):
        noise(clip=clip)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("protector", [noise(), PlainNoise(1.0, SeededNoise(0))])
def test_features_that_are_not_finite_are_refused(protector: GaussianNoise | PlainNoise, value: float) -> None:
    features = torch.zeros(2, 3)
    features[1, 2] = value
    with pytest.raises(PrivacyError, match="must be finite"):
        protector(features)


def test_features_without_a_batch_are_refused() -> None:
    with pytest.raises(ShapeError, match="B, C"):
        noise()(torch.zeros(4))


@pytest.mark.parametrize("shape", [(0, 4), (0, 4, 2, 2), (3, 4, 2, 2, 2)])
def test_shapes_are_kept_and_an_empty_batch_is_legal(shape: tuple[int, ...]) -> None:
    for protector in (noise(), PlainNoise(1.0, SeededNoise(0))):
        assert protector(torch.zeros(shape)).shape == shape
        assert protector(torch.zeros(shape)).dtype == torch.float32
        assert protector.out_shape(shape[1:]) == shape[1:]


def test_plain_noise_does_not_clip() -> None:
    features = torch.full((2, 5000), 100.0)
    found = PlainNoise(0.5, SeededNoise(0))(features) - features
    assert float(found.std()) == pytest.approx(0.5, rel=0.05)
    assert torch.equal(PlainNoise(0.0, SeededNoise(0))(features), features)


@pytest.mark.parametrize("std", [-1.0, math.inf, math.nan])
def test_plain_noise_needs_a_finite_strength(std: float) -> None:
    with pytest.raises(ConfigError, match="std"):
        PlainNoise(std, SeededNoise(0))

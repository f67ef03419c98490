import numpy as np
import pytest

from medfl.errors import ConfigError
from medfl.privacy.gaussian import gaussian_delta
from medfl.privacy.privacy_curve import privacy_curve
from medfl.privacy.sampled_gaussian import Adjacency, SampledGaussian, epsilon_of


def test_full_participation_has_the_curve_of_the_gaussian_mechanism() -> None:
    epsilons = np.array([0.0, 0.5, 2.0, 5.0])
    found = privacy_curve([SampledGaussian(10.0, 1.0, 100)], epsilons)
    exact = np.array([gaussian_delta(float(epsilon), 1.0, 1.0) for epsilon in epsilons])
    np.testing.assert_allclose(found, exact, rtol=0.02)
    assert (found >= exact * (1 - 1e-9)).all()


def test_a_point_of_the_curve_is_the_epsilon_that_is_claimed() -> None:
    phases = [SampledGaussian(1.0, 0.05, 100), SampledGaussian(2.0, 0.1, 50)]
    claimed = epsilon_of(phases, 1e-5, Adjacency.ADD_OR_REMOVE)
    (found,) = privacy_curve(phases, claimed)
    assert found == pytest.approx(1e-5, rel=0.05)


def test_delta_falls_with_epsilon_and_lies_between_0_and_1() -> None:
    deltas = privacy_curve([SampledGaussian(0.7, 0.1, 200)], np.linspace(0, 20, 50))
    assert (np.diff(deltas) <= 0).all()
    assert deltas[0] <= 1
    assert deltas[-1] >= 0


def test_a_curve_of_nothing_is_refused() -> None:
    phase = SampledGaussian(1.0, 0.1, 10)
    for phases, epsilons in (([], [1.0]), ([phase], [-1.0]), ([phase], [np.inf])):
        with pytest.raises(ConfigError, match="privacy curve"):
            privacy_curve(phases, epsilons)

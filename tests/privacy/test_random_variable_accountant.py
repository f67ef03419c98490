import math

import numpy as np
import pytest
from scipy.stats import norm

from medfl.privacy.random_variable_accountant import ReplacedSubjectLoss


@pytest.mark.parametrize(("sigma", "rate"), [(1.0, 0.05), (0.7, 0.5), (3.0, 0.9)])
def test_the_loss_of_a_replaced_subject_has_the_distribution_of_simulated_losses(sigma: float, rate: float) -> None:
    rng = np.random.default_rng(0)
    x = sigma * rng.standard_normal(200_000) + (rng.random(200_000) < rate)
    with_subject, replaced = ((1 - rate) * norm.pdf(x, 0, sigma) + rate * norm.pdf(x, at, sigma) for at in (1.0, -1.0))
    losses = np.log(with_subject / replaced)
    loss = ReplacedSubjectLoss(sigma, rate, -60.0, 60.0)
    grid = np.quantile(losses, np.linspace(0.01, 0.99, 25))
    np.testing.assert_allclose(loss.cdf(grid), np.searchsorted(np.sort(losses), grid) / len(losses), atol=4e-3)
    assert loss.mean() == pytest.approx(losses.mean(), abs=5 * losses.std() / math.sqrt(len(losses)))


def test_the_distribution_runs_from_nothing_to_everything() -> None:
    loss = ReplacedSubjectLoss(1.0, 0.1, -5.0, 5.0)
    values = loss.cdf(np.linspace(-6, 6, 1001))
    assert values[0] == 0.0
    assert values[-1] == 1.0
    assert (np.diff(values) >= 0).all()
    assert 0 <= loss.cut_mass() < 0.01

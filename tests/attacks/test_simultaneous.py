import numpy as np
import pytest

from medfl.attacks.simultaneous import max_t_bounds
from medfl.errors import ConfigError, ShapeError, TooFewSubjectsError


def test_bounds_hold_all_arms_together_where_single_intervals_do_not() -> None:
    generator = np.random.default_rng(0)
    truth, together, alone = np.linspace(0.5, 0.7, 6), 0, 0
    for _ in range(400):
        observed = truth + 0.02 * generator.normal(size=6)
        draws = observed + 0.02 * generator.normal(size=(300, 6))
        low, high = max_t_bounds(observed, draws)
        together += bool(((low <= truth) & (truth <= high)).all())
        single = np.quantile(draws, [0.025, 0.975], axis=0)
        alone += bool(((single[0] <= truth) & (truth <= single[1])).all())
    assert 0.91 <= together / 400 <= 0.99
    assert alone / 400 < 0.85


def test_arms_that_move_as_one_cost_no_more_than_one() -> None:
    draws = np.random.default_rng(1).normal(0.6, 0.02, (500, 1))
    alone = max_t_bounds([0.6], draws)
    assert np.allclose(max_t_bounds([0.6, 0.6, 0.6], np.repeat(draws, 3, axis=1)), np.repeat(alone, 3, axis=1))


def test_the_half_width_is_the_same_number_of_standard_deviations_in_every_arm() -> None:
    draws = np.random.default_rng(2).normal([0.5, 0.6], [0.01, 0.03], (400, 2))
    low, high = max_t_bounds([0.5, 0.6], draws)
    half = (high - low) / 2 / draws.std(axis=0, ddof=1)
    assert half[0] == pytest.approx(half[1])
    moved = np.abs(draws - [0.5, 0.6]) / draws.std(axis=0, ddof=1)
    assert (moved.max(axis=1) <= half[0]).mean() == pytest.approx(0.95, abs=0.005)


def test_an_arm_that_never_moves_has_no_width_and_costs_the_others_nothing() -> None:
    draws = np.random.default_rng(3).normal(0.6, 0.02, (200, 1))
    low, high = max_t_bounds([0.6, 1.0], np.hstack([draws, np.ones((200, 1))]))
    assert (low[1], high[1]) == (1.0, 1.0)
    assert (low[0], high[0]) == tuple(bound[0] for bound in max_t_bounds([0.6], draws))


def test_undefined_draws_are_left_out_up_to_a_tenth() -> None:
    draws = np.random.default_rng(4).normal(0.6, 0.02, (100, 2))
    draws[:10, 1] = np.nan
    assert np.array_equal(max_t_bounds([0.6, 0.6], draws), max_t_bounds([0.6, 0.6], draws[10:]))
    draws[10, 0] = np.nan
    with pytest.raises(TooFewSubjectsError, match="89 of 100"):
        max_t_bounds([0.6, 0.6], draws)


def test_shapes_and_levels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError):
        max_t_bounds([0.5, 0.5], np.zeros((10, 3)))
    with pytest.raises(ShapeError):
        max_t_bounds([np.nan], np.zeros((10, 1)))
    with pytest.raises(ConfigError):
        max_t_bounds([0.5], np.zeros((10, 1)), level=1.0)

import json
import math
from collections import Counter

import pytest
from dp_accounting import GaussianDpEvent, NeighboringRelation, PoissonSampledDpEvent, get_epsilon_gaussian
from dp_accounting.pld import PLDAccountant
from hypothesis import given, settings
from hypothesis import strategies as st

from medfl.errors import ConfigError
from medfl.privacy.composition import (
    ADD_OR_REMOVE,
    MOST_REPEATS,
    REPLACE,
    DpEvent,
    EpsilonDelta,
    Gaussian,
    NonPrivate,
    PoissonSampledGaussian,
    SelfComposed,
    composed_epsilon,
    described,
    event_from,
)

STEP = PoissonSampledGaussian(64 / 5000, 1.0)
EVENTS: tuple[DpEvent, ...] = (Gaussian(2.5), STEP, SelfComposed(STEP, 60), EpsilonDelta(8.0, 1e-5), NonPrivate())


@pytest.mark.parametrize(("adjacency", "epsilon"), [(ADD_OR_REMOVE, 4.2134), (REPLACE, 7.0596)])
def test_the_worked_vector_of_dp_sgd_is_met(adjacency: str, epsilon: float) -> None:
    assert composed_epsilon({STEP: 3000}, 1e-5, adjacency) == pytest.approx(epsilon, abs=2e-4)


@pytest.mark.parametrize(("adjacency", "moved"), [(ADD_OR_REMOVE, 1.0), (REPLACE, 2.0)])
def test_full_participation_is_the_gaussian_mechanism_in_closed_form(adjacency: str, moved: float) -> None:
    found = composed_epsilon({PoissonSampledGaussian(1.0, 12.0): 30, Gaussian(6.0): 5}, 1e-5, adjacency)
    sigma = (30 / 12.0**2 + 5 / 6.0**2) ** -0.5
    assert found == pytest.approx(get_epsilon_gaussian(sigma / moved, 1e-5), rel=1e-4)


@pytest.mark.parametrize("adjacency", [ADD_OR_REMOVE, REPLACE])
def test_grouped_events_cost_what_they_cost_one_by_one(adjacency: str) -> None:
    relations = NeighboringRelation
    relation = relations.REPLACE_ONE if adjacency == REPLACE else relations.ADD_OR_REMOVE_ONE
    accountant = PLDAccountant(relation, 1e-3)
    events: list[DpEvent] = [Gaussian(4.0), PoissonSampledGaussian(0.1, 1.0), Gaussian(3.0)]
    events += [SelfComposed(PoissonSampledGaussian(0.1, 1.0), 3)]
    for noise in (4.0, 3.0):
        accountant.compose(GaussianDpEvent(noise))
    for _ in range(4):
        accountant.compose(PoissonSampledDpEvent(0.1, GaussianDpEvent(1.0)))
    found = composed_epsilon(Counter(events), 1e-5, adjacency)
    assert found == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-3)


def test_ten_thousand_equal_events_are_one_group() -> None:
    assert composed_epsilon(Counter([STEP] * 10_000), 1e-5, REPLACE) == composed_epsilon(
        {SelfComposed(STEP, 100): 100}, 1e-5, REPLACE
    )


def test_nothing_costs_nothing_and_what_is_not_private_costs_everything() -> None:
    assert composed_epsilon({}, 1e-5, REPLACE) == 0.0
    assert composed_epsilon({NonPrivate(): 0}, 1e-5, REPLACE) == 0.0
    assert composed_epsilon({Gaussian(50.0): 1, NonPrivate(): 1}, 1e-5, REPLACE) == math.inf


@pytest.mark.parametrize(
    "events",
    [
        {Gaussian(0.01): 1},
        {PoissonSampledGaussian(0.001, 0.01): 1},
        {PoissonSampledGaussian(0.5, 0.7): 10_000},
        {SelfComposed(PoissonSampledGaussian(1e-6, 30.0), MOST_REPEATS): 11},
    ],
)
def test_noise_that_protects_nobody_is_called_infinite(events: dict[DpEvent, int]) -> None:
    assert composed_epsilon(events, 1e-5, REPLACE) == math.inf


def test_a_known_guarantee_takes_its_delta_and_leaves_the_rest_to_the_noise() -> None:
    lost = EpsilonDelta(8.0, 1e-5)
    assert composed_epsilon({lost: 1}, 1e-5, REPLACE) == 8.0
    assert composed_epsilon({lost: 1}, 0.9e-5, REPLACE) == math.inf
    assert composed_epsilon({lost: 1, Gaussian(20.0): 1}, 1e-5, REPLACE) == math.inf
    both = composed_epsilon({lost: 1, Gaussian(20.0): 1}, 2e-5, REPLACE)
    assert both == pytest.approx(8.0 + composed_epsilon({Gaussian(20.0): 1}, 1e-5, REPLACE), rel=1e-9)
    assert composed_epsilon({EpsilonDelta(0.5, 0.0): 4}, 1e-5, REPLACE) == 2.0


@given(
    st.lists(
        st.sampled_from([Gaussian(6.0), Gaussian(20.0), PoissonSampledGaussian(0.02, 1.0), EpsilonDelta(0.1, 1e-7)]),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([ADD_OR_REMOVE, REPLACE]),
)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_one_event_more_never_costs_less(events: list[DpEvent], adjacency: str) -> None:
    *fewer, _ = events
    less = composed_epsilon(Counter(fewer), 1e-5, adjacency)
    assert composed_epsilon(Counter(events), 1e-5, adjacency) >= less * (1 - 1e-6)


@pytest.mark.parametrize("event", EVENTS)
def test_a_description_is_plain_json_and_comes_back_equal(event: DpEvent) -> None:
    assert event_from(json.loads(json.dumps(described(event)))) == event


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"type": "Laplace", "noise_multiplier": 1.0},
        {"type": "Gaussian"},
        {"type": "Gaussian", "noise_multiplier": "1"},
        {"type": "Gaussian", "noise_multiplier": 1.0, "extra": 1},
        {"type": "NonPrivate", "epsilon": 1.0},
        {"type": "SelfComposed", "count": 2, "event": {"type": "NonPrivate"}},
        {"type": "SelfComposed", "count": 2, "event": described(SelfComposed(STEP, 2))},
        {"type": "SelfComposed", "count": 1.5, "event": described(STEP)},
    ],
)
def test_what_is_no_known_event_is_refused(facts: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="an event must be"):
        event_from(facts)


@pytest.mark.parametrize("noise", [0.0, -1.0, math.nan, math.inf])
def test_noise_out_of_range_is_refused(noise: float) -> None:
    with pytest.raises(ConfigError, match="noise_multiplier must be finite"):
        Gaussian(noise)
    with pytest.raises(ConfigError, match="noise_multiplier must be finite"):
        PoissonSampledGaussian(0.5, noise)


def test_every_other_number_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="sampling_probability"):
        PoissonSampledGaussian(0.0, 1.0)
    with pytest.raises(ConfigError, match="count"):
        SelfComposed(STEP, 0)
    with pytest.raises(ConfigError, match="epsilon"):
        EpsilonDelta(math.inf, 0.0)
    with pytest.raises(ConfigError, match="delta"):
        composed_epsilon({STEP: 1}, 0.0, REPLACE)
    with pytest.raises(ConfigError, match="adjacency"):
        composed_epsilon({STEP: 1}, 1e-5, "remove an image")

"""Every aggregation strategy keeps the same promises."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medfl.federation.program import Arrays
from medfl.federation.strategies.dp_fedavg import DpFedAvg
from medfl.federation.strategies.fedadam import FedAdam
from medfl.federation.strategies.fedavg import FedAvg
from medfl.federation.strategies.fedbn import FedBN
from medfl.federation.strategies.fedprox import FedProx
from medfl.federation.strategies.scaffold import Scaffold
from medfl.federation.strategies.strategy import SiteUpdate, Strategy

PARAMETERS = ("w", "norm.weight", "scale")
LOCAL = ("norm.weight", "norm.num_batches_tracked")


class Silence:
    """Noise that is none: promises about joining are kept by what is noised."""

    def normals(self, count: int, /) -> NDArray[np.float64]:
        return np.zeros(count)


MEMBERS: dict[str, Callable[[], Strategy]] = {
    "fedavg": FedAvg,
    "fedprox": lambda: FedProx(0.1),
    "fedbn": lambda: FedBN(LOCAL),
    "fedadam": lambda: FedAdam(0.1, beta_1=0.9, beta_2=0.99, tau=1e-3),
    "scaffold": lambda: Scaffold(PARAMETERS),
    "dp-fedavg": lambda: DpFedAvg(1.0, 1.0, 4, Silence()),
}
MEANS = [name for name in MEMBERS if name not in ("fedadam", "dp-fedavg")]


def model(seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        "w": rng.standard_normal((3, 2)).astype(np.float32),
        "norm.weight": rng.standard_normal(4).astype(np.float32),
        "scale": np.array(rng.standard_normal(), dtype=np.float32),
        "norm.num_batches_tracked": np.array(int(rng.integers(100)), dtype=np.int64),
        "steps": np.array(int(rng.integers(100)), dtype=np.int64),
        "mask": rng.random(3) < 0.5,
    }


def update(strategy: Strategy, start: Arrays, site: str, seed: int, studies: int) -> SiteUpdate:
    control = {name: model(seed + 1000)[name] for name in strategy.expected_control(start)}
    return SiteUpdate(site, strategy.shared(model(seed)), control, studies)


def updates(strategy: Strategy, start: Arrays, weights: Sequence[int], seed: int = 1) -> list[SiteUpdate]:
    return [update(strategy, start, f"site-{i}", seed + i, weight) for i, weight in enumerate(weights)]


def assert_equal(left: Arrays, right: Arrays) -> None:
    assert left.keys() == right.keys()
    for name, array in left.items():
        np.testing.assert_array_equal(array, right[name], err_msg=name, strict=True)


@pytest.fixture(params=MEMBERS)
def strategy(request: pytest.FixtureRequest) -> Strategy:
    return MEMBERS[request.param]()


@pytest.mark.parametrize("name", MEANS)
def test_one_site_alone_decides_the_model(name: str) -> None:
    strategy, start = MEMBERS[name](), model(0)
    (only,) = updates(strategy, start, [7])
    joined = strategy.aggregate(start, [only])
    assert_equal({key: joined[key] for key in only.model}, only.model)


def test_arrays_keep_names_shapes_and_types(strategy: Strategy) -> None:
    start = model(0)
    joined = strategy.aggregate(start, updates(strategy, start, [3, 5, 8]))
    assert joined.keys() == start.keys()
    for name, array in joined.items():
        assert isinstance(array, np.ndarray), name
        assert (array.shape, array.dtype) == (start[name].shape, start[name].dtype), name


def test_nothing_it_was_given_is_changed(strategy: Strategy) -> None:
    start, given_updates = model(0), updates(strategy, model(0), [3, 5])
    strategy.aggregate(start, given_updates)
    assert_equal(start, model(0))
    for again, one in zip(updates(strategy, model(0), [3, 5]), given_updates, strict=True):
        assert_equal(one.model, again.model)


@settings(deadline=None, max_examples=15)
@given(name=st.sampled_from(sorted(MEMBERS)), order=st.permutations(range(4)), seed=st.integers(1, 50))
def test_the_order_of_sites_does_not_matter(name: str, order: list[int], seed: int) -> None:
    start = model(0)
    joined = []
    for places in (range(4), order):
        strategy = MEMBERS[name]()
        all_updates = updates(strategy, start, [3, 5, 8, 1], seed)
        joined.append(strategy.aggregate(start, [all_updates[place] for place in places]))
    for key, array in joined[0].items():
        np.testing.assert_allclose(array, joined[1][key], rtol=1e-6, atol=1e-7, err_msg=key)


def test_a_restored_strategy_goes_on_as_if_nothing_had_happened(strategy: Strategy) -> None:
    start = model(0)
    first = strategy.aggregate(start, updates(strategy, start, [3, 5], 1))
    kept = {name: array.copy() for name, array in strategy.state().items()}
    assert all(isinstance(array, np.ndarray) for array in kept.values())
    fresh = type(strategy).__new__(type(strategy))
    fresh.__dict__.update(next(make() for make in MEMBERS.values() if type(make()) is type(strategy)).__dict__)
    fresh.restore(kept)
    assert_equal(fresh.control(first), strategy.control(first))
    following = updates(strategy, first, [2, 9], 20)
    assert_equal(fresh.aggregate(first, following), strategy.aggregate(first, following))
    assert_equal(fresh.state(), strategy.state())


def test_what_is_sent_is_part_of_the_model(strategy: Strategy) -> None:
    start = model(0)
    assert_equal(strategy.shared(start), {name: start[name] for name in strategy.shared(start)})
    assert strategy.control(start).keys() == strategy.expected_control(start).keys()


@pytest.mark.parametrize("name", MEANS)
def test_the_mean_is_weighted_by_studies(name: str) -> None:
    strategy = MEMBERS[name]()
    start = {key: np.zeros_like(array) for key, array in model(0).items()}
    ones, twos = ({key: np.full_like(array, n) for key, array in start.items()} for n in (1, 2))
    control = dict(strategy.expected_control(start))
    joined = strategy.aggregate(
        start,
        [
            SiteUpdate("a", strategy.shared(ones), control, 10),
            SiteUpdate("b", strategy.shared(twos), control, 20),
        ],
    )
    np.testing.assert_array_equal(joined["w"], np.full((3, 2), np.float32(50 / 30)))
    assert int(joined["steps"]) == 2  # 1.67, rounded


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.integers(1, 10**6), st.floats(-1e3, 1e3, width=32)), min_size=1, max_size=6))
def test_the_mean_lies_between_the_smallest_and_the_largest(sites: list[tuple[int, float]]) -> None:
    given_updates = [
        SiteUpdate(str(i), {"w": np.array([value], np.float32)}, {}, studies)
        for i, (studies, value) in enumerate(sites)
    ]
    (mean,) = FedAvg().aggregate({"w": np.zeros(1, np.float32)}, given_updates)["w"]
    values = [value for _, value in sites]
    slack = 1e-6 * max(1.0, *map(abs, values))
    assert min(values) - slack <= mean <= max(values) + slack
    expected = sum(n * v for n, v in sites) / sum(n for n, _ in sites)
    assert mean == pytest.approx(expected, rel=1e-6, abs=slack)


def test_fedprox_tells_sites_the_strength_of_the_pull() -> None:
    assert FedProx(0.25).instructions() == {"proximal-mu": 0.25}


def test_fedbn_never_sends_local_arrays_and_never_changes_them() -> None:
    strategy, start = FedBN(LOCAL), model(0)
    assert strategy.shared(start).keys() == start.keys() - set(LOCAL)
    assert strategy.instructions() == {"local-names": sorted(LOCAL)}
    joined = start
    for seed in (1, 5, 9):
        joined = strategy.aggregate(joined, updates(strategy, joined, [3, 5], seed))
    assert_equal({name: joined[name] for name in LOCAL}, {name: start[name] for name in LOCAL})
    assert not np.array_equal(joined["w"], start["w"])


def test_fedadam_takes_the_steps_of_the_paper() -> None:
    strategy = FedAdam(0.1, beta_1=0.5, beta_2=0.25, tau=0.5)
    before = {"w": np.array([1.0, -1.0], np.float64)}

    def step(sent: list[float], start: Arrays) -> Arrays:
        return strategy.aggregate(start, [SiteUpdate("a", {"w": np.array(sent)}, {}, 3)])

    # d = (2, -1); m = 0.5 d = (1, -0.5); v = 0.25 * 0.25 + 0.75 * (4, 1) = (3.0625, 0.8125)
    first = step([3.0, -2.0], before)
    np.testing.assert_allclose(first["w"], [1 + 0.1 / (1.75 + 0.5), -1 - 0.05 / (0.8125**0.5 + 0.5)], rtol=1e-12)
    # d = (0, 1); m = (0.5, 0.25); v = 0.25 (3.0625, 0.8125) + 0.75 (0, 1)
    second = step([float(first["w"][0]), float(first["w"][1]) + 1], first)
    roots = np.sqrt([0.25 * 3.0625, 0.25 * 0.8125 + 0.75])
    np.testing.assert_allclose(second["w"], first["w"] + 0.1 * np.array([0.5, 0.25]) / (roots + 0.5), rtol=1e-12)


def test_scaffold_shares_the_mean_of_the_latest_variates() -> None:
    strategy, start = Scaffold(["w"]), {"w": np.zeros(2, np.float32)}
    np.testing.assert_array_equal(strategy.control(start)["w"], [0, 0])
    both = [
        SiteUpdate("a", start, {"w": np.array([4, 0], np.float32)}, 10),
        SiteUpdate("b", start, {"w": np.array([1, 3], np.float32)}, 20),
    ]
    for _ in range(2):
        strategy.aggregate(start, both)
    np.testing.assert_allclose(strategy.control(start)["w"], [2, 2], rtol=1e-6)
    assert strategy.instructions() == {"control-variates": True}


def test_scaffold_keeps_the_last_variate_of_a_site_whose_reply_was_dropped() -> None:
    strategy, start = Scaffold(["w"]), {"w": np.zeros(1, np.float32)}
    strategy.aggregate(
        start,
        [
            SiteUpdate("a", start, {"w": np.array([4], np.float32)}, 10),
            SiteUpdate("b", start, {"w": np.array([1], np.float32)}, 20),
        ],
    )
    strategy.aggregate(start, [SiteUpdate("a", start, {"w": np.array([7], np.float32)}, 10)])
    np.testing.assert_allclose(strategy.control(start)["w"], [3], rtol=1e-6)
    resumed = Scaffold(["w"])
    resumed.restore(strategy.state())
    np.testing.assert_array_equal(resumed.control(start)["w"], strategy.control(start)["w"])

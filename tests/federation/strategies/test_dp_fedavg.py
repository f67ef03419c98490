from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medfl.errors import ConfigError, FederationError
from medfl.federation.program import Arrays
from medfl.federation.strategies.dp_fedavg import DpFedAvg
from medfl.federation.strategies.strategy import SiteUpdate
from medfl.privacy.gaussian import SeededNoise
from medfl.privacy.keystream import Keystream


class Silence:
    def normals(self, count: int, /) -> NDArray[np.float64]:
        return np.zeros(count)


def start() -> Arrays:
    return {
        "w": np.array([[1.0, -2.0], [0.5, 4.0]]),
        "bias": np.zeros(3),
        "batches": np.array(7, dtype=np.int64),
        "mask": np.array([True, False]),
    }


def reply(site: str, seed: int, *, studies: int = 1, scale: float = 1.0) -> SiteUpdate:
    rng = np.random.default_rng(seed)
    moved = {
        "w": start()["w"] + scale * rng.standard_normal((2, 2)),
        "bias": scale * rng.standard_normal(3),
        "batches": np.array(seed + 100, dtype=np.int64),
        "mask": np.array([False, True]),
    }
    return SiteUpdate(site, moved, {}, studies)


def flat(model: Arrays) -> NDArray[np.float64]:
    return np.concatenate([model["bias"], model["w"].ravel()]).astype(np.float64)


def silent(clip: float = 1.0, sites: int = 4) -> DpFedAvg:
    return DpFedAvg(clip, 1.0, sites, Silence())


def test_updates_within_the_clip_give_the_plain_mean() -> None:
    replies = [reply(f"s{number}", number, studies=10**number) for number in range(4)]
    joined = silent(clip=100.0).aggregate(start(), replies)
    np.testing.assert_allclose(flat(joined), np.mean([flat(one.model) for one in replies], axis=0), rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 10**9), min_size=3, max_size=3), st.lists(st.integers(1, 10**9), min_size=3, max_size=3))
def test_what_sites_say_about_their_studies_changes_nothing(one: list[int], other: list[int]) -> None:
    joined = [
        silent().aggregate(start(), [reply(f"s{n}", n, studies=count) for n, count in enumerate(counts)])
        for counts in (one, other)
    ]
    np.testing.assert_array_equal(flat(joined[0]), flat(joined[1]))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5), st.integers(5, 20), st.floats(1e-2, 1e3), st.floats(1e-3, 1e3))
def test_one_site_moves_the_model_by_the_clip_over_a_fixed_number_of_sites(
    replies: int, sites: int, clip: float, scale: float
) -> None:
    everybody = [reply(f"s{number}", number, scale=scale) for number in range(replies)]
    strategy = silent(clip, sites)
    whole = flat(strategy.aggregate(start(), everybody))
    for number in range(replies):
        others = [one for one in everybody if one.site != f"s{number}"]
        moved = float(np.linalg.norm(whole - flat(strategy.aggregate(start(), others))))
        assert moved <= clip / sites * (1 + 1e-9) + 1e-14
        spiteful = reply(f"s{number}", number + 77, scale=1e12)
        moved = float(np.linalg.norm(whole - flat(strategy.aggregate(start(), [*others, spiteful]))))
        assert moved <= 2 * clip / sites * (1 + 1e-9) + 1e-14


def test_a_reply_that_is_missing_counts_as_no_update() -> None:
    replies = [reply("a", 1), reply("b", 2)]
    stood_still = [SiteUpdate(site, start(), {}, 5) for site in ("c", "d")]
    few = silent().aggregate(start(), replies)
    all_of_them = silent().aggregate(start(), [*replies, *stood_still])
    np.testing.assert_array_equal(flat(few), flat(all_of_them))


def test_a_reply_that_is_not_finite_counts_as_no_update() -> None:
    spoiled = reply("b", 2)
    spoiled.model["w"][0, 0] = np.nan
    joined = silent().aggregate(start(), [reply("a", 1), spoiled])
    np.testing.assert_array_equal(flat(joined), flat(silent().aggregate(start(), [reply("a", 1)])))


def test_with_no_reply_the_model_moves_by_noise_alone() -> None:
    np.testing.assert_array_equal(flat(silent().aggregate(start(), [])), flat(start()))
    noisy = DpFedAvg(2.0, 3.0, 4, SeededNoise(0)).aggregate(start(), [])
    np.testing.assert_allclose(flat(noisy) - flat(start()), SeededNoise(0).normals(7) * 2.0 * 3.0 / 4, rtol=1e-12)


@pytest.mark.parametrize("replies", [0, 1, 3])
def test_noise_is_that_of_the_sum_over_the_number_of_sites_whoever_replied(replies: int) -> None:
    model: Arrays = {"w": np.zeros(100_000)}
    moved: Arrays = {"w": np.full(100_000, 1e-9)}
    updates = [SiteUpdate(str(number), moved, {}, 3) for number in range(replies)]
    joined = DpFedAvg(0.5, 8.0, 5, Keystream(bytes(32))).aggregate(model, updates)
    assert joined["w"].std() == pytest.approx(0.5 * 8.0 / 5, rel=0.01)
    assert abs(joined["w"].mean()) < 5 * 0.8 / np.sqrt(100_000)


def test_integer_and_boolean_arrays_are_never_touched() -> None:
    joined = DpFedAvg(1.0, 1.0, 4, SeededNoise(0)).aggregate(start(), [reply("a", 1), reply("b", 2)])
    for name in ("batches", "mask"):
        np.testing.assert_array_equal(joined[name], start()[name], strict=True)


def test_no_round_repeats_the_noise_of_another() -> None:
    strategy = DpFedAvg(1.0, 1.0, 4, SeededNoise(0))
    models = [flat(strategy.aggregate(start(), [reply("a", 1)])) for _ in range(3)]
    assert all(not np.any(one == other) for one, other in pairwise(models))
    assert strategy.state() == {}


@pytest.mark.parametrize("sites", [["a", "a"], ["a", "b", "c"]])
def test_a_site_that_counts_twice_and_a_site_too_many_are_refused(sites: list[str]) -> None:
    with pytest.raises(FederationError, match="each of 2 sites"):
        silent(sites=2).aggregate(start(), [reply(site, 1) for site in sites])


@pytest.mark.parametrize(
    ("clip", "noise", "sites", "words"),
    [(0.0, 1.0, 2, "clip"), (np.inf, 1.0, 2, "clip"), (1.0, 0.0, 2, "noise_multiplier"), (1.0, 1.0, 0, "one site")],
)
def test_settings_that_protect_nothing_are_refused(clip: float, noise: float, sites: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        DpFedAvg(clip, noise, sites, Silence())

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import stats

from medfl.errors import ConfigError, ShapeError
from medfl.privacy.gaussian import SeededNoise
from medfl.privacy.keystream import Keystream
from medfl.privacy.update_noise import clipped_total, clipped_update, moved_by, noised, noised_update

Arrays = dict[str, NDArray[Any]]
CLIPS = st.floats(1e-6, 1e6)
ROUNDED = 1.0 - 1e-5


class Silence:
    def normals(self, count: int, /) -> NDArray[np.float64]:
        return np.zeros(count)


def model(seed: int, scale: float = 1.0) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        "z.weight": (scale * rng.standard_normal((4, 3))).astype(np.float32),
        "a.bias": scale * rng.standard_normal(5),
        "half": (scale * rng.standard_normal(2)).astype(np.float16),
        "scale": np.array(scale * rng.standard_normal(), dtype=np.float32),
        "none": np.zeros((0, 3), dtype=np.float32),
        "batches": np.array(int(rng.integers(100)), dtype=np.int64),
        "mask": rng.random(3) < 0.5,
    }


def vectors(size: int) -> st.SearchStrategy[NDArray[np.float64]]:
    """Any values, huge, tiny and not finite ones among them."""
    return hnp.arrays(np.float64, size, elements=st.floats(allow_nan=True, allow_infinity=True, width=64))


@settings(max_examples=200, deadline=None)
@given(vectors(6), vectors(6), CLIPS)
def test_no_update_is_longer_than_the_clip(
    before: NDArray[np.float64], after: NDArray[np.float64], clip: float
) -> None:
    update = clipped_update({"w": before}, {"w": after}, clip)
    assert np.isfinite(update).all()
    assert np.linalg.norm(update) <= clip * ROUNDED * (1 + 1e-12)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 99), st.floats(1e-3, 1e3), CLIPS)
def test_an_update_is_shortened_and_never_turned(seed: int, scale: float, clip: float) -> None:
    before, after = model(0), model(seed, scale)
    whole = np.concatenate(
        [(after[n].astype(float) - before[n].astype(float)).ravel() for n in ("a.bias", "half", "none", "scale")]
        + [(after["z.weight"].astype(float) - before["z.weight"].astype(float)).ravel()]
    )
    expected = whole * min(1.0, clip * ROUNDED / max(float(np.linalg.norm(whole)), 1e-300))
    np.testing.assert_allclose(clipped_update(before, after, clip), expected, rtol=1e-9, atol=1e-300)


def test_an_update_within_the_clip_is_left_as_it_is() -> None:
    before, after = {"w": np.zeros(2)}, {"w": np.array([0.3, -0.4])}
    np.testing.assert_array_equal(clipped_update(before, after, 0.6), [0.3, -0.4])
    assert np.linalg.norm(clipped_update(before, after, 0.5)) <= 0.5 * ROUNDED * (1 + 1e-15)


def test_no_update_at_all_is_legal() -> None:
    np.testing.assert_array_equal(clipped_update(model(1), model(1), 1.0), np.zeros(20))
    np.testing.assert_array_equal(clipped_update({}, {}, 1.0), np.zeros(0))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_update_that_is_not_finite_is_none(value: float) -> None:
    spoiled = model(2)
    spoiled["z.weight"][0, 0] = value
    np.testing.assert_array_equal(clipped_update(model(1), spoiled, 1.0), np.zeros(20))
    too_far = {"w": np.array([1.5e308])}
    np.testing.assert_array_equal(clipped_update({"w": -too_far["w"]}, too_far, 1.0), [0.0])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 99), min_size=1, max_size=6), st.floats(1e-3, 1e3), CLIPS)
def test_one_update_more_or_less_moves_the_sum_by_the_clip_at_most(seeds: list[int], scale: float, clip: float) -> None:
    before = model(0)
    afters = [model(seed, scale) for seed in seeds]
    whole = clipped_total(before, afters, clip)
    for left_out in range(len(afters)):
        others = [*afters[:left_out], *afters[left_out + 1 :]]
        assert np.linalg.norm(whole - clipped_total(before, others, clip)) <= clip
        opposite = {name: (2.0 * before[name] - array) for name, array in afters[left_out].items() if name != "mask"}
        other = afters[left_out] | {n: a.astype(before[n].dtype) for n, a in opposite.items()}
        assert np.linalg.norm(whole - clipped_total(before, [*others, other], clip)) <= 2 * clip


def test_a_sum_over_no_update_is_zero() -> None:
    np.testing.assert_array_equal(clipped_total(model(0), [], 1.0), np.zeros(20))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 99), CLIPS, st.floats(1e-2, 1e2))
def test_integer_and_boolean_arrays_stay_as_they_were_and_types_are_kept(seed: int, clip: float, noise: float) -> None:
    before, after = model(0), model(seed)
    sent = noised_update(before, after, clip=clip, noise_multiplier=noise, source=SeededNoise(seed))
    assert sent.keys() == before.keys()
    for name, array in before.items():
        assert (sent[name].shape, sent[name].dtype) == (array.shape, array.dtype), name
        assert np.isfinite(sent[name]).all()
    for name in ("batches", "mask"):
        np.testing.assert_array_equal(sent[name], before[name])
        assert sent[name] is not before[name]


def test_nothing_that_was_given_is_changed() -> None:
    before, after = model(0), model(1)
    noised_update(before, after, clip=1.0, noise_multiplier=1.0, source=SeededNoise(0))
    for given_, again in ((before, model(0)), (after, model(1))):
        for name, array in again.items():
            np.testing.assert_array_equal(given_[name], array, strict=True)


@pytest.mark.parametrize("source", [SeededNoise(3), Keystream(bytes(range(32)))])
@pytest.mark.parametrize(("clip", "multiplier"), [(0.5, 4.0), (20.0, 0.1)])
def test_noise_has_the_scale_of_clip_times_multiplier_on_every_coordinate(
    source: SeededNoise | Keystream, clip: float, multiplier: float
) -> None:
    before = {"few": np.zeros(20_000, np.float64), "many": np.full((200, 400), 7.0)}
    after = {"few": np.zeros(20_000), "many": np.full((200, 400), 7.001)}
    sent = noised_update(before, after, clip=clip, noise_multiplier=multiplier, source=source)
    update = clipped_update(before, after, clip)
    few, many = sent["few"] - update[:20_000], (sent["many"] - 7.0).ravel() - update[20_000:]
    for noise in (few, many):
        assert noise.std() == pytest.approx(clip * multiplier, rel=0.02)
        assert stats.kstest(noise / (clip * multiplier), "norm").pvalue > 1e-4


def test_noise_does_not_follow_the_update() -> None:
    """The same noise, whatever is noised: nothing but the sum tells about the data."""
    before, quiet, loud = {"w": np.zeros(50)}, {"w": np.zeros(50)}, {"w": np.linspace(-9, 9, 50)}
    parts = []
    for after in (quiet, loud):
        sent = noised_update(before, after, clip=2.0, noise_multiplier=3.0, source=SeededNoise(1))
        parts.append(sent["w"] - clipped_update(before, after, 2.0))
    np.testing.assert_allclose(parts[0], parts[1], atol=1e-12)


def test_every_release_gets_noise_of_its_own() -> None:
    source = Keystream(bytes(32))
    first, second = (
        noised_update(model(0), model(1), clip=1.0, noise_multiplier=1.0, source=source)["a.bias"] for _ in range(2)
    )
    assert not np.any(first == second)


def test_without_noise_a_model_moves_by_its_clipped_update() -> None:
    before, after = model(0), model(1)
    update = clipped_update(before, after, 1.0)
    np.testing.assert_allclose(clipped_update(before, moved_by(before, update), 2.0), update, atol=2e-3)
    whole = {name: array.astype(np.float64) for name, array in before.items() if array.dtype.kind == "f"}
    np.testing.assert_allclose(clipped_update(whole, moved_by(whole, update), 2.0), update, atol=1e-15)


def test_values_beyond_a_type_become_its_largest() -> None:
    moved = moved_by({"w": np.zeros(2, np.float16)}, np.array([1e9, -1e9]))
    np.testing.assert_array_equal(moved["w"], np.array([65504, -65504], np.float16))


@pytest.mark.parametrize("number", [0.0, -1.0, np.inf, np.nan])
def test_a_clip_or_noise_that_is_none_is_refused(number: float) -> None:
    with pytest.raises(ConfigError, match="clip"):
        clipped_update(model(0), model(1), number)
    with pytest.raises(ConfigError, match="clip"):
        noised(np.zeros(3), clip=number, noise_multiplier=1.0, source=Silence())
    with pytest.raises(ConfigError, match="noise_multiplier"):
        noised(np.zeros(3), clip=1.0, noise_multiplier=number, source=Silence())


def test_models_that_do_not_fit_are_refused() -> None:
    less = {name: array for name, array in model(1).items() if name != "half"}
    for other in (less, model(1) | {"half": np.zeros(3, np.float16)}, model(1) | {"half": np.zeros(2, np.float32)}):
        with pytest.raises(ShapeError, match="must"):
            clipped_update(model(0), other, 1.0)
    with pytest.raises(ShapeError, match=r"shape \(20,\)"):
        moved_by(model(0), np.zeros(19))

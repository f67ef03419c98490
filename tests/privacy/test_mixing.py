import copy
import hashlib
import math
import pickle
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medfl.errors import ConfigError
from medfl.privacy.keystream import Keystream
from medfl.privacy.mixing import (
    AffineMix,
    HadamardVectorMix,
    Mixer,
    MixerName,
    block_targets,
    haar,
    make_mixer,
    make_wave,
    solve_wave,
)

KEY = bytes(range(32))
GOLDEN_HAAR = [
    [-0.23305721587922612, 0.8825160879093699, 0.40847238426577254],
    [-0.7681732197960012, -0.42463903819585225, 0.47915716798180746],
    [0.5963172297652218, -0.20210651108077318, 0.7768904167666691],
]
GOLDEN_ORDER = "c7427cc38a7d374a09acb1141ef9028758e457550b593873662027c0abaac1a4"
GOLDEN_UNIFORMS = "61fd08c7f713fd10242e594ab89305141d7f392631b99090fae760d3b821696f"


def mixer(name: MixerName, channels: int, *, key: bytes = KEY, block: int = 16) -> Mixer:
    return make_mixer(name, channels=channels, block=block, stream=Keystream(key))


def matrix(drawn: Mixer) -> torch.Tensor:
    return drawn.apply(torch.eye(drawn.channels, dtype=torch.float64))


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        *[("hadamard", channels) for channels in (1, 2, 7, 24, 80, 256, 1280)],
        *[("haar", channels) for channels in (1, 7, 256, 521, 640)],
        ("none", 5),
    ],
)
def test_every_mixer_is_orthogonal_and_its_transpose_undoes_it(name: MixerName, channels: int) -> None:
    drawn = mixer(name, channels)
    b = matrix(drawn)
    identity = torch.eye(channels, dtype=torch.float64)
    assert float((b.T @ b - identity).abs().max()) <= 1e-10
    torch.testing.assert_close(drawn.transpose(identity), b.T, rtol=0, atol=1e-12)
    features = torch.randn(channels, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.transpose(drawn.apply(features)), features, rtol=0, atol=1e-10)


def test_no_mixer_changes_nothing() -> None:
    assert torch.equal(matrix(mixer("none", 5)), torch.eye(5, dtype=torch.float64))


@pytest.mark.parametrize(("channels", "size"), [(24, 8), (80, 16), (1280, 16), (14, 2)])
def test_hadamard_is_two_rounds_of_signs_walsh_blocks_and_an_order(channels: int, size: int) -> None:
    stream = Keystream(KEY)
    walsh = torch.ones(1, 1, dtype=torch.float64)
    while len(walsh) < size:
        walsh = torch.cat([torch.cat([walsh, walsh], 1), torch.cat([walsh, -walsh], 1)])
    expected = torch.eye(channels, dtype=torch.float64)
    for _ in range(2):
        expected = torch.from_numpy(stream.signs(channels))[:, None] * expected
        expected = torch.block_diag(*[walsh / math.sqrt(size)] * (channels // size)) @ expected
        expected = expected[torch.from_numpy(stream.permutation(channels))]
    torch.testing.assert_close(matrix(mixer("hadamard", channels)), expected, rtol=0, atol=1e-14)


def test_hadamard_blocks_are_no_larger_than_asked() -> None:
    blocks = [stage.blocks[0].shape[-1] for stage in mixer("hadamard", 64, block=4).stages]
    assert blocks == [4, 4]


@pytest.mark.parametrize("channels", [521, 1025])
def test_many_odd_channels_mix_across_groups(channels: int) -> None:
    b = matrix(mixer("hadamard", channels))
    size = mixer("hadamard", channels).stages[0].blocks[0].shape[-1]
    assert size <= 512
    assert int((b[:, 0] != 0).sum()) > size


def test_haar_has_its_golden_values() -> None:
    golden = torch.tensor(GOLDEN_HAAR, dtype=torch.float64)
    torch.testing.assert_close(haar(3, Keystream(KEY)), golden, rtol=0, atol=1e-10)


def test_orders_and_uniforms_are_bit_equal_everywhere() -> None:
    order = mixer("hadamard", 1280).stages[1].order
    assert order is not None
    assert hashlib.sha256(order.numpy().astype("<i8").tobytes()).hexdigest() == GOLDEN_ORDER
    uniforms = Keystream(KEY).uniforms(1000)
    assert hashlib.sha256(uniforms.astype("<f8").tobytes()).hexdigest() == GOLDEN_UNIFORMS


@pytest.mark.parametrize("name", ["hadamard", "haar"])
def test_another_key_is_another_mixer(name: MixerName) -> None:
    overlap = (matrix(mixer(name, 256)) * matrix(mixer(name, 256, key=bytes(32)))).sum() / 256
    assert abs(float(overlap)) < 0.05


@pytest.mark.parametrize(("name", "channels"), [("hadamard", 24), ("hadamard", 80), ("haar", 521), ("none", 5)])
def test_a_merged_mixer_agrees_with_scale_mix_scale_shift(name: MixerName, channels: int) -> None:
    generator = torch.Generator().manual_seed(1)
    before, after, shift = (torch.rand(channels, generator=generator, dtype=torch.float64) + 0.5 for _ in range(3))
    features = torch.randn(channels, 6, generator=generator, dtype=torch.float64)
    drawn = mixer(name, channels)
    expected = after[:, None] * drawn.apply(before[:, None] * features) + shift[:, None]
    merged = AffineMix(drawn, before=before, after=after, shift=shift, dtype=torch.float64)
    actual = merged(features)
    torch.testing.assert_close(actual if merged.order is None else actual[merged.order], expected, rtol=0, atol=1e-12)


def test_the_form_for_one_vector_agrees_with_the_one_for_maps() -> None:
    generator = torch.Generator().manual_seed(2)
    before, after, shift = (torch.rand(1280, generator=generator, dtype=torch.float64) + 0.5 for _ in range(3))
    vector = torch.randn(1280, generator=generator, dtype=torch.float64)
    drawn = mixer("hadamard", 1280)
    assert HadamardVectorMix.fits(drawn)
    one = HadamardVectorMix(drawn, before=before, after=after, shift=shift, dtype=torch.float64)
    other = AffineMix(drawn, before=before, after=after, shift=shift, dtype=torch.float64)
    torch.testing.assert_close(one(vector), other(vector[:, None])[:, 0], rtol=0, atol=1e-12)


def test_the_wave_rises_strictly_wherever_kappa_is_below_one() -> None:
    wave = make_wave(32, kappa=0.999, omega=(1.0, 2.0), stream=Keystream(KEY))
    x = torch.linspace(-10, 10, 20_001, dtype=torch.float64)
    omega, theta, slope = wave.omega[:, None], wave.theta[:, None], wave.slope[:, None]
    assert bool((torch.diff(x + slope / omega * torch.sin(omega * x + theta), dim=1) > 0).all())


def test_wave_parameters_stay_in_their_ranges() -> None:
    wave = make_wave(4000, kappa=0.9, omega=(1.0, 2.0), stream=Keystream(KEY))
    assert 1.0 <= float(wave.omega.min()) < 1.01 < 1.99 < float(wave.omega.max()) < 2.0
    assert 0.0 <= float(wave.theta.min()) < 0.05 < 6.2 < float(wave.theta.max()) < 2 * math.pi
    assert 0.45 <= float(wave.slope.abs().min()) < 0.46 < 0.89 < float(wave.slope.abs().max()) < 0.9
    assert abs(float(wave.slope.sign().mean())) < 0.1


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20),
    st.lists(st.floats(-0.999, 0.999), min_size=20, max_size=20),
)
def test_the_wave_equation_is_solved_for_any_value_and_slope(targets: list[float], slopes: list[float]) -> None:
    target = torch.tensor(targets, dtype=torch.float64)
    slope = torch.tensor(slopes[: len(targets)], dtype=torch.float64)
    w = solve_wave(target, slope)
    error = (w + slope * torch.sin(w) - target).abs()
    assert bool((error <= 1e-12 * target.abs().clamp(min=1)).all())


def test_the_wave_equation_is_solved_near_its_flattest_points() -> None:
    turning = math.pi * torch.arange(-3, 4, dtype=torch.float64)[:, None]
    target = (turning + torch.tensor([-1e-3, -1e-7, 0.0, 1e-9, 1e-5], dtype=torch.float64)).reshape(-1)
    for sign in (-1.0, 1.0):
        slope = torch.full_like(target, sign * 0.9999)
        w = solve_wave(target, slope)
        assert float((w + slope * torch.sin(w) - target).abs().max()) <= 1e-11


@given(st.sampled_from([(4, 6), (8, 8), (4, 6, 2)]), st.binary(min_size=32, max_size=32))
def test_a_block_order_moves_blocks_whole(spatial: tuple[int, ...], key: bytes) -> None:
    block = (2, 3, 1)[: len(spatial)] if spatial[1] == 6 else (4, 2)
    target = block_targets(spatial, block, Keystream(key))
    assert np.array_equal(np.sort(target), np.arange(math.prod(spatial)))
    owner = np.ravel_multi_index(
        tuple(axis // part for axis, part in zip(np.indices(spatial), block, strict=True)),
        tuple(size // part for size, part in zip(spatial, block, strict=True)),
    ).reshape(-1)
    for number in range(owner.max() + 1):
        assert len(set(owner[target[owner == number]])) == 1


def test_positions_inside_blocks_have_orders_of_their_own() -> None:
    target = block_targets((8, 8), (4, 4), Keystream(KEY))
    blocks = target.reshape(2, 4, 2, 4).transpose(0, 2, 1, 3).reshape(4, 16)
    inside = {tuple((places // 8 % 4 * 4 + places % 4).tolist()) for places in blocks}
    assert len(inside) == 4


def test_a_block_that_does_not_divide_is_refused() -> None:
    for block in ((3, 2), (2,), (2, 2, 1)):
        with pytest.raises(ConfigError, match="block_shape"):
            block_targets((8, 8), block, Keystream(KEY))


def test_unknown_mixers_and_no_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match="mixer"):
        mixer(cast(MixerName, "dct"), 4)
    with pytest.raises(ConfigError, match="channel"):
        mixer("none", 0)


def test_keyed_values_are_not_printed_pickled_or_changed_by_copies() -> None:
    drawn = mixer("haar", 4)
    wave = make_wave(4, kappa=0.9, omega=(1.0, 2.0), stream=Keystream(KEY))
    for secret in (drawn, drawn.stages[0], wave):
        assert repr(secret) == f"<{type(secret).__name__}>"
        assert copy.deepcopy(secret) is secret
        with pytest.raises(TypeError, match="pickled"):
            pickle.dumps(secret)


def test_values_move_to_another_device_with_everything_in_them() -> None:
    moved = mixer("hadamard", 32).to(torch.device("meta"))
    assert {tensor.device.type for stage in moved.stages for tensor in (*stage.blocks, stage.signs, stage.order)} == {
        "meta"
    }

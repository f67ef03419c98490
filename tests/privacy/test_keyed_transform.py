import copy
import hashlib
import io
import logging
import math
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medfl.errors import ConfigError, KeyFileError, PrivacyError, ShapeError
from medfl.networks.split_network import SplitNetwork
from medfl.privacy.keyed_transform import KeyedNonlinearTransform, TransformSettings, key_check
from medfl.privacy.keys import ContextKey, KeyContext, MasterKey
from medfl.privacy.mixing import make_mixer, make_wave

MASTER = MasterKey(bytes(range(32)), bytes(range(32, 64)))
GOLDEN_MAP = "4a206f04ea775ec3f8bfe3dcd6653e6f1e8265e98b605e5f4eda6a51177b395b"
GOLDEN_VECTOR = "1ebd3d22745e2414065a5334bdf5e7f22c1a820222b3ceb884db8be1e0cadd0b"
DEFAULT = TransformSettings()
TEXTS = ("tenant", "site", "purpose", "model", "layer", "settings", "scope", "session", "sample")
OTHER_CONTEXTS: list[tuple[str, Any]] = [*((name, "other") for name in TEXTS), ("epoch", 1)]
VARIANTS = {
    "default": DEFAULT,
    "haar": TransformSettings(mixer="haar"),
    "no mixer": TransformSettings(mixer="none", rounds=3),
    "affine": TransformSettings(mode="affine"),
    "order only": TransformSettings(mode="affine", mixer="none"),
    "no order": TransformSettings(permutation="none"),
}


def context(shape: tuple[int, ...], chosen: TransformSettings = DEFAULT) -> KeyContext:
    return KeyContext("tenant", "", "training", "net:00", "pooled", shape, chosen.digest(), "federation", 0)


def transform(
    shape: tuple[int, ...], chosen: TransformSettings = DEFAULT, *, key: ContextKey | None = None, **statistics: Tensor
) -> KeyedNonlinearTransform:
    return KeyedNonlinearTransform(key or MASTER.derive(context(shape, chosen)), shape, chosen, **statistics)


def features(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def statistics(channels: int) -> dict[str, Tensor]:
    return {"mean": 3 * features(channels, seed=8), "scale": features(channels, seed=9).abs() + 0.1}


def reference(values: Tensor, shape: tuple[int, ...], chosen: TransformSettings, mean: Tensor, scale: Tensor) -> Tensor:
    """The definition, one operation after the other, in float64."""
    key = MASTER.derive(context(shape, chosen))
    batch, channels, positions = len(values), shape[0], math.prod(shape[1:])

    def column(per_channel: Tensor) -> Tensor:
        return per_channel.double()[:, None]

    def mixed(u: Tensor, number: int) -> Tensor:
        stream = key.stream(f"mix|{number}")
        mixer = make_mixer(chosen.mixer, channels=channels, block=chosen.block, stream=stream)
        return mixer.apply(torch.eye(channels, dtype=torch.float64)) @ u

    u = (values.double().reshape(batch, channels, positions) - column(mean)) / (column(scale) + 1e-6)
    for number in range(1, chosen.rounds + 1):
        u = mixed(u, number)
        if chosen.mode != "affine":
            wave = make_wave(channels, kappa=chosen.kappa, omega=chosen.omega, stream=key.stream(f"nl|{number}"))
            omega = column(wave.omega)
            u = u + column(wave.slope) / omega * torch.sin(omega * u + column(wave.theta))
    u = mixed(u, chosen.rounds + 1)
    if chosen.permutation == "global" and positions > 1:
        y = torch.empty_like(u)
        y[:, :, torch.from_numpy(key.stream("perm").permutation(positions))] = u
        u = y
    return u.reshape(values.shape)


@pytest.mark.parametrize("shape", [(4, 256), (1, 256), (2, 64, 14, 14), (1, 80, 5, 3), (2, 7, 3), (3, 1), (1, 24, 6)])
@pytest.mark.parametrize("chosen", [*VARIANTS.values(), TransformSettings(mode="folding", kappa=4.0, omega=(2.0, 4.0))])
def test_the_fast_form_agrees_with_the_definition(shape: tuple[int, ...], chosen: TransformSettings) -> None:
    values, public = features(*shape), statistics(shape[1])
    layer = transform(shape[1:], chosen, **public)
    expected = reference(values, shape[1:], chosen, **public)
    bound = 1e-3 if chosen.mode == "folding" else 1e-4
    torch.testing.assert_close(layer(values.double()), expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(layer(values).double(), expected, rtol=1e-5, atol=bound)


@pytest.mark.parametrize(
    "shape", [(4, 256), (1, 1280), (2, 64, 14, 14), (2, 32, 8, 8, 8), (3, 7), (3, 7, 5), (0, 64, 4)]
)
@pytest.mark.parametrize("chosen", VARIANTS.values(), ids=VARIANTS)
def test_the_key_holder_gets_the_features_back(shape: tuple[int, ...], chosen: TransformSettings) -> None:
    public = statistics(shape[1])
    layer = transform(shape[1:], chosen, **public)
    mean, scale = (public[name].view(1, -1, *[1] * (len(shape) - 2)) for name in ("mean", "scale"))
    for dtype, bound in ((torch.float64, 1e-10), (torch.float32, 1e-4)):
        values = (mean + scale * features(*shape, dtype=torch.float64)).to(dtype)
        keyed = layer(values)
        assert keyed.shape == values.shape
        assert keyed.dtype == dtype
        back = layer.inverse(keyed)
        assert back.dtype == dtype
        torch.testing.assert_close(back, values, rtol=0, atol=bound)


def test_a_large_batch_is_its_images_one_by_one() -> None:
    layer, values = transform((24, 40, 40)), features(9, 24, 40, 40)
    assert values[:4].numel() > 131_072
    one_by_one = torch.cat([layer(image[None]) for image in values])
    torch.testing.assert_close(layer(values), one_by_one, rtol=0, atol=1e-5)


def test_half_precision_features_come_out_as_float32() -> None:
    assert transform((16,))(features(2, 16, dtype=torch.float16)).dtype == torch.float32


def test_another_key_does_not_undo_it() -> None:
    values = features(200, 256, dtype=torch.float64)
    other = transform((256,), key=MASTER.derive(replace(context((256,)), epoch=1)))
    keyed = transform((256,))(values)
    for wrong in (other.inverse(keyed), keyed):
        assert abs(float(nn.functional.cosine_similarity(wrong, values).mean())) < 0.05


@pytest.mark.parametrize("change", [{name: value} for name, value in OTHER_CONTEXTS])
def test_any_other_context_is_another_key_id_and_another_order(change: dict[str, Any]) -> None:
    shape, chosen = (4, 12, 12), TransformSettings(mode="affine", mixer="none")
    own = transform(shape, chosen)
    other = transform(shape, chosen, key=MASTER.derive(replace(context(shape, chosen), **change)))
    assert own.key_id != other.key_id
    places = torch.arange(4.0 * 144).view(1, *shape)
    assert not torch.equal(own(places), other(places))


def test_the_same_key_is_the_same_transform_on_every_platform() -> None:
    values = features(2, 24, 4, 4)
    assert torch.equal(transform((24, 4, 4))(values), transform((24, 4, 4))(values))
    assert hashlib.sha256(key_check(transform((24, 4, 4)))).hexdigest() == GOLDEN_MAP
    assert hashlib.sha256(key_check(transform((1280,)))).hexdigest() == GOLDEN_VECTOR


def test_a_key_check_notices_another_key_other_settings_and_other_statistics() -> None:
    own = key_check(transform((64,)))
    assert own == key_check(transform((64,)))
    assert own != key_check(transform((64,), key=MASTER.derive(replace(context((64,)), epoch=1))))
    assert own != key_check(transform((64,), TransformSettings(kappa=0.8), key=MASTER.derive(context((64,)))))
    assert own != key_check(transform((64,), mean=torch.ones(64)))
    assert len(key_check(transform((8, 40, 40)))) <= 4 * 4096


def test_mean_over_positions_does_not_see_the_order() -> None:
    shape = (32, 6, 5)
    key = MASTER.derive(context(shape))
    values = features(2, *shape, dtype=torch.float64)
    moved, unmoved = (transform(shape, TransformSettings(permutation=p), key=key)(values) for p in ("global", "none"))
    assert not torch.allclose(moved, unmoved)
    torch.testing.assert_close(moved.mean((2, 3)), unmoved.mean((2, 3)), rtol=0, atol=1e-12)


def test_a_position_wise_tail_may_run_on_moved_maps() -> None:
    shape = (16, 5, 5)
    order = transform(shape, TransformSettings(mode="affine", mixer="none"))
    order_of_logits = transform(
        (3, 5, 5), TransformSettings(mode="affine", mixer="none"), key=MASTER.derive(context(shape, order.settings))
    )
    tail = nn.Sequential(nn.Conv2d(16, 8, 1), nn.ReLU(), nn.Conv2d(8, 3, 1)).double()
    values = features(2, *shape, dtype=torch.float64)
    returned = order_of_logits.inverse(tail(order(values)))
    torch.testing.assert_close(returned, tail(values), rtol=0, atol=1e-12)


@given(
    st.integers(0, 10**6),
    st.floats(0.05, 0.95),
    st.integers(1, 3),
    st.sampled_from(["hadamard", "haar", "none"]),
    st.floats(1e-3, 1e3),
)
@settings(max_examples=40, deadline=None)
def test_distances_under_one_key_change_within_the_stated_factors(
    seed: int, kappa: float, rounds: int, mixer: Any, spread: float
) -> None:
    layer = transform((12, 4), TransformSettings(kappa=kappa, rounds=rounds, mixer=mixer))
    a, b = spread * features(2, 5, 12, 4, seed=seed, dtype=torch.float64)
    ratio = (layer(a) - layer(b)).flatten(1).norm(dim=1) / (a - b).flatten(1).norm(dim=1)
    assert bool((ratio >= (1 - kappa) ** rounds - 1e-9).all())
    assert bool((ratio <= (1 + kappa) ** rounds + 1e-9).all())


def test_folding_brings_different_features_together_and_has_no_inverse() -> None:
    layer = transform((1,), TransformSettings(mode="folding", kappa=4.0, omega=(2.0, 4.0), rounds=1))
    line = layer(torch.linspace(-4, 4, 4001, dtype=torch.float64)[:, None])[:, 0]
    steps = torch.diff(line).sign()
    assert set(steps.tolist()) == {-1.0, 1.0}
    with pytest.raises(ConfigError, match="no inverse"):
        layer.inverse(torch.zeros(1, 1))


@pytest.mark.parametrize("shape", [(1, 80), (3, 16), (2, 7, 4)])
def test_gradients_agree_with_finite_differences_both_ways(shape: tuple[int, ...]) -> None:
    layer = transform(shape[1:], **statistics(shape[1]))
    values = features(*shape, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(layer, (values,), atol=1e-6, fast_mode=True)
    keyed = layer(values).detach().requires_grad_()
    assert torch.autograd.gradcheck(layer.inverse, (keyed,), atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("shape", [(1, 1280), (3, 80), (1, 320, 7, 7), (2, 24, 5, 5)])
@pytest.mark.parametrize("chosen", [DEFAULT, TransformSettings(mixer="none")])
def test_values_do_not_depend_on_whether_autograd_watches(shape: tuple[int, ...], chosen: TransformSettings) -> None:
    layer, values = transform(shape[1:], chosen), features(*shape)
    watched = layer(values.clone().requires_grad_())
    with torch.inference_mode():
        unwatched = layer(values)
    torch.testing.assert_close(watched.detach(), unwatched, rtol=0, atol=0)
    assert watched.requires_grad


@pytest.mark.parametrize("chosen", VARIANTS.values(), ids=VARIANTS)
def test_features_that_are_handed_in_stay_as_they_are(chosen: TransformSettings) -> None:
    for shape in ((1, 80), (1, 8, 4), (2, 8, 4)):
        values = features(*shape)
        before = values.clone()
        keyed = transform(shape[1:], chosen)(values)
        transform(shape[1:], chosen).inverse(keyed)
        keyed.zero_()
        assert torch.equal(values, before)


def test_a_transform_first_used_in_inference_mode_can_still_be_trained_through() -> None:
    with torch.inference_mode():
        layer = transform((80,), **statistics(80))
        layer(features(1, 80, dtype=torch.float64))
    values = features(1, 80, dtype=torch.float64).requires_grad_()
    layer(values).sum().backward()
    assert values.grad is not None


def test_autocast_does_not_lower_the_precision() -> None:
    layer, values = transform((80, 3)), features(2, 80, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        keyed = layer(values)
        back = layer.inverse(keyed)
    torch.testing.assert_close(keyed, layer(values), rtol=0, atol=0)
    torch.testing.assert_close(back, values, rtol=0, atol=1e-4)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("chosen", VARIANTS.values(), ids=VARIANTS)
def test_nothing_is_released_of_features_that_are_not_finite(bad: float, chosen: TransformSettings) -> None:
    for shape in ((1, 80), (2, 8, 4)):
        values = features(*shape)
        values[(-1,) * len(shape)] = bad
        layer = transform(shape[1:], chosen)
        for direction in (layer, layer.inverse):
            with pytest.raises(PrivacyError, match=r"[Nn]othing was released"):
                direction(values)


def test_large_but_finite_features_are_not_mistaken_for_infinite_ones() -> None:
    values = torch.full((4, 8), 1e38)
    assert bool(torch.isfinite(transform((8,), TransformSettings(mode="affine", permutation="none"))(values)).all())


@pytest.mark.parametrize("shape", [(2, 8, 4, 5), (2, 9, 4, 4), (2, 8, 16), (8, 4, 4), (2, 8, 4, 4, 1)])
def test_features_of_another_shape_than_the_keys_are_refused(shape: tuple[int, ...]) -> None:
    layer = transform((8, 4, 4))
    for direction in (layer, layer.inverse):
        with pytest.raises(ShapeError, match="key is for"):
            direction(torch.zeros(shape))


def test_whole_numbers_are_refused() -> None:
    with pytest.raises(ShapeError, match="floating"):
        transform((8,))(torch.zeros(2, 8, dtype=torch.int64))


REFUSED: dict[str, list[dict[str, Any]]] = {
    "kappa": [{"kappa": value} for value in (1.0, 0.0, -0.5, math.nan)],
    "kappa must be above 1": [{"mode": "folding", "kappa": value} for value in (0.9, 1.0, math.inf)],
    "omega": [{"omega": value} for value in ((0.0, 1.0), (2.0, 1.0), (1.0,), (1.0, math.inf))],
    "rounds": [{"rounds": value} for value in (0, 9, True)],
    "block must": [{"block": value} for value in (12, 1, 2048)],
    "must be one of": [{name: "rot13"} for name in ("mode", "mixer", "permutation")],
    "block_shape": [{"permutation": "block"}, {"block_shape": (2,)}, {"permutation": "block", "block_shape": (2, 0)}],
    "change nothing": [{"mode": "affine", "mixer": "none", "permutation": "none"}],
}


@pytest.mark.parametrize(("words", "change"), [(words, change) for words in REFUSED for change in REFUSED[words]])
def test_settings_out_of_range_are_refused(words: str, change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=words):
        TransformSettings(**change)


def test_a_digest_changes_with_every_setting() -> None:
    one = {"mode": "affine", "rounds": 3, "kappa": 0.8, "omega": (1.0, 3.0), "mixer": "haar", "block": 8}
    changes: list[dict[str, Any]] = [{name: value} for name, value in {**one, "permutation": "none"}.items()]
    changes += [{"permutation": "block", "block_shape": (2, size)} for size in (2, 4)]
    digests = {TransformSettings(**change).digest() for change in [{}, *changes]}
    assert len(digests) == len(changes) + 1
    assert TransformSettings().digest() == DEFAULT.digest()


def test_too_many_positions_for_one_order_ask_for_blocks() -> None:
    with pytest.raises(ConfigError, match="block"):
        transform((2, 65_537))
    chosen = TransformSettings(permutation="block", block_shape=(32, 32, 32))
    values = features(1, 2, 64, 64, 32)
    layer = transform((2, 64, 64, 32), chosen)
    torch.testing.assert_close(layer.inverse(layer(values)), values, rtol=0, atol=1e-4)


def test_shapes_and_statistics_that_do_not_fit_are_refused() -> None:
    for shape in ((), (0,), (8, 0), (8, 1, 1, 1, 1)):
        with pytest.raises(ShapeError, match="shape"):
            transform(shape, key=MASTER.derive(context((8,))))
    with pytest.raises(ShapeError, match="statistics"):
        transform((8,), mean=torch.zeros(7))
    with pytest.raises(ConfigError, match="finite"):
        transform((8,), mean=torch.full((8,), math.nan))
    with pytest.raises(ConfigError, match="scale"):
        transform((8,), scale=torch.full((8,), -1.0))


def split_network(layer: KeyedNonlinearTransform) -> SplitNetwork:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8))
    return SplitNetwork(backbone, layer, nn.Conv2d(8, 2, 1), frozen_backbone=False)


def test_a_network_trains_through_it_and_exchanges_nothing_of_it() -> None:
    network = split_network(transform((8, 4, 4))).train()
    network(features(2, 1, 4, 4)).square().sum().backward()
    gradient = network.backbone.get_parameter("0.weight").grad
    assert gradient is not None
    assert float(gradient.abs().max()) > 0
    assert all(name.startswith(("backbone.", "head.")) for name in network.shared_state())
    image = features(2, 1, 4, 4)
    network.eval()
    torch.testing.assert_close(copy.deepcopy(network)(image), network(image), rtol=0, atol=0)


def test_casts_leave_the_keyed_values_alone() -> None:
    layer, values = transform((80, 3)), features(2, 80, 3)
    expected = layer(values)
    torch.testing.assert_close(layer.half()(values), expected, rtol=0, atol=0)
    torch.testing.assert_close(layer.double().to(torch.bfloat16)(values), expected, rtol=0, atol=0)


def test_moving_to_a_device_moves_the_keyed_values() -> None:
    layer = transform((80, 3))
    twin = copy.deepcopy(layer).to("meta")
    assert twin._keyed.forward(torch.zeros(2, 80, 3, device="meta")).device.type == "meta"
    assert layer(features(2, 80, 3)).device.type == "cpu"


def test_nothing_keyed_is_stored_printed_pickled_or_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    layer = transform((64, 3))
    layer.inverse(layer(features(2, 64, 3)))
    network = nn.Sequential(layer)
    assert dict(network.state_dict()) == {}
    assert list(network.parameters()) == []
    assert list(network.buffers()) == []
    for shown in (repr(network), str(vars(layer)), str(layer.describe())):
        assert layer.key_id in shown
        assert "tensor" not in shown.lower()
        assert MASTER.derive(context((64, 3))).component("perm").hex() not in shown
    assert caplog.records == []
    for store in (pickle.dumps, copy.copy, lambda it: torch.save(it, io.BytesIO())):
        with pytest.raises(TypeError, match="pickled"):
            store(layer)
    with pytest.raises(TypeError, match="pickled"):
        torch.save(network, io.BytesIO())


def test_a_description_of_another_key_or_other_settings_is_refused() -> None:
    layer = transform((64,))
    layer.confirm(transform((64,)).describe())
    for other in (
        transform((64,), key=MASTER.derive(replace(context((64,)), epoch=1))),
        transform((64,), TransformSettings(kappa=0.8), key=MASTER.derive(context((64,)))),
    ):
        with pytest.raises(KeyFileError, match="another transform"):
            layer.confirm(other.describe())
    with pytest.raises(KeyFileError):
        layer.confirm({})

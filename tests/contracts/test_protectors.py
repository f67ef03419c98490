"""Every protector keeps the same promises."""

import copy
import pickle
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from medfl.errors import MedFLError
from medfl.networks.split_network import SplitNetwork
from medfl.privacy.ablations import ChannelProjection, Quantization
from medfl.privacy.bottleneck import TaskBottleneck
from medfl.privacy.directions import Directions
from medfl.privacy.gaussian import GaussianNoise, PlainNoise, SeededNoise
from medfl.privacy.keyed_transform import KeyedNonlinearTransform, TransformSettings
from medfl.privacy.keys import KeyContext, MasterKey
from medfl.privacy.protector import FeatureProtector, NoProtection, ProtectorChain
from medfl.privacy.saturation import Reach, Saturation
from medfl.privacy.standardization import Standardization

CHANNELS = 8
SHAPES = ((CHANNELS,), (CHANNELS, 4, 6), (CHANNELS, 2, 3, 4))
SECRET = b"\x07" * 32


def keyed(shape: tuple[int, ...], mode: Literal["invertible", "affine"] = "invertible") -> FeatureProtector:
    chosen = TransformSettings(mode=mode)
    context = KeyContext(
        tenant="t",
        site="",
        purpose="features",
        model="m",
        layer="l",
        shape=shape,
        settings=chosen.digest(),
        scope="federation",
        epoch=1,
    )
    return KeyedNonlinearTransform(MasterKey(SECRET, SECRET).derive(context), shape, chosen)


def directions(k: int) -> Directions:
    return Directions(np.zeros(CHANNELS), np.random.default_rng(0).normal(size=(k, CHANNELS)))


def gaussian() -> FeatureProtector:
    return GaussianNoise(clip=1.0, epsilon=4.0, delta=1e-5, source=SeededNoise(0))


MEMBERS: dict[str, Callable[[tuple[int, ...]], FeatureProtector]] = {
    "none": lambda shape: NoProtection(),
    "standardization": lambda shape: Standardization(np.zeros(CHANNELS), np.ones(CHANNELS)),
    "bottleneck": lambda shape: TaskBottleneck(directions(3)),
    "saturation": lambda shape: Saturation(Reach(np.zeros(CHANNELS), np.ones(CHANNELS))),
    "knt": lambda shape: keyed(shape),
    "affine": lambda shape: keyed(shape, mode="affine"),
    "bottleneck+knt": lambda shape: ProtectorChain([TaskBottleneck(directions(3)), keyed((3, *shape[1:]))]),
    "gaussian": lambda shape: gaussian(),
    "bottleneck+gaussian": lambda shape: ProtectorChain([TaskBottleneck(directions(3)), gaussian()]),
    "knt+gaussian": lambda shape: ProtectorChain([gaussian(), keyed(shape)]),
    "matched-noise": lambda shape: PlainNoise(1.0, SeededNoise(0)),
    "projection": lambda shape: ChannelProjection(CHANNELS, 3, seed=0),
    "quantise": lambda shape: Quantization(3),
}


@pytest.fixture(params=MEMBERS)
def member(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_shape_is_the_one_announced_and_the_dtype_float32(member: str, shape: tuple[int, ...]) -> None:
    protector = MEMBERS[member](shape)
    out = protector(torch.randn(5, *shape))
    assert tuple(out.shape) == (5, *protector.out_shape(shape))
    assert out.dtype == torch.float32
    assert bool(out.isfinite().all())


@pytest.mark.parametrize("shape", SHAPES)
def test_no_features_give_no_features(member: str, shape: tuple[int, ...]) -> None:
    protector = MEMBERS[member](shape)
    assert tuple(protector(torch.zeros(0, *shape)).shape) == (0, *protector.out_shape(shape))


def test_nothing_of_it_is_exchanged_between_sites(member: str) -> None:
    protector = MEMBERS[member](SHAPES[0])
    channels = protector.out_shape(SHAPES[0])[0]
    network = SplitNetwork(nn.Identity(), protector, nn.Linear(channels, 2), frozen_backbone=True)
    assert set(network.shared_state()) == {"head.weight", "head.bias"}
    assert list(protector.parameters()) == []


@pytest.mark.parametrize("member", [name for name in MEMBERS if name != "quantise"])  # steps have no slope
def test_it_works_inside_a_network_in_training_and_lets_gradients_through(member: str) -> None:
    protector = MEMBERS[member](SHAPES[0])
    channels = protector.out_shape(SHAPES[0])[0]
    network = SplitNetwork(nn.Linear(4, CHANNELS), protector, nn.Linear(channels, 2), frozen_backbone=False).train()
    network(torch.randn(6, 4) * 0.1).square().sum().backward()
    gradient = network.backbone.weight.grad
    assert gradient is not None
    assert bool(gradient.isfinite().all())
    assert float(gradient.abs().sum()) > 0


def test_no_secret_is_shown_or_pickled(member: str) -> None:
    protector = MEMBERS[member](SHAPES[0])
    assert SECRET.hex() not in repr(protector)
    assert SECRET.hex() not in str(protector.__dict__)
    try:
        packed = pickle.dumps(protector)
    except (TypeError, MedFLError):
        return
    assert "knt" not in member
    assert "affine" not in member
    assert SECRET not in packed


@pytest.mark.parametrize("member", [name for name in MEMBERS if "gaussian" not in name and "noise" not in name])
def test_a_copy_protects_in_the_same_way(member: str) -> None:
    protector = MEMBERS[member](SHAPES[1])
    features = torch.randn(2, *SHAPES[1])
    torch.testing.assert_close(copy.deepcopy(protector)(features), protector(features), rtol=0, atol=0)

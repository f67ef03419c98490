"""The frozen backbone can be cut at several layers, and its heads fit what comes out."""

import pytest
import torch

from medfl.errors import ConfigError
from medfl.networks.backbones import EfficientNetLite0
from medfl.networks.heads import map_head, pooling_head, vector_head

LAYERS = {"pooled": 1, "stride32": 32, "stride16": 16, "stride8": 8, "stride4": 4}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_has_the_shape_it_announces(layer: str) -> None:
    torch.set_num_threads(1)
    backbone = EfficientNetLite0(layer).eval()
    with torch.inference_mode():
        features = backbone(torch.rand(2, 1, 64, 96))
    assert tuple(features.shape[1:]) == backbone.shape((64, 96))
    assert features.is_contiguous()


def test_the_last_map_leads_to_the_pooled_features() -> None:
    torch.set_num_threads(1)
    image = torch.rand(1, 1, 64, 64)
    whole, cut = EfficientNetLite0().eval(), EfficientNetLite0("stride32").eval()
    with torch.inference_mode():
        network = whole.network
        rest = network._swish(network._bn1(network._conv_head(cut(image)))).mean(dim=(-2, -1))
        torch.testing.assert_close(rest, whole(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", LAYERS)
def test_the_normalization_of_a_layer_is_known_without_a_picture(layer: str) -> None:
    backbone = EfficientNetLite0(layer)
    facts = backbone.normalization((64, 64))
    assert facts.mean.shape == facts.std.shape == (backbone.channels,)
    assert bool((facts.std > 0).all())
    assert facts.rectified_positions == (4 if layer == "pooled" else 0)


def test_maps_need_a_size() -> None:
    assert EfficientNetLite0().shape(None) == (1280,)
    with pytest.raises(ConfigError, match=r"preprocessing\.size"):
        EfficientNetLite0("stride8").shape(None)


@pytest.mark.parametrize("hidden", [0, 5])
def test_heads_of_vectors_and_maps_give_one_logit_per_class(hidden: int) -> None:
    vectors = vector_head(features=7, classes=3, dropout=0.0, hidden=hidden)
    maps = pooling_head(features=7, classes=3, dropout=0.0, hidden=hidden)
    assert vectors(torch.rand(2, 7)).shape == (2, 3)
    assert maps(torch.rand(2, 7, 4, 5)).shape == (2, 3)


def test_a_pooling_head_does_not_care_where_things_are() -> None:
    head = pooling_head(features=4, classes=2, dropout=0.0, hidden=6).eval()
    features = torch.rand(3, 4, 5, 5)
    moved = features.flatten(2)[:, :, torch.randperm(25)].view_as(features)
    torch.testing.assert_close(head(moved), head(features))


def test_a_map_head_writes_masks_of_the_pictures_size() -> None:
    head = map_head(features=4, classes=3, hidden=8, stride=8)
    assert head(torch.rand(2, 4, 5, 6)).shape == (2, 3, 40, 48)

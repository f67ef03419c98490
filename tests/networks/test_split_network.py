import pytest
import torch
from torch import Tensor, nn

from medfl.networks.heads import vector_head, voxel_head
from medfl.networks.split_network import SplitNetwork
from medfl.privacy.protector import FeatureProtector, NoProtection


class Doubling(FeatureProtector):
    name = "doubling"

    def forward(self, features: Tensor) -> Tensor:
        return features * 2


def network(*, frozen: bool, protector: nn.Module | None = None) -> SplitNetwork:
    backbone = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Dropout(0.5))
    head = voxel_head(dimensions=2, features=3, classes=2)
    return SplitNetwork(backbone, protector or NoProtection(), head, frozen_backbone=frozen)


def test_features_are_always_those_behind_the_protector() -> None:
    split = network(frozen=True, protector=Doubling())
    image = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(split.features(image), 2 * split.backbone(image), rtol=0, atol=0)
    torch.testing.assert_close(split(image), split.head(2 * split.backbone(image)), rtol=0, atol=0)


def test_a_frozen_backbone_stays_as_it_is_through_training() -> None:
    split = network(frozen=True).train()
    assert split.training
    assert split.head.training
    assert not any(module.training for module in split.backbone.modules())
    assert not any(parameter.requires_grad for parameter in split.backbone.parameters())
    before = {name: tensor.clone() for name, tensor in split.backbone.state_dict().items()}
    split(torch.randn(4, 1, 8, 8)).sum().backward()
    for name, tensor in split.backbone.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    assert split.head.weight.grad is not None


def test_a_frozen_backbone_is_not_exchanged_and_another_one_is() -> None:
    assert set(network(frozen=True).shared_state()) == {"head.weight", "head.bias"}
    assert set(network(frozen=False).shared_state()) == set(network(frozen=False).state_dict())


def test_a_backbone_that_is_not_frozen_trains() -> None:
    split = network(frozen=False).train()
    assert all(module.training for module in split.backbone.modules())
    assert not split.eval().backbone.training


def test_the_shared_state_is_live() -> None:
    split = network(frozen=False)
    with torch.no_grad():
        split.shared_state()["head.bias"].fill_(7)
    assert bool((split.head.bias == 7).all())


@pytest.mark.parametrize("frozen", [True, False])
def test_no_images_give_no_logits(frozen: bool) -> None:
    assert network(frozen=frozen).eval()(torch.zeros(0, 1, 8, 8)).shape == (0, 2, 8, 8)


def test_heads_have_the_shapes_they_promise() -> None:
    assert voxel_head(dimensions=3, features=4, classes=3)(torch.zeros(2, 4, 5, 6, 7)).shape == (2, 3, 5, 6, 7)
    assert vector_head(features=4, classes=3, dropout=0.5)(torch.zeros(2, 4)).shape == (2, 3)


def test_a_protector_without_a_body_says_so() -> None:
    with pytest.raises(TypeError, match="FeatureProtector must implement"):
        FeatureProtector()(torch.zeros(1))

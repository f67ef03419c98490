"""Every backbone takes part in training, in the same way."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from medfl.networks.backbones import EFFICIENTNET_FEATURES, EfficientNetLite0, densenet, unet
from medfl.networks.heads import vector_head, voxel_head
from medfl.networks.split_network import SplitNetwork
from medfl.privacy.protector import NoProtection
from medfl.training.loop import train_batches
from medfl.training.losses import Loss, classification_loss, segmentation_loss
from medfl.training.optimizers import AdamW

Built = tuple[SplitNetwork, Tensor, Tensor, Loss]
SIZE = 16


def segmentation(dimensions: int, norm: str) -> Callable[[], Built]:
    def build() -> Built:
        backbone = unet(
            dimensions=dimensions,
            in_channels=1,
            features=4,
            channels=(4, 8),
            strides=(2,),
            residual_units=1,
            norm=norm,
            dropout=0.0,
        )
        head = voxel_head(dimensions=dimensions, features=4, classes=3)
        image = torch.randn(2, 1, *(SIZE,) * dimensions)
        target = (image > 0.5).long() + (image > 1.5).long()
        return SplitNetwork(backbone, NoProtection(), head, frozen_backbone=False), image, target, segmentation_loss()

    return build


def classification(dimensions: int) -> Callable[[], Built]:
    def build() -> Built:
        backbone, features = densenet(
            dimensions=dimensions, in_channels=1, initial_features=4, growth_rate=2, block_layers=(1, 1)
        )
        image, target = torch.randn(4, 1, *(SIZE,) * dimensions), torch.tensor([0, 1, 1, 0])
        head = vector_head(features=features, classes=2, dropout=0.0)
        network = SplitNetwork(backbone, NoProtection(), head, frozen_backbone=False)
        return network, image, target, classification_loss()

    return build


def frozen() -> Built:
    head = vector_head(features=EFFICIENTNET_FEATURES, classes=2, dropout=0.0)
    network = SplitNetwork(EfficientNetLite0(), NoProtection(), head, frozen_backbone=True)
    return network, torch.randn(4, 1, 64, 64), torch.tensor([0, 1, 1, 0]), classification_loss()


MEMBERS = {
    **{f"unet-{d}d-{norm}": segmentation(d, norm) for d in (2, 3) for norm in ("instance", "batch", "group")},
    "densenet-2d": classification(2),
    "densenet-3d": classification(3),
    "efficientnet_lite0": frozen,
}


@pytest.fixture(params=MEMBERS)
def built(request: pytest.FixtureRequest) -> Built:
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MEMBERS[request.param]()


def test_training_on_one_batch_lowers_its_loss(built: Built) -> None:
    network, image, target, loss = built
    optimizer = AdamW(network.parameters(), weight_decay=0.0)
    results = [
        train_batches(network, [(image, target)], loss=loss, optimizer=optimizer, learning_rate=lambda step: 5e-3)
        for _ in range(6)
    ]
    assert results[-1].loss < 0.97 * results[0].loss
    assert all(result.studies == len(image) and result.steps == 1 for result in results)


def test_every_trained_array_gets_a_finite_gradient(built: Built) -> None:
    network, image, target, loss = built
    loss(network.train()(image), target).backward()
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained
    for name, parameter in trained.items():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name


def test_prediction_takes_images_one_by_one(built: Built) -> None:
    network, image, _, _ = built
    network.eval()
    with torch.inference_mode():
        together = network(image)
        torch.testing.assert_close(network(image[:1]), together[:1], rtol=1e-4, atol=1e-5)
        assert network.features(image).shape[0] == len(image)


@pytest.mark.parametrize("member", [name for name in MEMBERS if not name.endswith("instance")])
def test_no_images_give_no_logits_except_with_instance_norm_which_torch_refuses(member: str) -> None:
    network, image, _, _ = MEMBERS[member]()
    with torch.inference_mode():
        assert len(network.eval()(image[:0])) == 0


def test_grey_and_colored_images_of_equal_channels_have_equal_frozen_features() -> None:
    torch.set_num_threads(1)
    network = EfficientNetLite0().eval()
    image = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(network(image), network(image.repeat(1, 3, 1, 1)), rtol=0, atol=0)
        assert network(image).shape == (1, EFFICIENTNET_FEATURES)

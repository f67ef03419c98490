import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import WeightedRandomSampler

from medfl.errors import ConfigError, PrivacyError
from medfl.networks.backbones import densenet, unet
from medfl.networks.heads import voxel_head
from medfl.networks.split_network import SplitNetwork
from medfl.privacy.dp_guard import guard, set_out_of_place
from medfl.privacy.keystream import Keystream
from medfl.privacy.protector import NoProtection
from medfl.privacy.subject_sampling import PoissonSubjects
from medfl.training.losses import classification_loss, segmentation_loss

IMAGE = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 1])


def sampler() -> PoissonSubjects:
    return PoissonSubjects([[0], [1]], 0.5, source=Keystream(bytes(32)))


def judged(network: nn.Module, image: Tensor = IMAGE, target: Tensor = LABELS) -> tuple[str, ...]:
    return guard(network, classification_loss(), image, target, sampler=sampler(), loss_name="cross-entropy")


def with_layer(layer: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), layer, nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 2))


STATISTICS = {
    "batch norm": nn.BatchNorm2d(4),
    "batch norm without parameters": nn.BatchNorm2d(4, affine=False),
    "frozen batch norm in training mode": nn.BatchNorm2d(4).requires_grad_(False),
    "batch norm without running statistics": nn.BatchNorm2d(4, track_running_stats=False),
    "instance norm with running statistics": nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
    "the same without parameters": nn.InstanceNorm2d(4, affine=False, track_running_stats=True),
}


@pytest.mark.parametrize("layer", STATISTICS.values(), ids=STATISTICS)
def test_every_layer_that_takes_statistics_of_the_batch_is_refused_by_name(layer: nn.Module) -> None:
    with pytest.raises(PrivacyError, match=rf"1 \({type(layer).__name__}\) takes statistics"):
        judged(with_layer(layer))


@pytest.mark.parametrize("layer", [nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.InstanceNorm2d(4, affine=True)])
def test_normalization_of_one_study_alone_is_accepted(layer: nn.Module) -> None:
    network = with_layer(layer).eval()
    assert judged(network) == ("2",)
    assert network.training


def test_a_frozen_backbone_in_evaluation_mode_may_have_statistics() -> None:
    backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    head = nn.Linear(144, 2)
    judged(SplitNetwork(backbone, NoProtection(), head, frozen_backbone=True))
    with pytest.raises(PrivacyError, match=r"backbone\.1 \(BatchNorm2d\)"):
        judged(SplitNetwork(backbone, NoProtection(), head, frozen_backbone=False))


def test_the_networks_of_medfl_with_batch_norm_are_refused_and_the_others_are_not() -> None:
    def split(norm: str) -> SplitNetwork:
        backbone = unet(
            dimensions=2,
            in_channels=1,
            features=4,
            channels=(4, 8),
            strides=(2,),
            residual_units=1,
            norm=norm,
            dropout=0.1,
        )
        head = nn.Sequential(voxel_head(dimensions=2, features=4, classes=2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return SplitNetwork(backbone, NoProtection(), head, frozen_backbone=False)

    image = torch.randn(3, 1, 16, 16)
    judged(split("instance"), image)
    judged(split("group"), image)
    with pytest.raises(PrivacyError, match="BatchNorm2d"):
        judged(split("batch"), image)
    backbone, features = densenet(dimensions=2, in_channels=1, initial_features=4, growth_rate=2, block_layers=(1, 1))
    with pytest.raises(PrivacyError, match="BatchNorm2d"):
        judged(SplitNetwork(backbone, NoProtection(), nn.Linear(features, 2), frozen_backbone=False), image)


def test_activations_are_set_out_of_place_and_values_stay_the_same() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 4), nn.LeakyReLU(0.1, inplace=True))
    image = torch.randn(5, 4)
    before = network(image)
    assert set_out_of_place(network) == ("1", "3")
    assert torch.equal(network(image), before)
    assert set_out_of_place(network) == ()


def test_a_module_that_remembers_the_data_in_a_buffer_of_its_own_is_refused() -> None:
    class Remembers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, image: Tensor) -> Tensor:
            if self.training:
                self.seen += image.mean()
            return image

    network = with_layer(Remembers())
    with pytest.raises(PrivacyError, match=r"the buffer 1\.seen changes"):
        judged(network)
    assert not network[1].seen.any()


def test_a_module_that_mixes_studies_is_refused_by_name() -> None:
    class Centers(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image - image.mean(dim=0, keepdim=True)

    with pytest.raises(PrivacyError, match="1 mixes the studies"):
        judged(with_layer(Centers()))


def test_dropout_is_not_taken_for_mixing() -> None:
    judged(nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Dropout(0.5), nn.Linear(64, 2)))


def test_a_loss_over_the_batch_is_refused_and_one_over_studies_is_not() -> None:
    network = nn.Conv2d(1, 3, 1)
    target = torch.randint(0, 3, (3, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    with pytest.raises(PrivacyError, match="'batch Dice' is not a mean over studies"):
        guard(network, segmentation_loss(), IMAGE, target, sampler=sampler(), loss_name="batch Dice")

    def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, target[:, 0])

    guard(network, cross_entropy, IMAGE, target, sampler=sampler(), loss_name="cross-entropy")

    def summed(logits: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, target[:, 0], reduction="sum")

    with pytest.raises(PrivacyError, match="'sum' is not a mean"):
        guard(network, summed, IMAGE, target, sampler=sampler(), loss_name="sum")


def test_other_samplers_are_refused_by_name_together_with_everything_else() -> None:
    weighted = WeightedRandomSampler([0.1, 0.9], 2)
    with pytest.raises(PrivacyError, match=r"WeightedRandomSampler does not draw.*BatchNorm2d"):
        guard(
            with_layer(nn.BatchNorm2d(4)),
            classification_loss(),
            IMAGE,
            LABELS,
            sampler=weighted,
            loss_name="cross-entropy",
        )


def test_one_study_is_too_few_to_try_with() -> None:
    with pytest.raises(ConfigError, match="at least two studies"):
        judged(with_layer(nn.GroupNorm(2, 4)), IMAGE[:1], LABELS[:1])

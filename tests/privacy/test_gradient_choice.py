from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from medfl.errors import PrivacyError
from medfl.networks.heads import vector_head
from medfl.privacy.gradient_choice import choose_method, try_methods
from medfl.privacy.subject_gradients import METHODS, Loss, Stacked, SubjectBatch, SubjectGradients, by_loop
from medfl.training.losses import classification_loss


def batch(value: float | None = None) -> SubjectBatch:
    image = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    if value is not None:
        image[0] = value
    return SubjectBatch(image, torch.tensor([0, 1, 1, 0]), torch.arange(4))


def head() -> nn.Module:
    return vector_head(features=6, classes=2, dropout=0.3, hidden=5).train()


def off_by_a_little(network: nn.Module, loss: Loss, drawn: SubjectBatch) -> Iterator[SubjectGradients]:
    for gradients in by_loop(network, loss, drawn):
        yield [Stacked(one.dense() * 1.0001) for one in gradients]


def broken(network: nn.Module, loss: Loss, drawn: SubjectBatch) -> Iterator[SubjectGradients]:
    raise RuntimeError("no rule for this layer")


def test_a_method_that_is_wrong_or_fails_is_never_chosen() -> None:
    methods = {"loop": by_loop, "off": off_by_a_little, "broken": broken}
    trials = {t.method: t for t in try_methods(head(), classification_loss(), batch(), repeats=1, methods=methods)}
    assert trials["off"].refused == "differs from the loop"
    assert trials["off"].difference == pytest.approx(1e-4, rel=0.1)
    assert trials["broken"].refused == "RuntimeError"
    assert trials["loop"].refused == ""


def test_the_choice_is_one_that_was_right() -> None:
    network = head()
    assert choose_method(network, classification_loss(), batch(), repeats=1) in METHODS
    assert network.training
    assert all(module.training for module in network.modules())


def test_what_only_the_loop_can_do_is_left_to_the_loop() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(2))

        def forward(self, image: Tensor) -> Tensor:
            scale = self.scale if float(image.sum()) > -1e9 else -self.scale
            return image[:, :2] * scale

    assert choose_method(Branches().train(), classification_loss(), batch(), repeats=1) in ("loop", "hooks")


def test_gradients_that_are_not_finite_cannot_be_compared() -> None:
    with pytest.raises(PrivacyError, match="must be finite"):
        choose_method(head(), classification_loss(), batch(float("nan")), repeats=1)

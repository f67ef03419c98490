import pytest
import torch
from torch import Tensor, nn

from medfl.errors import ConfigError
from medfl.training.optimizers import SGD, AdamW, LocalOptimizer, make_optimizer

SHAPES = ((3, 4), (5,), (2, 1, 3))
RATES = [0.1 / (1 + step) for step in range(20)]


def parameters() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def gradients(step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def trained(ours: LocalOptimizer, theirs: torch.optim.Optimizer, left: list[Tensor], right: list[Tensor]) -> None:
    for step, rate in enumerate(RATES):
        ours.zero_grad()
        for group in theirs.param_groups:
            group["lr"] = rate
        for a, b, gradient in zip(left, right, gradients(step), strict=True):
            a.grad, b.grad = gradient.clone(), gradient.clone()
        ours.step(rate)
        theirs.step()
        for a, b in zip(left, right, strict=True):
            assert torch.equal(a, b), f"step {step}"


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_adamw_is_that_of_torch_bit_for_bit(weight_decay: float) -> None:
    left, right = parameters(), parameters()
    trained(
        AdamW(left, weight_decay=weight_decay),
        torch.optim.AdamW(right, lr=1.0, weight_decay=weight_decay, fused=True),
        left,
        right,
    )


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_sgd_is_that_of_torch_bit_for_bit(momentum: float, weight_decay: float) -> None:
    left, right = parameters(), parameters()
    theirs = torch.optim.SGD(
        right, lr=1.0, momentum=momentum, weight_decay=weight_decay, nesterov=momentum > 0, fused=True
    )
    trained(SGD(left, momentum=momentum, weight_decay=weight_decay), theirs, left, right)


def test_frozen_parameters_are_left_alone() -> None:
    free, frozen = parameters()[:2]
    frozen.requires_grad_(False)
    before = frozen.clone()
    optimizer = AdamW([free, frozen], weight_decay=0.1)
    free.grad = torch.ones_like(free)
    optimizer.step(0.1)
    assert torch.equal(frozen, before)
    assert len(optimizer.parameters) == 1


def test_a_missing_gradient_counts_as_zero() -> None:
    (parameter,) = parameters()[:1]
    before = parameter.detach().clone()
    SGD([parameter], momentum=0.9, weight_decay=0.0).step(0.1)
    assert torch.equal(parameter, before)


def test_the_kind_decides_the_optimizer() -> None:
    assert isinstance(make_optimizer("adamw", parameters(), momentum=0.9, weight_decay=0.1), AdamW)
    assert isinstance(make_optimizer("sgd", parameters(), momentum=0.9, weight_decay=0.1), SGD)
    with pytest.raises(ConfigError, match="'adam'"):
        make_optimizer("adam", parameters(), momentum=0.9, weight_decay=0.1)

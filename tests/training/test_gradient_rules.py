import torch
from torch import Tensor, nn

from medfl.training.gradient_rules import ControlVariate, GradientRule, Proximal


def parameters(*, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in ((3, 2), (4,))]


def test_the_pull_is_the_gradient_of_the_proximal_term() -> None:
    mu, local, reference = 0.3, parameters(seed=1), parameters(seed=2)
    task = sum((p**3).sum() for p in local)
    term = mu / 2 * sum(((p - r.detach()) ** 2).sum() for p, r in zip(local, reference, strict=True))
    expected = torch.autograd.grad(task + term, local)
    torch.autograd.backward([sum((p**3).sum() for p in local)])
    Proximal(mu, [r.detach() for r in reference]).apply(local)
    for parameter, wanted in zip(local, expected, strict=True):
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-12, atol=1e-12)


def test_the_reference_does_not_follow_the_model() -> None:
    local = parameters(seed=1)
    rule = Proximal(1.0, [p.detach() for p in local])
    before = [p.detach().clone() for p in local]
    with torch.no_grad():
        for p in local:
            p.add_(2.0)
    for p in local:
        p.grad = torch.zeros_like(p)
    rule.apply(local)
    for p, start in zip(local, before, strict=True):
        torch.testing.assert_close(p.grad, p.detach() - start)


def test_a_control_variate_corrects_each_step_and_remembers_the_mean_of_the_raw_gradients() -> None:
    local = parameters(seed=1)
    rule = ControlVariate([torch.full_like(p.detach(), 10.0) for p in local])
    for value in (1.0, 2.0, 6.0):
        for p in local:
            p.grad = torch.full_like(p, value)
        rule.apply(local)
        for p in local:
            assert p.grad is not None
            assert bool((p.grad == value + 10.0).all())
    assert all(bool((variate == 3.0).all()) for variate in rule.next_variate())


def test_without_steps_the_next_variate_is_zero() -> None:
    assert all(bool((v == 0).all()) for v in ControlVariate([torch.ones(3), torch.ones(2)]).next_variate())


def test_parameters_without_a_gradient_are_passed_over() -> None:
    local = parameters(seed=1)
    for rule in (
        GradientRule(),
        Proximal(1.0, [p.detach() for p in local]),
        ControlVariate([p.detach() for p in local]),
    ):
        rule.apply(local)
        assert all(p.grad is None for p in local)

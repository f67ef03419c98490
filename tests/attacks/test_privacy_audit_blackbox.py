import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from medfl.attacks.one_run_audit import one_run_bound
from medfl.attacks.privacy_audit import verdict
from medfl.attacks.privacy_audit_blackbox import black_box_bounds
from medfl.errors import ShapeError

DELTA, CANDIDATES, FEATURES = 1e-5, 400, 300


def coins(seed: int) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random(CANDIDATES) < 0.5


def losses_after(steps: int, included: NDArray[np.bool_], seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Losses on all candidates, before and after training on those who were included; labels say nothing."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(CANDIDATES, FEATURES, generator=generator)
    target = torch.randint(0, 2, (CANDIDATES,), generator=generator)
    network = nn.Linear(FEATURES, 2)
    with torch.no_grad():
        network.weight.zero_()
        network.bias.zero_()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)

    def losses() -> NDArray[np.float64]:
        with torch.no_grad():
            found: NDArray[np.float64] = nn.functional.cross_entropy(network(image), target, reduction="none").numpy()
        return found

    before, inside = losses(), torch.from_numpy(included)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(image[inside]), target[inside]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return before, losses()


def test_a_model_that_learned_by_heart_contradicts_a_claim() -> None:
    included = coins(0)
    _, losses = losses_after(300, included, 0)
    for bound in black_box_bounds(losses, included, delta=DELTA):
        assert verdict(bound, 1.0).flagged
        assert bound.epsilon <= bound.ceiling


def test_a_model_that_never_saw_anybody_gives_nothing() -> None:
    for seed in range(5):
        _, losses = losses_after(300, coins(seed), seed)
        for bound in black_box_bounds(losses, coins(100 + seed), delta=DELTA):
            assert bound.epsilon < 0.3
            assert not verdict(bound, 1.0).flagged


def test_a_reference_takes_away_how_hard_a_candidate_is() -> None:
    rng = np.random.default_rng(200)
    included, hard = coins(2), 5 * rng.random(CANDIDATES)
    losses = hard - 0.5 * included + 0.1 * rng.normal(size=CANDIDATES)
    plain, _ = black_box_bounds(losses, included, delta=DELTA)
    compared, _ = black_box_bounds(losses, included, delta=DELTA, reference_losses=hard)
    assert compared.epsilon > plain.epsilon + 1
    assert compared == one_run_bound(hard - losses, included, delta=DELTA)


def test_losses_that_do_not_fit_are_refused() -> None:
    included = coins(3)
    good = np.zeros(CANDIDATES)
    with pytest.raises(ShapeError, match="both models"):
        black_box_bounds(good, included, delta=DELTA, reference_losses=good[1:])
    with pytest.raises(ShapeError, match="finite"):
        black_box_bounds(np.full(CANDIDATES, np.inf), included, delta=DELTA)

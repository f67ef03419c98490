from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medfl.training.gradient_rules import Proximal
from medfl.training.loop import train_batches
from medfl.training.losses import classification_loss
from medfl.training.optimizers import SGD, AdamW


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))


def batches(seed: int = 0, sizes: tuple[int, ...] = (4, 4, 2)) -> list[tuple[Tensor, Tensor]]:
    rng = np.random.default_rng(seed)
    return [
        (torch.from_numpy(rng.standard_normal((n, 4)).astype(np.float32)), torch.from_numpy(rng.integers(0, 2, n)))
        for n in sizes
    ]


def trained(seed: int) -> dict[str, Tensor]:
    model = network()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        train_batches(
            model,
            batches(),
            loss=classification_loss(),
            optimizer=AdamW(model.parameters(), weight_decay=0.01),
            learning_rate=lambda step: 0.01,
        )
    return model.state_dict()


def test_the_seed_decides_the_result() -> None:
    first, again, other = trained(1), trained(1), trained(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_the_loss_is_the_mean_over_studies_not_over_batches() -> None:
    model = nn.Linear(4, 2)
    data = batches()
    with torch.no_grad():
        image, target = torch.cat([b[0] for b in data]), torch.cat([b[1] for b in data])
        expected = float(classification_loss()(model(image), target))
    result = train_batches(
        model,
        data,
        loss=classification_loss(),
        optimizer=SGD(model.parameters(), momentum=0.0, weight_decay=0.0),
        learning_rate=lambda step: 0.0,
    )
    assert result.loss == pytest.approx(expected, rel=1e-6)
    assert (result.studies, result.steps) == (10, 3)


def test_no_step_is_longer_than_the_norm_allows() -> None:
    model = nn.Linear(4, 2, bias=False)
    before = model.weight.detach().clone()
    train_batches(
        model,
        batches(sizes=(6,)),
        loss=lambda logits, target: 1000 * classification_loss()(logits, target),
        optimizer=SGD(model.parameters(), momentum=0.0, weight_decay=0.0),
        learning_rate=lambda step: 1.0,
        max_gradient_norm=0.5,
    )
    assert float((model.weight.detach() - before).norm()) == pytest.approx(0.5, rel=1e-4)


def test_rules_act_before_clipping_and_the_rate_knows_its_step() -> None:
    model, steps = nn.Linear(4, 2), []

    def rate(step: int) -> float:
        steps.append(step)
        return 0.1

    pull = Proximal(1e6, [torch.full_like(p, 3.0) for p in model.parameters()])
    before = [p.detach().clone() for p in model.parameters()]
    train_batches(
        model,
        batches(sizes=(4,)),
        loss=classification_loss(),
        optimizer=SGD(model.parameters(), momentum=0.0, weight_decay=0.0),
        learning_rate=rate,
        rules=[pull],
        max_gradient_norm=1.0,
    )
    moved = torch.cat([(p.detach() - b).flatten() for p, b in zip(model.parameters(), before, strict=True)])
    towards = torch.cat([(3.0 - b).flatten() for b in before])
    assert float(moved.norm()) == pytest.approx(0.1, rel=1e-4)
    assert float(nn.functional.cosine_similarity(moved, towards, dim=0)) > 0.999
    assert steps == [0]


def test_an_empty_batch_counts_as_a_step_and_moves_nothing() -> None:
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = train_batches(
        model,
        batches(sizes=(0,)),
        loss=classification_loss(),
        optimizer=SGD(model.parameters(), momentum=0.9, weight_decay=0.0),
        learning_rate=lambda step: 1.0,
        max_gradient_norm=1.0,
    )
    assert (result.loss, result.studies, result.steps) == (0.0, 0, 1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_no_batches_is_no_training() -> None:
    model = network()
    result = train_batches(
        model,
        [],
        loss=classification_loss(),
        optimizer=SGD(model.parameters(), momentum=0.9, weight_decay=0.0),
        learning_rate=lambda step: 1.0,
    )
    assert (result.loss, result.studies, result.steps) == (0.0, 0, 0)

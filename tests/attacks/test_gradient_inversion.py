import inspect
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from medfl.attacks.gradient_inversion import (
    Reconstruction,
    analytic_inputs,
    cosine_distance,
    invert_update,
    reconstruct_from_update,
    rows_agree,
    total_variation,
    update_as_gradient,
)
from medfl.attacks.gradient_inversion_results import InversionCase, evaluate_gradient_inversion
from medfl.attacks.image_similarity import ssim
from medfl.data.phantom_anatomy import at_visit, draw_anatomy, draw_site_effect, render
from medfl.errors import ConfigError, ShapeError, TooFewSubjectsError
from medfl.training.optimizers import make_optimizer

SIZE = 16
TARGET = torch.tensor([1])


def phantom(seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    anatomy = at_visit(draw_anatomy(rng, 2, has_finding=True), rng)
    return render(anatomy, draw_site_effect(rng, 2, 0.5), (SIZE, SIZE), rng)[0]


def small_network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1),
            nn.Sigmoid(),
            nn.Flatten(),
            nn.Linear(8 * (SIZE // 2) ** 2, 4, bias=False),
        )


def gradients(network: nn.Module, images: Tensor, targets: Tensor) -> Sequence[Tensor]:
    value = nn.functional.cross_entropy(network(images), targets)
    return torch.autograd.grad(value, list(network.parameters()), create_graph=True)


def linear_gradients(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    layer = nn.Linear(inputs.shape[1], 5).double()
    loss = nn.functional.cross_entropy(layer(inputs), targets)
    weight, bias = torch.autograd.grad(loss, [layer.weight, layer.bias])
    return weight, bias


@given(st.integers(0, 10_000), st.integers(2, 40))
def test_the_input_of_a_linear_layer_is_solved_for_exactly(seed: int, width: int) -> None:
    x = torch.randn(1, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    candidates = analytic_inputs(*linear_gradients(x, torch.tensor([2])))
    assert torch.allclose(candidates, x.expand(5, -1), atol=1e-5)
    assert rows_agree(candidates)


@given(st.integers(0, 10_000), st.integers(2, 6))
def test_rows_disagree_for_a_batch_of_several(seed: int, batch: int) -> None:
    x = torch.randn(batch, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert not rows_agree(analytic_inputs(*linear_gradients(x, torch.arange(batch) % 5)))


def test_rows_without_a_bias_gradient_are_left_out() -> None:
    rows = analytic_inputs(torch.tensor([[2.0, 4.0], [1.0, 1.0], [3.0, 6.0]]), torch.tensor([1.0, 0.0, -3.0]))
    assert rows.tolist() == [[-1.0, -2.0], [2.0, 4.0]]
    assert not rows_agree(rows)
    assert not rows_agree(rows[:1])
    with pytest.raises(ShapeError):
        analytic_inputs(torch.zeros(3, 2), torch.zeros(2))


@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_only_the_direction_of_a_gradient_counts(seed: int, scale: float) -> None:
    a, b = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert float(cosine_distance(list(a), [scale * one for one in a])) == pytest.approx(0, abs=1e-9)
    assert float(cosine_distance(list(a), list(-a))) == pytest.approx(2)
    assert float(cosine_distance(list(scale * a), list(b))) == pytest.approx(float(cosine_distance(list(a), list(b))))


def test_total_variation_adds_the_steps_along_every_axis() -> None:
    ramp = torch.arange(4.0).reshape(1, 1, 4, 1, 1).expand(1, 1, 4, 4, 4)
    assert float(total_variation(ramp)) == 1.0
    assert float(total_variation(ramp + 2 * ramp.transpose(2, 3))) == 3.0
    assert float(total_variation(torch.ones(2, 1, 4, 4))) == 0.0


@pytest.fixture(scope="module")
def prior() -> NDArray[np.float32]:
    return np.mean([phantom(seed) for seed in range(100, 140)], axis=0)


def attacked(image: NDArray[np.float32], *, noise: float = 0.0, steps: int = 120, restarts: int = 1) -> Reconstruction:
    network = small_network()
    observed = [one.detach() for one in gradients(network, torch.from_numpy(image)[None, None], TARGET)]
    generator = torch.Generator().manual_seed(7)
    observed = [one + noise * torch.randn(one.shape, generator=generator) for one in observed]
    return invert_update(
        lambda images, targets: gradients(network, images, targets),
        observed,
        (1, 1, SIZE, SIZE),
        TARGET,
        steps=steps,
        tv=1e-3,
        seed=0,
        restarts=restarts,
    )


def as_case(number: int, found: Reconstruction) -> InversionCase:
    return InversionCase(f"s{number}", phantom(number), found.images[:, 0].numpy())


def strangers(count: int = 19) -> NDArray[np.float32]:
    return np.stack([phantom(seed) for seed in range(20, 20 + count)])


def test_an_untrained_network_gives_single_images_away(prior: NDArray[np.float32]) -> None:
    cases = [as_case(number, attacked(phantom(number))) for number in range(2)]
    rank, gain = evaluate_gradient_inversion(
        cases, prior, strangers(), name="cosine", setting="", budget="batch 1", attacker_subjects=40, seconds=0.0
    )
    assert gain.ci_low > 0.2
    assert (rank.value, rank.chance) == (1.0, 0.05)


def test_noise_in_place_of_the_update_gives_nothing_away(prior: NDArray[np.float32]) -> None:
    cases = [as_case(number, attacked(phantom(number), noise=1000.0)) for number in range(2)]
    rank, gain = evaluate_gradient_inversion(
        cases, prior, strangers(), name="cosine", setting="", budget="batch 1", attacker_subjects=40, seconds=0.0
    )
    assert gain.ci_high < 0.05
    assert rank.ci_low < rank.chance


def test_the_search_cannot_see_an_original() -> None:
    names = set(inspect.signature(invert_update).parameters) | set(
        inspect.signature(reconstruct_from_update).parameters
    )
    assert not {name for name in names if "original" in name or "truth" in name}


def test_other_originals_change_judgement_but_no_reconstruction(prior: NDArray[np.float32]) -> None:
    found = [attacked(phantom(number), steps=40, restarts=2) for number in range(2)]
    kept = [one.images.clone() for one in found]

    def judged(order: list[int]) -> float:
        cases = [InversionCase(f"s{n}", phantom(n), found[place].images[:, 0].numpy()) for place, n in enumerate(order)]
        results = evaluate_gradient_inversion(
            cases, prior, strangers(), name="c", setting="", budget="", attacker_subjects=40, seconds=0.0
        )
        return results[0].value

    assert (judged([0, 1]), judged([1, 0])) == (1.0, 0.0)
    again = [attacked(phantom(number), steps=40, restarts=2) for number in range(2)]
    assert all(
        torch.equal(a, b.images) and torch.equal(a, c.images) for a, b, c in zip(kept, found, again, strict=True)
    )


def test_a_search_may_begin_with_the_mean_image_and_then_does_no_worse(prior: NDArray[np.float32]) -> None:
    network, image = small_network(), phantom(4)
    observed = [one.detach() for one in gradients(network, torch.from_numpy(image)[None, None], TARGET)]

    def searched(steps: int, start: Tensor | None) -> Reconstruction:
        shape = (1, 1, SIZE, SIZE)
        return invert_update(
            lambda images, targets: gradients(network, images, targets),
            observed,
            shape,
            TARGET,
            steps=steps,
            tv=1e-3,
            seed=0,
            restarts=1,
            start=start,
            rate=0.04,
        )

    mean = torch.from_numpy(prior)[None]
    assert searched(20, mean).objective < searched(20, None).objective
    with pytest.raises(ShapeError, match="start"):
        searched(1, mean[0])


def test_a_further_restart_never_has_a_worse_objective() -> None:
    image = phantom(3)
    one, three = attacked(image, steps=15), attacked(image, steps=15, restarts=3)
    assert three.objective <= one.objective
    assert float(three.images.min()) >= 0
    assert float(three.images.max()) <= 1


@pytest.mark.parametrize(("optimizer", "local"), [("sgd", 1), ("adam", 1), ("sgd", 3)])
def test_a_real_update_is_inverted_from_the_weights_alone(
    optimizer: str, local: int, prior: NDArray[np.float32]
) -> None:
    image, network = phantom(5), small_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    rate = 0.01
    kind = "adamw" if optimizer == "adam" else "sgd"
    local_optimizer = make_optimizer(kind, network.parameters(), momentum=0.0, weight_decay=0.01)
    for _ in range(local):
        for parameter, slope in zip(
            network.parameters(), gradients(network, torch.from_numpy(image)[None, None], TARGET), strict=True
        ):
            parameter.grad = slope.detach()
        local_optimizer.step(rate)
    after = network.state_dict()
    found = reconstruct_from_update(
        network,
        nn.functional.cross_entropy,
        before,
        after,
        rate,
        (1, 1, SIZE, SIZE),
        TARGET,
        optimizer="adam" if optimizer == "adam" else "sgd",
        weight_decay=0.01,
        local_steps=local,
        steps=200,
    )
    assert ssim(found.images[0, 0].numpy(), image, 1.0) > ssim(prior, image, 1.0) + 0.1
    assert all(torch.equal(after[name], value) for name, value in network.state_dict().items())


@given(st.integers(0, 1000), st.floats(1e-4, 0.1), st.floats(0, 0.1))
@settings(max_examples=30)
def test_one_step_of_either_optimizer_gives_the_gradient_back(seed: int, rate: float, decay: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(50, generator=generator, dtype=torch.float64)
    gradient = 1e-3 * torch.randn(50, generator=generator, dtype=torch.float64)
    for kind in ("sgd", "adam"):
        parameter = weight.clone().requires_grad_()
        parameter.grad = gradient.clone() if kind == "adam" else gradient
        make_optimizer("adamw" if kind == "adam" else "sgd", [parameter], momentum=0.0, weight_decay=decay).step(rate)
        (found,) = update_as_gradient(
            [weight], [parameter.detach()], rate, optimizer="adam" if kind == "adam" else "sgd", weight_decay=decay
        )
        assert torch.allclose(found, gradient, rtol=1e-3, atol=1e-7)


def test_settings_out_of_range_are_refused() -> None:
    ones = [torch.ones(3)]

    def search(observed: Sequence[Tensor], steps: int) -> Reconstruction:
        return invert_update(
            lambda images, targets: [images.flatten()[:3]],
            observed,
            (1, 1, 2, 2),
            TARGET,
            steps=steps,
            tv=0.0,
            seed=0,
            restarts=1,
        )

    with pytest.raises(ConfigError, match="steps"):
        search(ones, 0)
    with pytest.raises(ShapeError, match="not all zero"):
        search([torch.zeros(3)], 5)
    with pytest.raises(ConfigError, match="learning_rate"):
        update_as_gradient(ones, ones, 0.0, optimizer="sgd")
    with pytest.raises(ShapeError, match="same shapes"):
        update_as_gradient(ones, [torch.ones(2)], 0.1, optimizer="sgd")
    with pytest.raises(ShapeError, match="every trained parameter"):
        reconstruct_from_update(
            nn.Linear(2, 2), nn.functional.cross_entropy, {}, {}, 0.1, (1, 1, 2, 2), TARGET, optimizer="sgd"
        )


OPTIONS = {"name": "x", "setting": "", "budget": "batch 1"}


def test_a_gain_is_relative_to_the_prior_and_subjects_weigh_the_same() -> None:
    pool = np.random.default_rng(0).random((6, SIZE, SIZE))
    prior = pool.mean(axis=0)
    good, bad = InversionCase("a", pool[0], pool[:1]), InversionCase("b", pool[1], prior[None])
    once = evaluate_gradient_inversion([good, bad], prior, pool[2:], attacker_subjects=6, seconds=0.0, **OPTIONS)
    many = evaluate_gradient_inversion([good] * 5 + [bad], prior, pool[2:], attacker_subjects=6, seconds=0.0, **OPTIONS)
    priors = [ssim(prior, pool[0], 1.0), ssim(prior, pool[1], 1.0)]
    assert once[1].value == pytest.approx((1 - priors[0]) / sum(priors))
    assert many[1].value == pytest.approx(once[1].value)
    assert many[0].value == pytest.approx(once[0].value)
    nothing = evaluate_gradient_inversion(
        [InversionCase("a", pool[0], prior[None]), bad], prior, pool[2:], attacker_subjects=6, seconds=0.0, **OPTIONS
    )[1]
    assert (nothing.value, nothing.ci_low, nothing.ci_high) == (0.0, 0.0, 0.0)
    assert next(one for one in once[1].further if one.name == "psnr").value is None


def test_an_image_without_structure_is_named_by_chance_alone() -> None:
    pool = np.random.default_rng(0).random((6, SIZE, SIZE))
    flat = np.full((1, SIZE, SIZE), 0.5)
    cases = [InversionCase("a", pool[0], flat), InversionCase("b", pool[1], flat)]
    rank = evaluate_gradient_inversion(
        cases, pool[2:].mean(axis=0), pool[2:], attacker_subjects=1, seconds=0.0, **OPTIONS
    )[0]
    assert rank.chance == 0.2
    assert rank.value == pytest.approx(rank.chance)
    with pytest.raises(TooFewSubjectsError):
        evaluate_gradient_inversion(cases[:1], flat[0], pool[2:], attacker_subjects=1, seconds=0.0, **OPTIONS)
    with pytest.raises(ShapeError, match="others"):
        evaluate_gradient_inversion(cases, flat[0], pool[:0], attacker_subjects=1, seconds=0.0, **OPTIONS)


def test_reconstructions_of_nothing_name_nobody_more_often_than_guessing() -> None:
    rng = np.random.default_rng(0)
    pool = rng.random((300, 40))
    cases = [InversionCase(str(n), pool[n], rng.random((4, 40)), n % 4) for n in range(150)]
    rank, *rest = evaluate_gradient_inversion(
        cases, pool[150:].mean(axis=0), pool[150:], gallery=10, attacker_subjects=1, seconds=0.0, **OPTIONS
    )
    assert not rest
    assert rank.ci_low < 0.1 < rank.ci_high


def test_galleries_are_averaged_over_all_that_can_be_drawn() -> None:
    rng = np.random.default_rng(1)
    pool = rng.random((22, 40))
    rebuilt = 0.3 * pool[:2] + rng.random((2, 40))
    prior = rng.random(40)
    cases = [InversionCase(str(n), pool[n], rebuilt[n : n + 1]) for n in range(2)]
    whole = evaluate_gradient_inversion(cases, prior, pool[2:], gallery=6, attacker_subjects=1, seconds=0.0, **OPTIONS)
    drawn = [rng.permutation(20)[:5] for _ in range(600)]
    some = [
        evaluate_gradient_inversion(cases, prior, pool[2:][d], gallery=6, attacker_subjects=1, seconds=0.0, **OPTIONS)
        for d in drawn
    ]
    assert whole[0].value == pytest.approx(np.mean([rows[0].value for rows in some]), abs=0.04)


def test_what_targets_alone_tell_names_nobody() -> None:
    rng = np.random.default_rng(2)
    looks = rng.random((120, 60))
    told = 2 * rng.random((120, 60))  # what the target says of each image
    pool = looks + told
    prior, others = pool[80:100].mean(axis=0), pool[60:80]

    def named(rebuilt: NDArray[np.float64], twins: NDArray[np.float64] | None) -> float:
        cases = [
            InversionCase(str(n), pool[n], rebuilt[n : n + 1], 0, None if twins is None else twins[n : n + 1])
            for n in range(60)
        ]
        rows = evaluate_gradient_inversion(cases, prior, others, attacker_subjects=20, seconds=0.0, **OPTIONS)
        return rows[0].value

    twin, again = (told + 2 * rng.random(told.shape) for _ in range(2))
    assert named(again, None) > 0.5
    assert named(again, twin) < 0.15
    assert named(pool + rng.random(pool.shape), twin) > 0.5

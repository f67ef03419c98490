"""What canaries find out about epsilon: in simulated scores, in runs of DP-SGD as claimed, and in broken ones.

"scores" are Gaussian, mu apart where a canary took part, so the true epsilon is known; medians over draws, and in how
many draws a bound exceeded the truth. "runs" train a linear head of the size of `configs/chest_xray.yaml` (1,280
features, P = 2,562) on synthetic features, a thousand canaries among the subjects, once as claimed and then with one
thing wrong. "curve" is the test of the whole claimed curve. Bounds and test hold at 95 % each, alone. "black box" sees
the losses of the final model only, of subjects who were trained on or not by a fair coin.

Run: python benchmarks/privacy_audit.py --out privacy_audit.json
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medfl.attacks.one_run_audit import one_run_bound, one_run_claim_test, one_run_gaussian_bound
from medfl.attacks.privacy_audit import (
    EpsilonBound,
    clopper_pearson_bound,
    gaussian_bound,
    gaussian_epsilon,
    verdict,
)
from medfl.attacks.privacy_audit_blackbox import black_box_bounds
from medfl.networks.heads import vector_head
from medfl.privacy.canaries import GradientCanaries
from medfl.privacy.dp_sgd import PrivateStep, private_gradients
from medfl.privacy.gaussian import SeededNoise
from medfl.privacy.keystream import Keystream
from medfl.privacy.privacy_curve import privacy_curve
from medfl.privacy.sampled_gaussian import Adjacency, SampledGaussian, noise_for
from medfl.privacy.subject_gradients import SubjectBatch, trainable
from medfl.privacy.subject_sampling import PoissonSubjects
from medfl.training.losses import classification_loss

DELTA = 1e-5
FEATURES, SUBJECTS, RATE, STEPS, LEARNING_RATE = 1280, 2000, 0.05, 300, 0.5
SIZES = (2 * FEATURES, 2)
EPSILONS = (1.0, 8.0)
MUS, SIDES = (1.0, 2.0, 0.0), (250, 1000)
BOUNDS: dict[str, Callable[..., EpsilonBound]] = {
    "clopper_pearson": clopper_pearson_bound,
    "gaussian": gaussian_bound,
    "one_run": one_run_bound,
    "one_run_fdp": one_run_gaussian_bound,
}


@dataclass(frozen=True)
class Run:
    """What a run really does."""

    noise_multiplier: float
    clip: float = 1.0
    rate: float = RATE


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--canaries", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = {
        "scores": [simulated(mu, side, arguments.draws) for mu in MUS for side in SIDES],
        "runs": [row for epsilon in EPSILONS for row in runs(epsilon, arguments.canaries, arguments.steps)],
        "black box": [black_box(epsilon, arguments.steps) for epsilon in (*EPSILONS, None)],
    }
    for name, table in rows.items():
        print(f"\n{name}")
        print("".join(f"{column:>17}" for column in table[0]))
        for row in table:
            print(
                "".join(f"{value:>17.4g}" if isinstance(value, float) else f"{value!s:>17}" for value in row.values())
            )
    if arguments.out:
        found = {"machine": machine(), "delta": DELTA, "canaries": arguments.canaries, **rows}
        arguments.out.write_text(json.dumps(found, indent=2) + "\n")


def simulated(mu: float, side: int, draws: int) -> dict[str, Any]:
    """Return medians of all bounds on scores whose true epsilon is known."""
    began, truth = time.perf_counter(), gaussian_epsilon(mu, DELTA)
    found: dict[str, list[float]] = {name: [] for name in BOUNDS}
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        included = rng.random(2 * side) < 0.5
        scores = rng.normal(size=2 * side) + mu * included
        for name, bound_of in BOUNDS.items():
            found[name].append(bound_of(scores, included, delta=DELTA).epsilon)
    row: dict[str, Any] = {"true_epsilon": truth, "canaries": 2 * side}
    row |= {name: float(np.median(values)) for name, values in found.items()}
    row |= {f"over_{name[:9]}": sum(value > truth for value in values) for name, values in found.items()}
    return row | {"draws": draws, "seconds": time.perf_counter() - began}


def runs(epsilon: float, canaries: int, steps: int) -> list[dict[str, Any]]:
    """Return what the audit says of a run as claimed, and of broken ones under the same claim."""
    noise = noise_for(epsilon, DELTA, rate=RATE, steps=steps, adjacency=Adjacency.ADD_OR_REMOVE)
    grid = np.linspace(0.0, 1.2 * epsilon, 40)
    curve = privacy_curve([SampledGaussian(noise, RATE, steps)], grid)
    good = Run(noise)
    kinds = {
        "as claimed": good,
        "half the noise": replace(good, noise_multiplier=noise / 2),
        "noise 0.05": replace(good, noise_multiplier=0.05),
        "clip x 10": replace(good, clip=10.0),
        "all every step": replace(good, rate=1.0),
    }
    _, plain_accuracy, plain_seconds = trained(good, 0, steps)
    rows = []
    for kind, one in kinds.items():
        among, accuracy, seconds = trained(one, canaries, steps)
        began, outcome = time.perf_counter(), among.outcome()
        told = (outcome.scores, outcome.included)
        bounds = [
            clopper_pearson_bound(*told, delta=DELTA),
            gaussian_bound(*told, delta=DELTA),
            one_run_bound(*told, delta=DELTA, cut=0.0),
            one_run_gaussian_bound(*told, delta=DELTA, cut=0.0),
        ]
        test = one_run_claim_test(*told, epsilons=grid, deltas=curve, cut=0.0)
        row: dict[str, Any] = {"run": kind, "claimed": epsilon, "noise": one.noise_multiplier}
        row |= {name: bound.epsilon for name, bound in zip(BOUNDS, bounds, strict=True)}
        row |= {"one_run_ceiling": bounds[2].ceiling, "fdp_ceiling": bounds[3].ceiling}
        row |= {"bound_flags": verdict(bounds[2], epsilon).flagged, "curve_flags": test.flagged}
        row |= {"accuracy": accuracy, "no_canaries": plain_accuracy}
        row |= {"seconds": seconds, "no_canaries_s": plain_seconds, "audit_s": time.perf_counter() - began}
        rows.append(row)
    return rows


def black_box(epsilon: float | None, steps: int) -> dict[str, Any]:
    """Return what the losses of the final model say, with differential privacy or without any noise to speak of."""
    noise, clip = 1e-6, 1e6
    if epsilon is not None:
        noise, clip = noise_for(epsilon, DELTA, rate=RATE, steps=steps, adjacency=Adjacency.ADD_OR_REMOVE), 1.0
    included = np.random.default_rng(5).random(SUBJECTS) < 0.5
    image, target = subjects()
    head, seconds = train(image, target, np.flatnonzero(included), Run(noise * clip, clip), steps, None)
    with torch.no_grad():
        losses = nn.functional.cross_entropy(head(image), target, reduction="none").numpy()
    plain, gaussian = black_box_bounds(losses, included, delta=DELTA)
    return {
        "claimed": "none" if epsilon is None else epsilon,
        "candidates": SUBJECTS,
        "one_run": plain.epsilon,
        "one_run_fdp": gaussian.epsilon,
        "one_run_ceiling": plain.ceiling,
        "fdp_ceiling": gaussian.ceiling,
        "seconds": seconds,
    }


def subjects() -> tuple[Tensor, Tensor]:
    """Return synthetic features and labels that depend on three of them."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(SUBJECTS, FEATURES, generator=generator)
    return image, (image[:, :3].sum(dim=1) + 0.5 * torch.randn(SUBJECTS, generator=generator) > 0).long()


def trained(run: Run, canaries: int, steps: int) -> tuple[GradientCanaries, float, float]:
    """Return the canaries of a run with all subjects, the accuracy of the head and the seconds of training."""
    image, target = subjects()
    among = GradientCanaries(max(canaries, 1), SIZES, clip=1.0, rate=run.rate, coins=stream(1), source=stream(2))
    head, seconds = train(image, target, np.arange(SUBJECTS), run, steps, among if canaries else None)
    with torch.no_grad():
        accuracy = float((head(image).argmax(dim=1) == target).double().mean())
    return among, accuracy, seconds


def train(
    image: Tensor,
    target: Tensor,
    present: NDArray[np.int64],
    run: Run,
    steps: int,
    canaries: GradientCanaries | None,
) -> tuple[nn.Module, float]:
    """Return a head trained on some subjects; noise has the size of a clip of 1, whatever the clip."""
    torch.manual_seed(0)
    head = vector_head(features=FEATURES, classes=2, dropout=0.0, hidden=0).train()
    sampler = PoissonSubjects([[int(one)] for one in present], run.rate, source=stream(3))
    step = PrivateStep(run.clip, run.noise_multiplier / run.clip, RATE * len(present))
    loss, source = classification_loss(), SeededNoise(0)
    began = time.perf_counter()
    for _ in range(steps):
        drawn = sampler.draw()
        studies = torch.from_numpy(drawn.studies)
        batch = SubjectBatch(image[studies], target[studies], torch.from_numpy(drawn.owner))
        private_gradients(head, loss, batch, step=step, source=source, method="outer products", canaries=canaries)
        with torch.no_grad():
            for parameter in trainable(head):
                if parameter.grad is not None:
                    parameter -= LEARNING_RATE * parameter.grad
    return head.eval(), time.perf_counter() - began


def stream(number: int) -> Keystream:
    """Return numbers that everybody can repeat, which a real run must not use."""
    return Keystream(bytes([number]) * 32)


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
    }


if __name__ == "__main__":
    main()

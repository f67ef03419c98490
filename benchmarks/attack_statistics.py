"""Whether intervals over subjects hold, and what 2,000 replicates and 10,000 x 10,000 verification cost.

Coverage is simulated: subjects with Pareto visits (2 to 12) and log-normal strength of identity. The truth is the area
of infinitely many subjects, approximated by 40,000. "pair" is the bootstrap over pairs, which takes them as
independent. A null trial has no identity at all; the one-sided 5 % test rejects where the 90 % interval is above 0.5.
Peak memory is that of the process so far, so sizes rise.

Run: python benchmarks/attack_statistics.py --out attack_statistics.json
"""

import argparse
import json
import os
import platform
import resource
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfl.attacks.blocked_verification import blocked_auc
from medfl.attacks.statistics import auc, resampled_aucs

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SUBJECTS = (50, 150, 400)
PAIRS = (20_000, 200_000, 2_000_000)
IMAGES = (1_000, 3_000, 10_000)
TRIALS, COVERAGE_DRAWS, DRAWS = 400, 400, 2000


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    truth = true_area(np.random.default_rng(0))
    rows = {
        "coverage": [coverage(subjects, arguments.trials, truth) for subjects in SUBJECTS],
        "replicates": [replicates(pairs, arguments.draws) for pairs in PAIRS],
        "verification": [verification(images) for images in IMAGES],
    }
    for name, table in rows.items():
        print(f"\n{name}")
        print("".join(f"{column:>18}" for column in table[0]))
        for row in table:
            print("".join(f"{value:>18.4g}" for value in row.values()))
    if arguments.out:
        found = {"machine": machine(), "true_area": truth, "draws": arguments.draws, **rows}
        arguments.out.write_text(json.dumps(found, indent=2) + "\n")


def trial(rng: np.random.Generator, subjects: int, identity: float, impostors: int) -> tuple[Floats, Ints, Ints]:
    """Return scores and subjects of all genuine and some impostor pairs."""
    visits = np.minimum(2 + rng.pareto(1.2, subjects), 12).astype(np.int64)
    owners = np.repeat(np.arange(subjects), visits * (visits - 1) // 2)
    one = rng.integers(0, subjects, impostors)
    other = (one + rng.integers(1, subjects, impostors)) % subjects
    first, second = np.concatenate([owners, one]), np.concatenate([owners, other])
    strength, own = identity * rng.lognormal(0.0, 0.9, subjects), rng.normal(0.0, 0.3, subjects)
    center = np.where(first == second, strength[first], own[first] + own[second])
    return rng.normal(center), first, second


def true_area(rng: np.random.Generator) -> float:
    """Return the area that intervals should hold."""
    scores, first, second = trial(rng, 40_000, 0.25, 400_000)
    return auc(scores[first == second], scores[first != second])


def coverage(subjects: int, trials: int, truth: float) -> dict[str, float]:
    """Return shares of intervals that hold the truth, their widths, and how often a null is rejected."""
    rng = np.random.default_rng(subjects)
    limits, pair_limits, rejected = [], [], 0
    for number in range(trials):
        scores, first, second = trial(rng, subjects, 0.25, 10 * subjects)
        limits.append(np.nanquantile(resampled_aucs(scores[None], first, second, COVERAGE_DRAWS, rng), [0.025, 0.975]))
        if number % 4 == 0:
            genuine, impostor = scores[first == second], scores[first != second]
            areas = [auc(rng.choice(genuine, len(genuine)), rng.choice(impostor, len(impostor))) for _ in range(100)]
            pair_limits.append(np.quantile(areas, [0.025, 0.975]))
        scores, first, second = trial(rng, subjects, 0.0, 10 * subjects)
        rejected += bool(np.nanquantile(resampled_aucs(scores[None], first, second, COVERAGE_DRAWS, rng), 0.05) > 0.5)
    found: dict[str, float] = {"subjects": subjects}
    for name, ends in (("subject", np.array(limits)), ("pair", np.array(pair_limits))):
        found[f"{name}_covers"] = float(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean())
        found[f"{name}_width"] = float((ends[:, 1] - ends[:, 0]).mean())
    return {**found, "null_rejected": rejected / trials}


def replicates(pairs: int, draws: int) -> dict[str, float]:
    """Return the cost of draws of subjects, one pair in a hundred genuine."""
    rng = np.random.default_rng(0)
    subjects = pairs // 200
    first = rng.integers(0, subjects, pairs)
    second = (first + rng.integers(1, subjects, pairs)) % subjects
    second[: pairs // 100] = first[: pairs // 100]
    scores = rng.normal(first == second)[None]
    return {"pairs": pairs, "subjects": subjects, **cost(lambda: resampled_aucs(scores, first, second, draws, rng))}


def verification(images: int) -> dict[str, float]:
    """Return the cost of all pairs of images, five per subject, 128 numbers each."""
    rng = np.random.default_rng(0)
    subjects = np.arange(images) // 5
    embeddings = rng.normal(size=(images, 128)) + 0.5 * rng.normal(size=(images, 128))[subjects]
    return {"images": images, **cost(lambda: blocked_auc(embeddings, subjects))}


def cost(call: Callable[[], object]) -> dict[str, float]:
    """Return seconds of one call and the peak of the process."""
    began = time.perf_counter()
    call()
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
    }


if __name__ == "__main__":
    main()

"""Linkage across keys by somebody who holds neither: the same test subjects under two keys, and under one.

Two runs differ in their keys alone. One study of a pair is taken from the first run and the other from the second;
scores are centered cosine and negative Euclidean distance, nothing is trained. Anchors known under both keys are the
attack that undoes the separation; they are not measured here.

Run: MEDFL_DATA=/path/to/data python benchmarks/cross_key.py --keys 5 --out cross_key.json
"""

import argparse
import json
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medfl.attacks.division import linkable_class
from medfl.attacks.pairs import verification_pairs
from medfl.attacks.statistics import auc
from medfl.config.reading import load_config
from pipelines.arms import with_arm
from pipelines.compare_arms import of_class, protected_features, released
from pipelines.simulate import simulate

CONFIG = Path(__file__).parents[1] / "configs" / "chest_xray_features.yaml"
ARMS = ("knt", "bottleneck+knt")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    config = load_config(CONFIG, ("training.rounds=1", "evaluation.every=0", *arguments.settings))
    found: dict[str, dict[str, list[float]]] = {}
    for arm in ARMS:
        keyed: list[NDArray[np.float64]] = []
        with tempfile.TemporaryDirectory() as folder:
            for key in range(arguments.keys):
                run = simulate(with_arm(config, arm), Path(folder) / str(key))
                part = released(run.prepared, ("test",), protected_features)
                own = of_class(part, linkable_class(part.subjects, part.labels))
                keyed.append(own.features.reshape(len(own.features), -1).astype(np.float64))
        pairs = verification_pairs(own.subjects, np.random.default_rng(0), 20_000, None)
        areas: dict[str, list[float]] = {"same key": [], "other key": []}
        for one, other in pairwise([*keyed, keyed[0]]):
            for name, second in (("same key", one), ("other key", other)):
                for scores in _scores(one[pairs.first], second[pairs.second]):
                    areas[name].append(auc(scores[pairs.is_same], scores[~pairs.is_same]))
        found[arm] = areas
        for name, values in areas.items():
            print(f"{arm:<16}{name:<10} AUC {min(values):.3f} to {max(values):.3f}, mean {np.mean(values):.3f}")
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=2) + "\n")


def _scores(first: NDArray[np.float64], second: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    distance = -np.linalg.norm(first - second, axis=1)
    if first.shape[1] == 1:
        return [distance]
    one, other = first - first.mean(axis=0), second - second.mean(axis=0)
    cosine = (one * other).sum(axis=1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))
    return [np.asarray(distance), np.asarray(cosine)]


if __name__ == "__main__":
    main()

"""What differential privacy of training costs: the same runs with and without it, on real images.

Chest X-rays (a linear head on frozen features): `configs/privacy/dp_sgd.yaml` at several epsilons, and whole updates
noised at the sites or at the hub, against the same head without noise; AUROC of all cases of the official test part.
Hippocampus: Dice of a 3-D U-Net of 2,922 parameters, the size that did least badly under noise. Mean over seeds; seeds
change start, split and sites, and noise is never the same. Test subjects are persons; of normal chest X-rays the person
is taken from the file name, which is an assumption of the data set.

Run: MEDFL_DATA=/path/to/data python benchmarks/private_training.py --out private_training.json
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medfl.config.reading import load_config, with_protection
from medfl.results.arms import ArmResult
from pipelines.compare_arms import WantedArms, compare_arms

CONFIGS = Path(__file__).parents[1] / "configs"
PARTS: dict[str, list[tuple[tuple[str, ...], tuple[float, ...]]]] = {
    "chest_xray": [(("none", "dp_sgd"), (1.0, 2.0, 4.0, 8.0)), (("dp_updates", "dp_fedavg"), (8.0,))],
    "hippocampus": [(("none", "dp_sgd"), (8.0,))],
}
SMALL = (
    "network.channels=[4, 8]",
    "network.strides=[2]",
    "network.residual_units=1",
    "network.features=4",
)
SMALL_STEPS = ("privacy.delta=0.001", "privacy.rate=0.2", "privacy.optimizer=adamw", "privacy.learning_rate=0.03")
QUIET = ("evaluation.every=0", "evaluation.save_predictions=false", "evaluation.keep_releases=none")
AIMS = {("chest_xray", 8.0): 0.02, ("chest_xray", 1.0): 0.06}


def main() -> None:
    """Measure and print one table for each task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    measured = {task: _rows(task, arguments) for task in arguments.tasks}
    if arguments.out:
        arguments.out.write_text(json.dumps(measured, indent=2) + "\n")


def _rows(task: str, arguments: argparse.Namespace) -> list[dict[str, object]]:
    settings = QUIET + (SMALL if task == "hippocampus" else ())
    late = (*(SMALL_STEPS if task == "hippocampus" else ()), *arguments.settings)
    config = with_protection(load_config(CONFIGS / f"{task}.yaml", settings), CONFIGS / "privacy" / "dp_sgd.yaml", late)
    rows: list[ArmResult] = []
    for arms, epsilons in PARTS[task]:
        wanted = WantedArms(arms, epsilons, seeds=arguments.seeds, attack=False)
        with tempfile.TemporaryDirectory() as folder:
            rows += compare_arms(config, wanted, Path(folder)).rows
    return _printed(task, rows)


def _printed(task: str, results: Sequence[ArmResult]) -> list[dict[str, object]]:
    groups: dict[tuple[str, float], list[ArmResult]] = {}
    for row in results:
        groups.setdefault((row.arm, row.epsilon), []).append(row)
    plain = float(np.mean([row.utility.value for row in groups["none", float("inf")]]))
    first = results[0].utility
    seeds = len(groups["none", float("inf")])
    print(f"\n{task}: {first.name}, {first.n} test subjects, {seeds} seed(s)")
    found: list[dict[str, object]] = []
    for (arm, epsilon), rows in groups.items():
        values = [row.utility.value for row in rows]
        low, high = min(row.utility.ci_low for row in rows), max(row.utility.ci_high for row in rows)
        gap = plain - float(np.mean(values))
        aim = AIMS.get((task, epsilon)) if arm == "dp_sgd" else None
        said = "" if aim is None else f"   aim: gap at most {aim}, {'met' if gap <= aim else 'MISSED'}"
        print(
            f"  {arm:<12} epsilon {epsilon:<5g} {np.mean(values):.4f} ({low:.3f}-{high:.3f})   gap {gap:+.4f}   "
            f"{np.mean([row.seconds for row in rows]):6.1f} s{said}"
        )
        found.append({"arm": arm, "epsilon": str(epsilon), "values": values, "gap": gap, "low": low, "high": high})
    return found


if __name__ == "__main__":
    main()

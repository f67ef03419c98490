"""Protections of shared features: utility, re-identification, epsilon, bytes; several seeds, each with its own key.

The attacker knows which features of training and validation subjects belong together and is tested on subjects it has
never seen, against impostors with the same diagnosis. Below the table: how much of the above-chance signal each arm
takes from the re-trained attacker, and which strength of plain noise costs as much utility as the recommended arm.

Run: MEDFL_DATA=/path/to/data python benchmarks/feature_arms.py --config chest_xray_features --seeds 3 --out arms.json
"""

import argparse
import tempfile
from pathlib import Path

from app.cli.display_arms import group_rows, print_arms, strongest
from medfl.config.reading import load_config
from medfl.results.arms import ArmResult, ArmTable
from pipelines.compare_arms import WantedArms, comparable, compare_arms

CONFIGS = Path(__file__).parents[1] / "configs"
RECOMMENDED = "bottleneck+knt"


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="chest_xray_features")
    parser.add_argument("--arms", default="")
    parser.add_argument("--epsilons", default="1,2,4,8,16,32")
    parser.add_argument("--stds", default="0.5,1,2,4")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--keep", type=Path, help="folder for the runs; what is finished there is not run again")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    config = load_config(CONFIGS / f"{arguments.config}.yaml", tuple(arguments.settings))
    wanted = WantedArms(
        tuple(arguments.arms.split(",")) if arguments.arms else comparable(config),
        epsilons=tuple(map(float, arguments.epsilons.split(","))),
        stds=tuple(map(float, arguments.stds.split(","))),
        seeds=arguments.seeds,
    )
    with tempfile.TemporaryDirectory() as folder:
        table = compare_arms(config, wanted, arguments.keep or Path(folder))
    print_arms(table)
    _report(table)
    if arguments.out:
        arguments.out.write_text(table.model_dump_json(indent=2) + "\n")


def _report(table: ArmTable) -> None:
    means = {key: (_utility(rows), _signal(rows)) for key, rows in group_rows(table.rows).items()}
    clear = next((found for (arm, *_), found in means.items() if arm == "none"), None)
    if clear is None:
        return
    print(f"clear features: utility {clear[0]:.4f}, signal of the re-trained attacker (2 AUC - 1) {clear[1]:.3f}")
    for (arm, epsilon, std), (utility, signal) in means.items():
        name = arm + (f" epsilon {epsilon:g}" if epsilon < float("inf") else "") + (f" std {std:g}" if std else "")
        left = signal / clear[1] if clear[1] > 0 else float("nan")
        print(f"  {name:<32} utility {utility - clear[0]:+.4f}   signal left {100 * left:6.1f} %")
    own = next((found for (arm, *_), found in means.items() if arm == RECOMMENDED), None)
    noise = [(std, *found) for (arm, _, std), found in means.items() if arm == "matched-noise"]
    if own is not None and noise:
        std, utility, signal = min(noise, key=lambda row: abs(row[1] - own[0]))
        print(
            f"plain noise closest in utility to {RECOMMENDED} ({own[0]:.4f}): std {std:g}, utility {utility:.4f}, "
            f"signal {signal:.3f} against {own[1]:.3f}"
        )


def _utility(rows: list[ArmResult]) -> float:
    return sum(row.utility.value for row in rows) / len(rows)


def _signal(rows: list[ArmResult]) -> float:
    chosen = [strongest([attack for attack in row.attacks if attack.knowledge != "naive"]) for row in rows]
    values = [2 * attack.value - 1 for attack in chosen if attack is not None]
    return sum(values) / len(values) if values else float("nan")


if __name__ == "__main__":
    main()

"""Hippocampus: the federated model beside the pooled baseline at equal steps and every local model, several seeds.

Every seed changes the start and the split. Local models make as many passes over their own data as the federation does;
`--equal-steps` lets each take as many optimizer steps as the whole federation (three times the work).

Run: MEDFL_DATA=/path/to/data python benchmarks/hippocampus.py --seeds 3 --out hippocampus.json
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from medfl.config.reading import load_config
from medfl.results.metrics import RunMetrics
from pipelines.compare import Wanted, compare

CONFIG = Path(__file__).parents[1] / "configs" / "hippocampus.yaml"
METRICS = ("dice_mean/anterior", "dice_mean/posterior", "dice_mean", "hd95_mm")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--equal-steps", action="store_true")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    config = load_config(CONFIG, tuple(arguments.settings))
    wanted = Wanted(("fedavg",), ("pooled", "local", "ensemble"), arguments.seeds, arguments.equal_steps)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        comparison = compare(config, wanted, Path(folder))
        rounds = [
            sum(record["seconds"] for record in json.loads(path.read_text())["rounds"])
            for path in sorted(Path(folder).glob("fedavg-*/history.json"))
        ]
    print(f"{'model':<16}{'seed':>5}" + "".join(f"{name:>22}" for name in METRICS))
    for model in comparison.models:
        print(f"{model.name:<16}{model.seed:>5}" + "".join(f"{_value(model.metrics, name):>22.4f}" for name in METRICS))
    print("federated rounds, seconds per seed: " + ", ".join(f"{seconds:.0f}" for seconds in rounds))
    print(f"everything: {time.perf_counter() - began:.0f} s")
    if arguments.out:
        arguments.out.write_text(comparison.model_dump_json(indent=2) + "\n")


def _value(metrics: RunMetrics, name: str) -> float:
    value = metrics.pooled[name].value
    return float("nan") if value is None else value


if __name__ == "__main__":
    main()

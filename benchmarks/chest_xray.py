"""Chest X-rays: AUROC of the federated head on the official test part, with scikit-learn's value on the pooled cases.

Run: MEDFL_DATA=/path/to/data python benchmarks/chest_xray.py --out chest_xray.json
"""

import argparse
import csv
import json
import tempfile
import time
from pathlib import Path

from sklearn.metrics import average_precision_score, roc_auc_score

from medfl.config.reading import load_config
from pipelines.simulate import simulate

CONFIG = Path(__file__).parents[1] / "configs" / "chest_xray.yaml"


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    config = load_config(CONFIG, tuple(arguments.settings))
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = simulate(config, Path(folder) / "run")
        with (run.folder / "cases.csv").open(newline="") as file:
            cases = list(csv.DictReader(file))
    labels = [float(case["label"]) for case in cases]
    scores = [float(case["probability/pneumonia"]) for case in cases]
    exact = {"auroc": roc_auc_score(labels, scores), "average_precision": average_precision_score(labels, scores)}
    for name, value in exact.items():
        metric = run.metrics.pooled[name]
        print(
            f"{name:<20} from sums {metric.value:.4f} +- {metric.error_bound:.4f} "
            f"[{metric.ci_low:.4f}, {metric.ci_high:.4f}]   scikit-learn on all cases {value:.4f}   n={metric.n}"
        )
    print(f"seconds {time.perf_counter() - began:.0f}")
    if arguments.out:
        pooled = {name: json.loads(metric.model_dump_json()) for name, metric in run.metrics.pooled.items()}
        arguments.out.write_text(json.dumps({"pooled": pooled, "scikit_learn": exact}, indent=2) + "\n")


if __name__ == "__main__":
    main()

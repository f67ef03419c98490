"""What medfl costs on top of a plain loop: seconds per round, seconds to the first step, peak memory.

The floor is the same FedAvg written as a loop over the sites with `torch.optim.AdamW`: same prepared studies, same
batches, no messages, no checks, no run folder. Each side runs in a process of its own, in turn, so that both see the
same state of the machine; ratios are formed pair by pair.

Run: MEDFL_DATA=/path/to/data python benchmarks/speed.py --out speed.json
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

CONFIG = Path(__file__).parents[1] / "configs" / "hippocampus.yaml"
ROUNDS = 3


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", choices=("plain", "medfl", "pooled"))
    parser.add_argument("--started", type=float, default=0.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(_worker(arguments.worker, arguments.started)))
        return
    _run("medfl")
    pairs = [{kind: _run(kind) for kind in ("plain", "medfl", "pooled")} for _ in range(arguments.repeats)]
    summary = _summary(pairs)
    for name, value in summary.items():
        print(f"{name:<58}{value:10.3f}")
    if arguments.out:
        arguments.out.write_text(json.dumps({"pairs": pairs, "summary": summary}, indent=2) + "\n")


def _summary(pairs: list[dict[str, dict[str, float]]]) -> dict[str, float]:
    def middle(kind: str, what: str) -> float:
        return median(pair[kind][what] for pair in pairs)

    def ratio(above: str, below: str, what: str) -> float:
        return median(pair[above][what] / pair[below][what] for pair in pairs)

    return {
        "plain loop, seconds per round": middle("plain", "round_s"),
        "medfl run, seconds per round": middle("medfl", "round_s"),
        "medfl run / plain loop": ratio("medfl", "plain", "round_s"),
        "plain loop, seconds from command to first step": middle("plain", "first_step_s"),
        "medfl run, seconds from command to first step": middle("medfl", "first_step_s"),
        "pooled training, peak MiB": middle("pooled", "peak_mib"),
        "medfl run, peak MiB": middle("medfl", "peak_mib"),
        "medfl run / pooled training, peak memory": ratio("medfl", "pooled", "peak_mib"),
    }


def _run(kind: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--worker", kind, "--started", repr(time.time())]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    answer: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
    return answer


def _worker(kind: str, started: float) -> dict[str, float]:
    from medfl.config.reading import load_config

    config = load_config(
        CONFIG, (f"training.rounds={ROUNDS}", "evaluation.every=0", "evaluation.save_predictions=false")
    )
    seconds, first = {"plain": _plain, "medfl": _medfl, "pooled": _pooled}[kind](config)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"round_s": median(seconds), "first_step_s": first - started, "peak_mib": peak}


def _medfl(config: Any) -> tuple[list[float], float]:
    """Run through the same function as the command line; the final evaluation is cut off."""
    from medfl.training.optimizers import AdamW
    from pipelines.progress import Observer
    from pipelines.simulate import simulate

    first: list[float] = []
    seconds: list[float] = []
    step = AdamW.step

    class StopAfterRoundsError(Exception):
        pass

    class Watch(Observer):
        def round_finished(self, record: Any) -> None:
            seconds.append(time.perf_counter() - self.began)

        def round_started(self, number: int) -> None:
            self.began = time.perf_counter()

        def finishing(self) -> None:
            raise StopAfterRoundsError

    def noticed(optimizer: AdamW, learning_rate: float) -> None:
        if not first:
            first.append(time.time())
        step(optimizer, learning_rate)

    with tempfile.TemporaryDirectory() as folder, patch.object(AdamW, "step", noticed):
        try:
            simulate(config, Path(folder) / "run", observer=Watch())
        except StopAfterRoundsError:
            pass
    return seconds, first[0]


def _plain(config: Any) -> tuple[list[float], float]:
    import numpy as np
    import torch

    from medfl.data.augmentation import Augmentation
    from medfl.data.batches import epoch_batches

    studies, pipeline = _studies(config)
    network, loss, training = pipeline.network, pipeline.loss, config.training
    total = sum(map(len, studies.values()))
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    seconds, first, rng = [], 0.0, np.random.default_rng(0)
    for _ in range(training.rounds):
        began = time.perf_counter()
        mean = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
        for own in studies.values():
            network.load_state_dict(weights)
            network.train()
            optimizer = torch.optim.AdamW(
                network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
            )
            batches = epoch_batches(
                own, batch_size=training.batch_size, patch=pipeline.patch, augmentation=Augmentation(), rng=rng
            )
            for image, target in batches:
                first = first or time.time()
                optimizer.zero_grad()
                loss(network(image), target).backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), training.max_gradient_norm)
                optimizer.step()
            for name, tensor in network.state_dict().items():
                mean[name] += tensor * (len(own) / total)
        weights = mean
        seconds.append(time.perf_counter() - began)
    return seconds, first


def _pooled(config: Any) -> tuple[list[float], float]:
    from pipelines.baselines import train_pooled
    from pipelines.progress import Observer
    from pipelines.simulate import prepare

    prepared = prepare(config, None, Observer())
    first = time.time()
    began = time.perf_counter()
    train_pooled(config, prepared)
    return [(time.perf_counter() - began) / config.training.rounds], first


def _studies(config: Any) -> tuple[dict[str, list[Any]], Any]:
    from pipelines.progress import Observer
    from pipelines.simulate import prepare

    prepared = prepare(config, None, Observer())
    return {site: program.studies["train"] for site, program in prepared.programs.items()}, prepared.pipeline


if __name__ == "__main__":
    main()

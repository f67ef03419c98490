"""What privacy per subject costs in a step: DP-SGD against plain training, same network, subjects and machine.

Three networks: the head on the frozen backbone of `configs/chest_xray.yaml`, whose step starts at features that were
computed once, as every run does it; the same with the backbone in each step; and the 3-D U-Net of
`configs/hippocampus.yaml` on its own patch. One study per subject. A step is everything from the drawn studies to the
changed parameters: gradients, clipping, noise, AdamW. Steps are taken in turn, plain then private, and the ratio is
that of the sums, so that noise drawn ahead counts. Times are processor seconds over all threads, since a shared machine
stretches whatever is longer than a slice of time. Peak memory is that of a process of its own for each side. Images are
random, which changes neither.

Run: MEDFL_DATA=/path/to/data python benchmarks/dp_step.py --out dp_step.json
"""

import argparse
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import nn

from medfl.config.reading import load_config
from medfl.networks.backbones import EFFICIENTNET_FEATURES
from medfl.networks.split_network import SplitNetwork
from medfl.privacy.dp_guard import set_out_of_place
from medfl.privacy.dp_sgd import NoiseReserve, PrivateStep, private_gradients
from medfl.privacy.gradient_choice import try_methods
from medfl.privacy.keystream import KEY_BYTES, Keystream
from medfl.privacy.protector import NoProtection
from medfl.privacy.subject_gradients import METHODS, WRITES_NOTHING_OUT, Loss, SubjectBatch
from medfl.training.allocator import keep_freed_memory
from medfl.training.losses import classification_loss, study_segmentation_loss
from medfl.training.optimizers import AdamW
from pipelines.build import build_pipeline
from pipelines.pipeline import Pipeline

CONFIGS = Path(__file__).parents[1] / "configs"
BACKBONE = "chest_xray+backbone"
AIMS = {"chest_xray": 2.0, BACKBONE: 2.0, "hippocampus": 3.0}
_SLOW_PAIRS = 3
SIDES = ("idle", "plain", "private")


@dataclass(frozen=True, eq=False)
class Work:
    """One network with a batch and a loss."""

    network: nn.Module
    loss: Loss
    batch: SubjectBatch


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", choices=tuple(AIMS), default=list(AIMS))
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--subjects", type=int, help="instead of the config's batch size")
    parser.add_argument("--worker", nargs=2, metavar=("TASK", "SIDE"))
    parser.add_argument("--method", default="loop")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # as every run does
    if arguments.worker:
        task, side = arguments.worker
        print(json.dumps(_peak_mib(_work(task, arguments.subjects), side, arguments.method)))
        return
    rows = [_measure(task, arguments) for task in arguments.tasks]
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n")


def _measure(task: str, arguments: argparse.Namespace) -> dict[str, object]:
    work = _work(task, arguments.subjects)
    slow = task == BACKBONE
    methods = {name: METHODS[name] for name in (WRITES_NOTHING_OUT, "loop")} if slow else METHODS
    trials = try_methods(work.network, work.loss, work.batch, repeats=1 if slow else 3, methods=methods)
    right = [trial for trial in trials if not trial.refused]
    chosen = min(right, key=lambda trial: trial.seconds).method
    times: dict[str, list[float]] = {"plain": []}
    steps: dict[str, Callable[[], None]] = {"plain": _plain(work)}
    for trial in right:
        steps[trial.method], times[trial.method] = _private(work, trial.method), []
    for number in range((_SLOW_PAIRS if slow else arguments.pairs) + 2):
        for name, step in steps.items():
            began = time.process_time()
            step()
            if number >= 2:
                times[name].append(time.process_time() - began)
    ratios = {name: sum(times[name]) / sum(times["plain"]) for name in times}
    peaks = {side: _run_worker(task, side, chosen, arguments) for side in SIDES}
    print(f"\n{task}: {work.batch.subjects} subjects, {arguments.threads} thread(s); aim {AIMS[task]:.1f}")
    for name in times:
        mark = "  <- chosen" if name == chosen else ""
        print(f"  {name:<16}{1000 * fmean(times[name]):10.2f} ms{ratios[name]:8.2f} x plain{mark}")
    for trial in trials:
        if trial.refused:
            print(f"  {trial.method:<16}refused: {trial.refused} ({trial.difference:.1e})")
    print(f"  peak memory: {', '.join(f'{side} {peak:.0f} MiB' for side, peak in peaks.items())}")
    return {
        "task": task,
        "subjects": work.batch.subjects,
        "threads": arguments.threads,
        "chosen": chosen,
        "milliseconds": {name: 1000 * fmean(values) for name, values in times.items()},
        "ratios": ratios,
        "refused": {trial.method: [trial.refused, trial.difference] for trial in trials if trial.refused},
        "peak_mib": peaks,
    }


def _work(task: str, subjects: int | None) -> Work:
    config = load_config(CONFIGS / f"{task.removesuffix('+backbone')}.yaml", ())
    pipeline = build_pipeline(config, torch.device("cpu"))
    network = pipeline.network.train()
    set_out_of_place(network)
    count = subjects or config.training.batch_size
    generator = torch.Generator().manual_seed(0)
    loss: Loss
    if pipeline.patch is None:
        image = torch.randn(count, EFFICIENTNET_FEATURES, generator=generator)
        if task == BACKBONE:
            image = torch.rand(count, 1, 224, 224, generator=generator)
            network = SplitNetwork(_encoder(pipeline), NoProtection(), network.head, frozen_backbone=True).train()
        target = torch.randint(0, 2, (count,), generator=generator)
        loss = classification_loss()
    else:
        image = torch.randn(count, config.preprocessing.channels, *pipeline.patch, generator=generator)
        target = torch.randint(0, 3, (count, 1, *pipeline.patch), generator=generator)
        loss = study_segmentation_loss()
    return Work(network, loss, SubjectBatch(image, target, torch.arange(count)))


def _encoder(pipeline: Pipeline[Any]) -> nn.Module:
    if pipeline.encoder is None:
        raise ValueError("the network must have a frozen backbone")
    return pipeline.encoder


def _plain(work: Work) -> Callable[[], None]:
    optimizer = AdamW(work.network.parameters(), weight_decay=0.0)

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward([work.loss(work.network(work.batch.image), work.batch.target)])
        optimizer.step(1e-6)

    return step


def _private(work: Work, method: str) -> Callable[[], None]:
    optimizer = AdamW(work.network.parameters(), weight_decay=0.0)
    source = NoiseReserve(Keystream(secrets.token_bytes(KEY_BYTES)))
    settings = PrivateStep(clip=1.0, noise_multiplier=1.0, expected_subjects=float(work.batch.subjects))

    def step() -> None:
        optimizer.zero_grad()
        private_gradients(work.network, work.loss, work.batch, step=settings, source=source, method=method)
        optimizer.step(1e-6)

    return step


def _peak_mib(work: Work, side: str, method: str) -> float:
    if side != "idle":
        step = _plain(work) if side == "plain" else _private(work, method)
        for _ in range(3):
            step()
    status = Path("/proc/self/status").read_text()  # `getrusage` would start at the parent's peak
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return float(peak.split()[1]) / 1024


def _run_worker(task: str, side: str, method: str, arguments: argparse.Namespace) -> float:
    command = [sys.executable, __file__, "--worker", task, side, "--method", method]
    command += ["--threads", str(arguments.threads)]
    command += [] if arguments.subjects is None else ["--subjects", str(arguments.subjects)]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(finished.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()

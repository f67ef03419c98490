"""Where inversion of weight updates begins and ends to work: by batch, local steps and protection, for a U-Net in 3-D.

Updates are made from the first weights of the run, with its own network, loss and optimizer. A protected update is
clipped to a norm and gets Gaussian noise of standard deviation multiplier * norm; whoever inverts it knows that and
matches signs, since noise destroys what solving Adam's step for the gradient needs. The last line of every protection
is the null: an update of strangers.

Run: MEDFL_DATA=/path/to/data python benchmarks/gradient_inversion.py --subjects 8 --steps 40
"""

import argparse
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from medfl.config.reading import load_config
from medfl.governance.policy import AuditPolicy
from medfl.results.attack import AttackResult
from pipelines.audit_gradients import Plan, Rows, Trial, rung
from pipelines.audit_updates import SentUpdate, practice_material
from pipelines.progress import Observer
from pipelines.simulate import prepare

CONFIG = Path(__file__).parents[1] / "configs" / "hippocampus.yaml"
DRAWS = 2000


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=8, help="behind every line, at least")
    parser.add_argument("--steps", type=int, default=40, help="of a search")
    parser.add_argument("--rungs", default="1x1,2x1,8x1,1x2,1x8", help="batch x local steps")
    parser.add_argument("--clip", type=float, default=0.1, help="norm that protected updates are clipped to")
    parser.add_argument("--multipliers", type=float, nargs="*", default=[0.02, 0.2])
    parser.add_argument("--whole", action="store_true", help="whole patches, eight times the work")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    config = load_config(CONFIG)
    programs = prepare(config, None, Observer()).programs
    fed = {site: program.studies for site, program in programs.items()}
    material = practice_material(config, fed, halved=not arguments.whole, seed=arguments.seed)
    trial = Trial(
        material, Plan(1, 1, arguments.steps, (), arguments.subjects), AuditPolicy().gallery, DRAWS, arguments.seed
    )
    changes: dict[str, Callable[[SentUpdate], SentUpdate]] = {"none": lambda update: update}
    for multiplier in arguments.multipliers:
        changes[f"clip {arguments.clip:g}, noise {multiplier:g}"] = partial(
            protected_update, clip=arguments.clip, multiplier=multiplier
        )
    print(f"window {tuple(material.prior.shape[1:])}, {len(material.others) + 1} images to name one from")
    print(f"{'protection':<24}{'update':<32}{'n':>4}{'rank 1':>26}{'chance':>8}{'SSIM gain':>26}{'seconds':>9}")
    for name, change in changes.items():
        for one in arguments.rungs.split(","):
            batch, steps = map(int, one.split("x"))
            _line(name, "", partial(rung, trial, batch, steps, change=change))
        _line(name, ", strangers", partial(rung, trial, 1, 1, change=change, of_strangers=True))


def protect(
    before: Mapping[str, NDArray[np.floating]],
    after: Mapping[str, NDArray[np.floating]],
    *,
    clip: float,
    multiplier: float,
    rng: np.random.Generator,
) -> dict[str, NDArray[np.floating]]:
    """Clip an update to a norm and add noise: ``before + min(1, clip / |u|) u + N(0, (multiplier clip)^2)``.

    Parameters
    ----------
    before, after : mapping of str to ndarray
        Weights of equal names and shapes; ``u`` is all of their differences as one vector.
    clip : float
        L2 norm, > 0.
    multiplier : float
        Standard deviation of the noise over the norm, >= 0.
    rng : Generator
    """
    differences = {name: after[name].astype(np.float64) - before[name] for name in before}
    norm = float(np.sqrt(sum(np.sum(one**2) for one in differences.values())))
    scale = min(1.0, clip / max(norm, 1e-30))
    return {
        name: (before[name] + scale * one + rng.normal(0.0, multiplier * clip, one.shape)).astype(after[name].dtype)
        for name, one in differences.items()
    }


def protected_update(update: SentUpdate, *, clip: float, multiplier: float) -> SentUpdate:
    """Return the update as it leaves, as an attacker reads it: Adam's steps by their signs, whatever their number."""
    floating = [name for name, tensor in update.after.items() if tensor.is_floating_point()]
    content = hashlib.sha256(b"".join(update.after[name].numpy().tobytes() for name in floating)).digest()
    arrays = protect(
        {name: update.before[name].numpy() for name in floating},
        {name: update.after[name].numpy() for name in floating},
        clip=clip,
        multiplier=multiplier,
        rng=np.random.default_rng(list(content[:8])),
    )
    after = update.after | {name: torch.from_numpy(array) for name, array in arrays.items()}
    return replace(update, after=after, steps=2 * update.steps, rate=update.rate / 2)


def _line(protection: str, suffix: str, attack: Callable[[], Rows]) -> None:
    began = time.perf_counter()
    rank, gain = attack()
    print(
        f"{protection:<24}{rank.setting + suffix:<32}{rank.subjects:>4}{_interval(rank):>26}{rank.chance:>8.3f}"
        f"{_interval(gain):>26}{time.perf_counter() - began:>9.0f}",
        flush=True,
    )


def _interval(row: AttackResult) -> str:
    return f"{row.value:.2f} [{row.ci_low:.2f}, {row.ci_high:.2f}]"


if __name__ == "__main__":
    main()

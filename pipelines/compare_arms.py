"""One table over protections: what they cost, and what an attacker still learns."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from medfl.attacks.division import linkable_class
from medfl.attacks.reidentification import evaluate_reidentification
from medfl.config.network import EfficientNetNetwork
from medfl.config.privacy import GaussianStage, PlainNoiseStage
from medfl.config.settings import Config
from medfl.config.training_privacy import NoTrainingPrivacy
from medfl.data.dataset import PreparedStudy
from medfl.errors import ConfigError, TooFewSubjectsError
from medfl.evaluation.case_auroc import case_auroc
from medfl.results.arms import ArmResult, ArmTable, Utility
from medfl.results.atomic import write_text
from medfl.results.attack import AttackResult
from medfl.results.metrics import RunMetrics
from medfl.results.store import RunStore
from pipelines.arms import ARMS, DP_ARMS, HEAD_ONLY, WEIGHT_ARMS, with_arm
from pipelines.compare import with_seed
from pipelines.feature_program import FeatureProgram
from pipelines.progress import Observer
from pipelines.simulate import Prepared, simulate
from pipelines.site_program import PipelineProgram

_DRAWS = 1000
_TIMED = 50
_MASK_GRID = 14
PREDICTIONS_ONLY = "predictions-only"
"""As head-only; what is attacked is what a site would send if it shared its predictions and nothing else."""
COMPARABLE = (*ARMS, *WEIGHT_ARMS[1:], HEAD_ONLY, PREDICTIONS_ONLY)

Released = Callable[[PipelineProgram, PreparedStudy], NDArray[np.float32]]


@dataclass(frozen=True)
class WantedArms:
    """Which protections to compare.

    Attributes
    ----------
    arms : tuple of str
    epsilons : tuple of float
        Every arm with the Gaussian mechanism is run once for each.
    stds : tuple of float
        The control "matched-noise" is run once for each; which of them matches another arm is read off the table.
    seeds : int
        Repetitions, each with another start, another split and another key.
    attack : bool
        Measure re-identification, too.
    """

    arms: tuple[str, ...]
    epsilons: tuple[float, ...] = (8.0,)
    stds: tuple[float, ...] = (1.0,)
    seeds: int = 1
    attack: bool = True

    def __post_init__(self) -> None:
        """Check the names."""
        unknown = set(self.arms) - set(COMPARABLE)
        if unknown:
            raise ConfigError(f"--arms must be of {', '.join(COMPARABLE)}; got {', '.join(sorted(unknown))}.")
        if self.seeds < 1:
            raise ConfigError(f"--seeds must be at least 1, got {self.seeds}.")


def comparable(config: Config) -> tuple[str, ...]:
    """Return every arm that means something for what is shared."""
    if config.sharing == "weights":
        return WEIGHT_ARMS
    network = config.network
    pooled = isinstance(network, EfficientNetNetwork) and network.layer == "pooled"
    return tuple(arm for arm in (*ARMS, HEAD_ONLY, PREDICTIONS_ONLY) if not (pooled and arm == "permutation"))


def compare_arms(config: Config, wanted: WantedArms, out: Path, observer: Observer | None = None) -> ArmTable:
    """Run every arm and attack what it releases; each run leaves its own folder below `out`.

    Parameters
    ----------
    config : Config
    wanted : WantedArms
    out : Path
    observer : Observer or None
    """
    rows: list[ArmResult] = []
    for seed in range(wanted.seeds):
        seeded = with_seed(config, config.seed + seed)
        for arm in wanted.arms:
            for name, settings in _variants(seeded, arm, wanted):
                folder = out / f"{name}-seed{seeded.seed}"
                rows.append(run_arm(settings, arm, folder, attack=wanted.attack, observer=observer))
                table = ArmTable(config=config.name, rows=tuple(rows))
                write_text(out / "arms.json", table.model_dump_json(indent=2) + "\n")
    return table


def _variants(config: Config, arm: str, wanted: WantedArms) -> list[tuple[str, Config]]:
    """Return one configuration, or one for each strength of the noise, with a name for its folder."""
    name = arm.replace("+", "_")
    if arm in DP_ARMS:
        return [(f"{name}-epsilon{value:g}", with_arm(config, arm, epsilon=value)) for value in wanted.epsilons]
    if arm == "matched-noise":
        return [(f"{name}-std{value:g}", with_arm(config, arm, std=value)) for value in wanted.stds]
    return [(name, with_arm(config, HEAD_ONLY if arm == PREDICTIONS_ONLY else arm))]


def run_arm(config: Config, arm: str, folder: Path, *, attack: bool, observer: Observer | None = None) -> ArmResult:
    """Run one protection, and attack the features of test subjects that split inference would release.

    The attacker knows which features of training and validation subjects belong together, and has to tell for subjects
    it has never seen. In weight mode there is no feature to attack.
    """
    began = time.perf_counter()
    store = RunStore(folder)
    run = simulate(config, folder, resume=store.is_started(), observer=observer)
    seconds = time.perf_counter() - began
    history = store.read_history()
    sent = sum(record.bytes_up + record.bytes_learning for record in history.releases)
    sent += sum(site.bytes_up for record in history.rounds for site in record.sites)
    noise = config.protection.noise
    is_features = config.sharing == "features"
    attacks: tuple[AttackResult, ...] = ()
    if attack and (is_features or arm == PREDICTIONS_ONLY):
        attacks = _attacked(run.prepared, protected_features if is_features else _predictions, config.seed)
    return ArmResult(
        arm=arm,
        seed=config.seed,
        epsilon=_epsilon(config),
        noise_std=noise.std if isinstance(noise, PlainNoiseStage) else 0.0,
        channels=_one(run.prepared).shape[0] if is_features else 0,
        utility=_utility(run.metrics, store, config),
        attacks=attacks,
        bytes_up=sent,
        seconds=seconds,
        milliseconds_per_study=_latency(run.prepared) if is_features else 0.0,
    )


def _epsilon(config: Config) -> float:
    """Return the epsilon of what the arm protects: training, else features; infinity without."""
    if not isinstance(config.privacy, NoTrainingPrivacy):
        return config.privacy.epsilon
    noise = config.protection.noise
    return noise.epsilon if isinstance(noise, GaussianStage) else float("inf")


def _attacked(prepared: Prepared, what: Released, seed: int) -> tuple[AttackResult, ...]:
    known, unseen = released(prepared, ("train", "val"), what), released(prepared, ("test",), what)
    label = linkable_class(
        np.concatenate([known.subjects, unseen.subjects]), np.concatenate([known.labels, unseen.labels])
    )
    attacker, test = of_class(known, label), of_class(unseen, label)
    try:
        return evaluate_reidentification(
            attacker.features, attacker.subjects, test.features, test.subjects, seed=seed, draws=_DRAWS
        )
    except TooFewSubjectsError:
        return ()


@dataclass(frozen=True, eq=False)
class Linked:
    """Features with the subject and the class of each; who measures an attack knows both.

    Attributes
    ----------
    features : ndarray of shape (n, C) or (n, C, *spatial)
    subjects, labels : ndarray of shape (n,)
    """

    features: NDArray[np.float32]
    subjects: NDArray[np.str_]
    labels: NDArray[np.int64]


def released(prepared: Prepared, splits: Sequence[str], what: Released) -> Linked:
    """Return what all sites would release of these splits."""
    pairs = [
        (what(program, study), study)
        for program in prepared.programs.values()
        for split in splits
        for study in _every_study(program, split)
    ]
    labels = [int(study.target) if study.target.ndim == 0 else 0 for _, study in pairs]
    return Linked(
        np.stack([values for values, _ in pairs]),
        np.array([study.row.subject for _, study in pairs]),
        np.array(labels, dtype=np.int64),
    )


def _every_study(program: PipelineProgram, split: str) -> list[PreparedStudy]:
    """Return protected studies, as many of each subject as there are.

    Noise with a guarantee is calibrated for so many studies of a subject, and others are left out; an attacker who
    links two studies needs two. They are noised like the others here, each as if it were released alone.
    """
    if not isinstance(program, FeatureProgram):
        return program.studies[split]
    clear = program.clear(split)
    names = [f"audit/{study.row.study}" for study in clear]
    protected = program.protection.protect([study.image for study in clear], names)
    return [replace(study, image=image) for study, image in zip(clear, protected, strict=True)]


def protected_features(program: PipelineProgram, study: PreparedStudy) -> NDArray[np.float32]:
    """Return the features of a protected study."""
    del program
    found: NDArray[np.float32] = study.image.numpy()
    return found


def _predictions(program: PipelineProgram, study: PreparedStudy) -> NDArray[np.float32]:
    """Return class probabilities; of a mask they are averaged over a coarse grid, where its shape still shows."""
    ((probabilities, _),) = program.pipeline.predict([study.image], 0)
    if probabilities.ndim > 1:
        probabilities = functional.adaptive_avg_pool2d(probabilities[1:], _MASK_GRID)
    found: NDArray[np.float32] = probabilities.float().numpy()
    return found


def of_class(part: Linked, label: int) -> Linked:
    """Return the studies of one class."""
    own = part.labels == label
    return Linked(part.features[own], part.subjects[own], part.labels[own])


def _one(prepared: Prepared) -> Tensor:
    """Return the protected features of some study."""
    return next(program.studies["train"][0].image for program in prepared.programs.values() if program.studies["train"])


def _latency(prepared: Prepared) -> float:
    """Return the median milliseconds to protect one study's features, without the backbone and without sealing."""
    program = next(program for program in prepared.programs.values() if isinstance(program, FeatureProgram))
    seconds = []
    for number in range(_TIMED):
        clear = program.clear("train")[number % len(program.clear("train"))]
        began = time.perf_counter()
        program.protection.protect([clear.image], [f"latency/{number}"])
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds)) * 1000


def _utility(metrics: RunMetrics, store: RunStore, config: Config) -> Utility:
    """Return Dice from additive sums, or the AUROC of all cases: in a simulation they are all here."""
    if config.task.kind == "segmentation":
        dice = metrics.pooled["dice_mean"]
        values = [float("nan") if value is None else value for value in (dice.value, dice.ci_low, dice.ci_high)]
        return Utility(name="dice_mean", value=values[0], ci_low=values[1], ci_high=values[2], n=dice.n)
    positive = list(config.task.classes)[-1]
    cases = store.read_cases()
    scores = np.array([float(case[f"probability/{positive}"]) for case in cases])
    labels = np.array([float(case["label"]) == len(config.task.classes) - 1 for case in cases])
    subjects = [case["subject"] for case in cases]
    found = case_auroc(scores, labels, subjects, draws=_DRAWS, rng=np.random.default_rng(config.seed))
    return Utility(name="auroc", value=found.value, ci_low=found.low, ci_high=found.high, n=len(set(subjects)))

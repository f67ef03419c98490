"""What an administrator has to know about a plan, as plain values: what runs, on what, what leaves, how protected."""

from typing import Any

import medfl
from medfl.config.privacy import BottleneckStage, GaussianStage, KeyedStage, PlainNoiseStage, ProjectionStage
from medfl.config.settings import Config
from medfl.config.task import Segmentation
from medfl.config.training_privacy import DpFedAvg, DpSgd, DpUpdates
from medfl.federation.records import CHOOSE, DESCRIBE, EVALUATE, FINISH, RELEASE, SUMS, TRAIN
from medfl.governance.egress import HEADER_BYTES, ITEM_BYTES, ArrayRule, Egress, KindRule, RecordRule
from medfl.governance.plan import Plan
from pipelines.flower_bundle import bundle_sha256
from pipelines.plan_egress import repeats_of
from pipelines.site_plan import Counts

SCHEMA = "medfl/plan-summary/1"
UNPROVEN = "no proven guarantee: treat it as personal data"
_UNPROVEN_WEIGHTS = "no proven guarantee: treat the weights as personal data"
_UNPROVEN_COUNTS = "no proven guarantee: numbers of people, not about single ones"

_STRATEGIES = {
    "fedavg": "the hub takes the mean of all sites' weights",
    "fedprox": "the hub takes the mean of all sites' weights; sites stay close to the model they started from",
    "fedbn": "the hub takes the mean of all sites' weights; normalization layers stay at each site",
    "fedadam": "the hub moves its model along the mean of all sites' changes",
    "scaffold": "the hub takes the mean of all sites' weights; sites also send their mean gradient to correct drift",
}
_WHEN = {
    DESCRIBE: "once, before the first round",
    SUMS: "once, before the first round",
    CHOOSE: "once, before the first round",
    RELEASE: "once, before the first round",
    FINISH: "once, after the last round",
}


def summary_of(plan: Plan, config: Config, egress: Egress, counts: Counts | None) -> dict[str, Any]:
    """Return everything about a plan in plain words and numbers, as one JSON value.

    Parameters
    ----------
    plan : Plan
    config : Config
        Its settings.
    egress : Egress
    counts : Counts or None
        Of the site's own data.
    """
    return {
        "schema": SCHEMA,
        "name": plan.name,
        "sha256": plan.sha256(),
        "bundle_sha256": bundle_sha256(plan),
        "medfl_version": plan.medfl_version,
        "installed_version": medfl.__version__,
        "purpose": plan.purpose,
        "protocol": plan.protocol,
        "legal_basis": plan.legal_basis,
        "contact": plan.contact,
        "expires": plan.expires.isoformat(),
        "sites": list(plan.sites),
        "runs": what_runs(config),
        "stays": what_stays(config),
        "subjects": None if counts is None else counts.subjects,
        "studies": None if counts is None else counts.studies,
        "replies": [_reply(rule, config) for rule in egress.kinds],
        "totals": {
            "planned_bytes": sum(_planned(rule) * rule.max_bytes for rule in egress.kinds),
            "highest_bytes": egress.total_bytes(),
        },
    }


def what_runs(config: Config) -> list[str]:
    """Return what happens at the site, one sentence each."""
    task, training = config.task, config.training
    space = f"{task.dimensions}-D images"
    if isinstance(task, Segmentation):
        purpose = f"marks {', '.join(task.classes)} in {space} (segmentation)"
    else:
        purpose = f"tells {', '.join(task.classes)} apart in {space} (classification)"
    lines = [
        "The medfl that is installed at this site; the plan brings settings and no program code.",
        f"It trains a model that {purpose}; network: {config.network.kind}.",
    ]
    at_sites = config.sharing == "weights" or config.head_at == "sites"
    if config.sharing == "features":
        lines.append("A public, frozen network turns every image into features; they are protected at this site.")
        lines.append(_protection(config))
    if at_sites:
        passes = "pass" if training.local_epochs == 1 else "passes"
        lines.append(
            f"In each of {training.rounds} rounds this site trains for {training.local_epochs} {passes} over its own "
            f"studies; {_STRATEGIES[config.federation.strategy.kind]}."
        )
    else:
        lines.append(f"The hub trains the last layers for {training.rounds} rounds on what the sites released.")
    return [*lines, _privacy(config)]


def what_stays(config: Config) -> list[str]:
    """Return what never leaves the site."""
    stays = ["images", "pseudonyms", "file names", "predictions and results of single studies"]
    to_hub = config.sharing == "features" and config.head_at == "hub"
    if not to_hub:
        stays.insert(1, "masks" if isinstance(config.task, Segmentation) else "labels")
    if config.sharing == "features":
        stays.insert(1, "features without protection")
    return stays


def _protection(config: Config) -> str:
    protection, parts = config.protection, []
    match protection.minimize:
        case BottleneckStage():
            parts.append("reduced to the few directions that the task needs")
        case ProjectionStage():
            parts.append("reduced by a public random projection")
    match protection.noise:
        case GaussianStage() as noise:
            parts.append(f"noised (epsilon {noise.epsilon:g}, delta {noise.delta:g}, replace one subject)")
        case PlainNoiseStage():
            parts.append("noised without a proven guarantee")
    if protection.quantize is not None:
        parts.append(f"rounded to {protection.quantize} bits")
    if isinstance(protection.keyed, KeyedStage):
        parts.append("transformed under a secret key (obfuscation without a proven guarantee)")
    return f"Features are {', then '.join(parts)}." if parts else "Features are not protected in any way."


def _privacy(config: Config) -> str:
    match config.privacy:
        case DpSgd() as privacy:
            adjacency = "add or remove" if privacy.adjacency == "add-remove" else "replace"
            return (
                "Training adds noise at this site, at every step: differential privacy with epsilon "
                f"{privacy.epsilon:g}, delta {privacy.delta:g} ({adjacency} one subject), over all rounds."
            )
        case DpUpdates() as privacy:
            return (
                "This site adds noise to every update before it leaves: differential privacy with epsilon "
                f"{privacy.epsilon:g}, delta {privacy.delta:g} (replace one subject), over all rounds."
            )
        case DpFedAvg() as privacy:
            return (
                "The hub adds noise to what it passes on (epsilon "
                f"{privacy.epsilon:g}, delta {privacy.delta:g}); it sees this site's weights without noise."
            )
        case _:
            return "Training itself has no differential privacy."


def _planned(rule: KindRule) -> int:
    return max(1, rule.times - repeats_of(rule.kind))


def _reply(rule: KindRule, config: Config) -> dict[str, Any]:
    return {
        "kind": rule.kind,
        "about": rule.about,
        "split": rule.split,
        "when": _when(rule, config),
        "times": _planned(rule),
        "repeats": rule.times - _planned(rule),
        "minimum_subjects": rule.minimum_subjects,
        "values": rule.values(),
        "max_bytes": rule.max_bytes,
        "guarantee": None if rule.guarantee is None else rule.guarantee.model_dump(),
        "guarantee_words": _guarantee(rule),
        "records": [_record(record) for record in rule.records],
        "report": [{"name": one.name, "kind": one.kind} for one in rule.report],
    }


def _when(rule: KindRule, config: Config) -> str:
    if rule.kind == TRAIN:
        return f"in each of {config.training.rounds} rounds"
    if rule.kind == EVALUATE:
        every = config.evaluation.every
        return "after every round" if every == 1 else f"after every {every} rounds"
    return _WHEN[rule.kind]


def _guarantee(rule: KindRule) -> str:
    found = rule.guarantee
    if found is not None:
        words = f"epsilon {found.epsilon:g}, delta {found.delta:g}, {found.adjacency} {found.unit}, over all rounds"
        return f"{words}; labels or masks beside it have none" if rule.kind == RELEASE else words
    if rule.kind == TRAIN:
        return _UNPROVEN_WEIGHTS
    return _UNPROVEN_COUNTS if rule.kind == DESCRIBE else UNPROVEN


def _record(record: RecordRule) -> dict[str, Any]:
    return {"name": record.name, "note": record.note, "arrays": [_array(one) for one in record.arrays]}


def _array(rule: ArrayRule) -> dict[str, Any]:
    return {
        "name": f"{rule.name}*" if rule.many else rule.name,
        "shape": [f"up to {rule.longest}" if extent is None else extent for extent in rule.shape],
        "dtype": rule.dtype,
        "most": rule.most,
        "bytes": rule.highest_bytes() // rule.most - HEADER_BYTES,
        "bytes_per_value": ITEM_BYTES[rule.dtype],
    }

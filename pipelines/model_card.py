"""What a model may and may not be used for, in plain words."""

from collections.abc import Sequence

from medfl.config.settings import Config
from medfl.config.training_privacy import NoTrainingPrivacy
from medfl.federation.program import SiteFacts
from medfl.results.history import History
from medfl.results.metrics import RunMetrics


def model_card(config: Config, sites: Sequence[SiteFacts], history: History, metrics: RunMetrics | None) -> str:
    """Return the model card as Markdown.

    Parameters
    ----------
    config : Config
    sites : sequence of SiteFacts
    history : History
    metrics : RunMetrics or None
        None while the final evaluation is still to come.
    """
    subjects = sum(site.subjects.get("train", 0) for site in sites)
    studies = sum(site.studies.get("train", 0) for site in sites)
    skipped = sum(bool(record.skipped) for record in history.rounds)
    lines = [
        f"# Model card: {config.name}",
        "",
        "**Research use only.** This model is not a medical device. It must not be used for diagnosis or treatment.",
        "",
        "## What it does",
        "",
        f"{config.task.kind.capitalize()} in {config.task.dimensions} dimensions, classes: "
        f"{', '.join(config.task.classes)}. Network: {config.network.kind}.",
        "",
        "## How it was trained",
        "",
        f"Federated over {len(sites)} sites with {config.federation.strategy.kind}, {len(history.rounds)} rounds "
        f"({skipped} skipped) of {config.training.local_epochs} local epoch(s), on {studies} studies of {subjects} "
        f"subjects. {_sharing(config)}",
        "",
        "| site | training subjects | training studies | test subjects |",
        "|---|---|---|---|",
        *(
            f"| {site.site} | {site.subjects.get('train', 0)} | {site.studies.get('train', 0)} | "
            f"{site.subjects.get('test', 0)} |"
            for site in sites
        ),
        "",
        "## How well it does",
        "",
    ]
    if metrics is None:
        lines.append("Not judged yet.")
    else:
        lines += ["| metric, all sites | value | 95 % interval | subjects |", "|---|---|---|---|"]
        for name, metric in metrics.pooled.items():
            if metric.value is not None:
                low = "-" if metric.ci_low is None else f"{metric.ci_low:.3f}"
                high = "-" if metric.ci_high is None else f"{metric.ci_high:.3f}"
                lines.append(f"| {name} | {metric.value:.3f} | {low} to {high} | {metric.n} |")
    lines += [
        "",
        "## What is not known",
        "",
        "- How it does on scanners, protocols and populations other than those of the sites above.",
        _memory(config),
        "",
    ]
    return "\n".join(lines)


def _memory(config: Config) -> str:
    privacy = config.privacy
    if isinstance(privacy, NoTrainingPrivacy):
        return (
            "- Whether it remembers single subjects: nothing is proven about the weights (epsilon is infinite; see "
            "privacy.json), so treat them as personal data until an audit says otherwise."
        )
    return (
        f"- Single subjects: training is differentially private per subject ({privacy.kind}), planned for epsilon "
        f"{privacy.epsilon:g} at delta {privacy.delta:g}; privacy.json says under which adjacency, against whom, and "
        "what is outside of it."
    )


def _sharing(config: Config) -> str:
    if config.sharing == "weights":
        return "Sites shared model weights."
    trainer = "the hub on released features" if config.head_at == "hub" else "the sites, and no feature left them"
    return (
        f"The backbone is public and frozen. Features were protected by '{config.protection.arm}'. The head was "
        f"trained by {trainer}."
    )

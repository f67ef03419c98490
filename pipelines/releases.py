"""Which releases a run consists of."""

from collections.abc import Sequence

from medfl.config.settings import Config
from medfl.config.training_privacy import DpFedAvg, DpSgd, DpUpdates
from medfl.federation.program import SiteFacts
from medfl.federation.reports import EXHAUSTED
from medfl.results.history import History
from medfl.results.privacy import PrivacyRecord, Release
from pipelines.feature_releases import feature_record, release_of
from pipelines.training_events import models_event, training_event

_PRIVATE_STATEMENT = (
    "Sites shared model weights of private training: the epsilon of the weights is for everything that all rounds show "
    "about one training subject, for a hub that sees every message. Measures are about subjects of the validation and "
    "test splits, who were not trained on; they and all counts have no proof and are outside of the guarantee, and so "
    "is the time that a site takes to answer. Every epsilon takes a subject to be at one site and counts this run "
    "alone; the site's ledger adds up runs. A subject of two sites has the sum of both."
)
_STATEMENT = (
    "Sites shared model weights and additive measures. No proven protection was applied, so epsilon is infinite for "
    "every release. A protector inside the network protects features, never weight updates."
)


def release_record(
    config: Config, sites: Sequence[SiteFacts], history: History, *, is_finished: bool = False
) -> PrivacyRecord:
    """Return what left each site, for `privacy.json`; features come on top where they are shared.

    Parameters
    ----------
    config : Config
    sites : sequence of SiteFacts
    history : History
    is_finished : bool
        Before the end, differential privacy of training is stated for all planned rounds.
    """
    every = config.evaluation.every
    validations = sum(1 for record in history.rounds if every and not record.number % every and not record.skipped)
    releases: list[Release] = []
    for site in sites:
        if config.sharing == "weights" or config.head_at == "sites":
            releases += _of_training(config, site, history, is_finished=is_finished)
        for split, times in (("val", validations), ("test", 1)):
            enough = site.subjects[split] >= config.evaluation.minimum_subjects
            releases.append(
                Release(
                    site=site.site,
                    what=f"additive measures of the {split} split",
                    subjects=site.subjects[split] if enough else 0,
                    times=times if enough else 0,
                    note="sums over subjects and coarse second moments"
                    if enough
                    else f"held back: fewer than {config.evaluation.minimum_subjects} subjects",
                )
            )
        releases.append(
            Release(
                site=site.site,
                what="numbers of subjects and studies per split",
                subjects=sum(site.subjects.values()),
                times=1,
            )
        )
    if config.sharing == "features":
        return feature_record(config, sites, history, releases)
    statement = _PRIVATE_STATEMENT if isinstance(config.privacy, DpSgd | DpUpdates) else _STATEMENT
    return PrivacyRecord(releases=tuple(releases), statement=statement)


def _of_training(config: Config, site: SiteFacts, history: History, *, is_finished: bool) -> list[Release]:
    parts = [part for record in history.rounds for part in record.sites if part.site == site.site]
    sent, asked = sum(bool(part.bytes_up) for part in parts), sum(part.refused != EXHAUSTED for part in parts)
    asked += history.resumed if asked else 0
    subjects = site.subjects["train"]
    if is_finished and not asked:
        return []
    rounds = asked if is_finished else max(asked, config.training.rounds)
    scaffold = ["control variate (mean gradient of the round)"] if config.federation.strategy.kind == "scaffold" else []
    if not isinstance(config.privacy, DpSgd | DpUpdates):
        told = [] if isinstance(config.privacy, DpFedAvg) else ["mean training loss and seconds of a round"]
        kinds = ["model weights after local training", *scaffold, *told]
        plain = [Release(site=site.site, what=what, subjects=subjects, times=sent) for what in kinds]
        models = models_event(config, subjects=subjects, rounds=rounds)
        if models is not None:
            plain.append(release_of(site.site, "global models, noised by the hub", subjects, models, times=sent))
        return plain
    event = training_event(config, subjects=subjects, rounds=rounds)
    what = " and ".join(["model weights after private training", *scaffold])
    return [release_of(site.site, what, subjects, event, times=sent)]

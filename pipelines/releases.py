"""Which releases a run consists of."""

from collections.abc import Sequence

from medfl.config.settings import Config
from medfl.federation.program import SiteFacts
from medfl.results.history import History
from medfl.results.privacy import PrivacyRecord, Release
from pipelines.feature_releases import feature_record

_STATEMENT = (
    "Sites shared model weights and additive measures. No proven protection was applied, so epsilon is infinite for "
    "every release. A protector inside the network protects features, never weight updates."
)


def release_record(config: Config, sites: Sequence[SiteFacts], history: History) -> PrivacyRecord:
    """Return what left each site, for `privacy.json`; features come on top where they are shared.

    Parameters
    ----------
    config : Config
    sites : sequence of SiteFacts
    history : History
    """
    every = config.evaluation.every
    validations = sum(1 for record in history.rounds if every and not record.number % every and not record.skipped)
    releases: list[Release] = []
    for site in sites:
        sent = sum(1 for record in history.rounds for part in record.sites if part.site == site.site and part.bytes_up)
        if config.sharing == "weights" or config.head_at == "sites":
            releases += _of_training(config, site, sent)
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
    return PrivacyRecord(releases=tuple(releases), statement=_STATEMENT)


def _of_training(config: Config, site: SiteFacts, sent: int) -> list[Release]:
    kinds = ["model weights after local training", "mean training loss and seconds of a round"]
    if config.federation.strategy.kind == "scaffold":
        kinds.insert(1, "control variate (mean gradient of the round)")
    return [Release(site=site.site, what=what, subjects=site.subjects["train"], times=sent) for what in kinds]

"""Which releases a run in weight mode consists of."""

from collections.abc import Sequence

from medfl.config.settings import Config
from medfl.federation.program import SiteFacts
from medfl.results.history import History
from medfl.results.privacy import PrivacyRecord, Release

_STATEMENT = (
    "Sites shared model weights and additive measures. No proven protection was applied, so epsilon is infinite for "
    "every release. A protector inside the network protects features, never weight updates."
)


def release_record(config: Config, sites: Sequence[SiteFacts], history: History) -> PrivacyRecord:
    """Return what left each site, for `privacy.json`.

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
        releases.append(
            Release(
                site=site.site, what="model weights after local training", subjects=site.subjects["train"], times=sent
            )
        )
        if config.federation.strategy.kind == "scaffold":
            releases.append(
                Release(site=site.site, what="change of control variate", subjects=site.subjects["train"], times=sent)
            )
        releases.append(
            Release(
                site=site.site,
                what="mean training loss and seconds of a round",
                subjects=site.subjects["train"],
                times=sent,
            )
        )
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
    return PrivacyRecord(releases=tuple(releases), statement=_STATEMENT)

"""Which releases a run in feature mode consists of."""

from collections.abc import Sequence

from medfl.config.privacy import BottleneckStage, GaussianStage
from medfl.config.settings import Config
from medfl.federation.program import SiteFacts
from medfl.privacy.accounting import ReleaseEvent, gaussian_release, non_private
from medfl.privacy.gaussian import analytic_sigma
from medfl.results.history import History, SiteRelease
from medfl.results.privacy import PrivacyRecord, Release

_STATEMENT = (
    "Sites shared protected features. Keyed obfuscation and a bottleneck have no proof, so epsilon is infinite for "
    "what they protect; the Gaussian mechanism has one, for the features alone. Targets, sums, counts and head weights "
    "are releases of their own and are listed as such. Every epsilon takes a subject to be at one site and counts this "
    "run alone. Features of any study leave a site again when it asks for a prediction; that is not part of this list."
)


def feature_releases(config: Config, sites: Sequence[SiteFacts], history: History) -> tuple[Release, ...]:
    """Return what left each site before the first round, beside what every run sends.

    Parameters
    ----------
    config : Config
    sites : sequence of SiteFacts
    history : History
        With the sites' releases of features.
    """
    found: list[Release] = []
    records = {record.site: record for record in history.releases}
    for site in sites:
        found += _of_bottleneck(config, site)
        record = records.get(site.site)
        if record is not None and record.studies:
            found += _of_features(config, record)
        elif record is not None and record.bytes_up:
            what = "protected features and targets that the hub did not use"
            found.append(release_of(site.site, what, site.subjects["train"], non_private(f"refused: {record.refused}")))
    return tuple(found)


def feature_record(
    config: Config, sites: Sequence[SiteFacts], history: History, rest: Sequence[Release]
) -> PrivacyRecord:
    """Return `privacy.json` of a run that shares features; `rest` is what every run sends."""
    return PrivacyRecord(releases=(*feature_releases(config, sites, history), *rest), statement=_STATEMENT)


def _of_bottleneck(config: Config, site: SiteFacts) -> list[Release]:
    stage = config.protection.minimize
    if not isinstance(stage, BottleneckStage) or (stage.learn == "site" and stage.site != site.site):
        return []
    train = site.subjects["train"]
    if stage.learn == "site":
        what = f"{stage.directions[0]} directions learned at this site"
        return [release_of(site.site, what, train, non_private("a fit to this site's studies, without noise"))]
    what = "sums and cross products of features per class"
    if stage.epsilon is not None:
        event = _gaussian(stage.epsilon, stage.delta, train, 1, "clipped, one vote per subject, noised at the site")
        return [release_of(site.site, what, train, event)]
    leak = "with fewer studies than channels they give away whether a known feature vector is among them"
    releases = [release_of(site.site, what, train, non_private(leak))]
    if len(stage.directions) > 1:
        what = "right answers per class for each candidate of the bottleneck"
        releases.append(release_of(site.site, what, site.subjects["val"], non_private("counts without noise")))
    return releases


def _of_features(config: Config, record: SiteRelease) -> list[Release]:
    noise = config.protection.noise
    if isinstance(noise, GaussianStage):
        note = (
            f"clipped to a root mean square of {noise.clip:g}; at most {noise.studies_per_subject} studies of a subject"
        )
        event = _gaussian(noise.epsilon, noise.delta, record.subjects, noise.studies_per_subject, note)
    else:
        event = non_private("no noise with a proof: keyed obfuscation and minimization have none")
    features = f"protected features of training studies (arm {config.protection.arm}, {record.studies} studies)"
    targets = "labels" if config.task.kind == "classification" else "masks"
    return [
        release_of(record.site, features, record.subjects, event),
        release_of(record.site, f"{targets} of the same studies", record.subjects, non_private("sent as they are")),
        release_of(
            record.site, "number of released subjects and studies", record.subjects, non_private("sent as they are")
        ),
    ]


def _gaussian(epsilon: float, delta: float, subjects: int, times: int, note: str) -> ReleaseEvent:
    """Return the event of noise that was calibrated for `epsilon`, computed anew by dp-accounting."""
    sensitivity = 2.0
    if 10 * subjects * delta > 1:
        return non_private("a guarantee needs delta <= 1 / (10 * subjects), and the site counts too many subjects")
    sigma = analytic_sigma(epsilon, delta, sensitivity, times)
    return gaussian_release(
        sigma=sigma,
        sensitivity=sensitivity,
        delta=delta,
        subjects=subjects,
        releases_per_subject=times,
        note=note,
    )


def release_of(site: str, what: str, subjects: int, event: ReleaseEvent, *, times: int = 1) -> Release:
    """Return an event as `privacy.json` lists it."""
    return Release(
        site=site,
        what=what,
        subjects=subjects,
        times=times,
        mechanism=event.mechanism,
        adjacency=event.adjacency,
        accountant=event.accountant,
        release_model=event.release_model,
        delta=event.delta,
        epsilon=event.epsilon,
        note=event.note,
    )

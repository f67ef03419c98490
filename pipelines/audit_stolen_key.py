"""What a stolen key, or a few known images, undo of the keyed transform, in an audit; no verdict rests on it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from medfl.attacks.feature_inversion import evaluate_feature_inversion, known_and_strangers
from medfl.attacks.key_compromise import evaluate_key_compromise, learned_inverse
from medfl.attacks.pairs import Features, Floats
from medfl.attacks.permutation_recovery import MOST_POSITIONS, evaluate_permutation_recovery
from medfl.audit.material import ReleasedFeatures
from medfl.data.dataset import PreparedStudy
from medfl.errors import ConfigError, TooFewSubjectsError
from medfl.privacy.keyed_transform import KeyedNonlinearTransform
from medfl.results.attack import AttackResult
from medfl.results.report import Budget
from pipelines.audit_input import AttackInput
from pipelines.audit_material import FEATURES, AuditedRun
from pipelines.custody import MemoryCustody, custody_beside
from pipelines.feature_program import FeatureProgram
from pipelines.protection import SiteProtection, transform_settings

_STEPS: Mapping[Budget, int] = {"quick": 60, "standard": 300, "full": 1000}
_REPEATS: Mapping[Budget, int] = {"quick": 5, "standard": 20, "full": 50}
_MOST_OWN: Mapping[Budget, int] = {"quick": 500, "standard": 2000, "full": 4000}
_MOST_MOVED: Mapping[Budget, int] = {"quick": 1024, "standard": MOST_POSITIONS, "full": MOST_POSITIONS}
_KNOWN_MAPS = (1, 4, 16)
_LEAST_ASKED, _LEAST_OWN = 2, 4


@dataclass(frozen=True, eq=False)
class KeyedRelease:
    """What was released under one key.

    Attributes
    ----------
    transform : KeyedNonlinearTransform
        With the key in use.
    before : ndarray of shape (m, C, *spatial)
        Features that went into it, without noise and rounding.
    rows : ndarray of shape (m,), int64
        Which of all studies they are of.
    """

    transform: KeyedNonlinearTransform
    before: Features
    rows: NDArray[np.int64]

    def of(self, kept: NDArray[np.bool_]) -> "KeyedRelease":
        """Return what was released of some of all studies, numbered among those kept."""
        own = kept[self.rows]
        places = np.cumsum(kept) - 1
        return KeyedRelease(self.transform, self.before[own], places[self.rows[own]])


def features_before_key(run: AuditedRun) -> Features:
    """Return what a site keeps of its features before noise, rounding and key, in the order of what was released.

    Whoever knows the directions of a bottleneck, as every recipient does, computes it for any image.

    Returns
    -------
    ndarray of shape (n, C, *spatial), float32
    """
    plain = run.config.protection.model_copy(update={"noise": None, "quantize": None, "keyed": None})
    config = run.config.model_copy(update={"protection": plain})
    parts = []
    for site, program, studies in _released(run):
        kept = SiteProtection(config, program.cut, run.minimized, MemoryCustody(), site)
        parts.append(kept.protect([s.image for s in studies], [s.row.study for s in studies]).numpy())
    return np.concatenate(parts)


def keyed_releases(run: AuditedRun, before: Features) -> tuple[KeyedRelease, ...]:
    """Return what left the sites for training, key by key; nothing without a keyed transform.

    Parameters
    ----------
    run : AuditedRun
    before : ndarray of shape (n, C, *spatial)
        Of all studies, from `features_before_key`.

    Raises
    ------
    KeyFileError
        If keys were used and are not where the simulation keeps them.
    """
    keyed = run.config.protection.keyed
    if keyed is None:
        return ()
    custody = custody_beside(run.store, create=False)
    transforms: dict[str, KeyedNonlinearTransform] = {}
    rows: dict[str, list[NDArray[np.int64]]] = {}
    start = 0
    for site, program, studies in _released(run):
        protection = SiteProtection(run.config, program.cut, run.minimized, custody, site)
        if protection.key is not None:
            settings = transform_settings(keyed)
            transforms[protection.key_id] = KeyedNonlinearTransform(protection.key, protection.shape, settings)
            rows.setdefault(protection.key_id, []).append(np.arange(start, start + len(studies)))
        start += len(studies)
    own = {key: np.concatenate(parts) for key, parts in rows.items()}
    return tuple(KeyedRelease(transforms[key], before[own[key]], own[key]) for key in own)


def with_the_key(
    given: AttackInput, material: ReleasedFeatures, releases: Sequence[KeyedRelease], known: int
) -> tuple[AttackResult, ...]:
    """Undo the transform with the stolen key, and name what went into it; then name clear features from known pairs.

    Parameters
    ----------
    given : AttackInput
    material : ReleasedFeatures
        That `releases` number their rows in.
    releases : sequence of KeyedRelease
    known : int
        Images known both clear and released, for what lies before the transform.

    Raises
    ------
    TooFewSubjectsError
        If there are too few subjects with two studies, in all or under one key.
    """
    order, strangers = known_and_strangers(material.subjects, np.random.default_rng(given.seed))
    found: list[AttackResult] = []
    recovered = np.empty((len(material.subjects), *releases[0].before.shape[1:]))
    for release, setting in _named(releases):
        asked, own = (
            _asked(release, material, strangers, given),
            np.isin(release.rows, order[: _MOST_OWN[given.budget]]),
        )
        if len(asked) < _LEAST_ASKED or own.sum() < _LEAST_OWN:
            raise TooFewSubjectsError(f"A stolen key needs two strangers and four own studies, found {len(asked)}.")
        before = release.before.astype(np.float64)
        seen = material.released[release.rows].astype(np.float64)
        recovered[release.rows] = _undone(release.transform, seen, before[own])
        attacks = evaluate_key_compromise(
            release.transform,
            seen[asked],
            before[asked],
            material.subjects[release.rows][asked],
            seed=given.seed,
            steps=_STEPS[given.budget],
            draws=given.draws,
            own=before[own],
        )
        found += [one.model_copy(update={"setting": setting}) for one in attacks]
    named = evaluate_feature_inversion(
        recovered, material.clear, material.subjects, seed=given.seed, known=(known,), draws=given.draws
    )
    return (
        *found,
        *(one.model_copy(update={"name": f"key, then {one.name}", "knowledge": "key"}) for one in named),
    )


def moves_positions(given: AttackInput, releases: Sequence[KeyedRelease]) -> bool:
    """Tell whether keys moved positions of maps."""
    keyed = given.run.config.protection.keyed
    return keyed is not None and keyed.permutation != "none" and any(_positions(one) > 1 for one in releases)


def moved_positions(
    given: AttackInput, material: ReleasedFeatures, releases: Sequence[KeyedRelease]
) -> tuple[AttackResult, ...]:
    """Find where the key moved the positions of maps, from a few known images.

    Parameters are those of `with_the_key`. Nothing comes back where no position is moved, or maps have more than can be
    matched: 1,024 on a quick budget, 4,096 otherwise.
    """
    if not moves_positions(given, releases) or _positions(releases[0]) > _MOST_MOVED[given.budget]:
        return ()
    return tuple(
        one.model_copy(update={"setting": ", ".join(filter(None, (one.setting, setting)))})
        for release, setting in _named(releases)
        for one in evaluate_permutation_recovery(
            release.transform,
            material.released[release.rows].astype(np.float64),
            release.before.astype(np.float64),
            material.subjects[release.rows],
            seed=given.seed,
            known=_KNOWN_MAPS,
            repeats=_REPEATS[given.budget],
        )
    )


def _released(run: AuditedRun) -> Iterator[tuple[str, FeatureProgram, list[PreparedStudy]]]:
    for site, program in run.prepared.programs.items():
        if run.store.read_release(site, FEATURES) is not None and isinstance(program, FeatureProgram):
            yield site, program, program.allowed(program.clear("train"))


def _positions(release: KeyedRelease) -> int:
    return int(np.prod(release.before.shape[2:]))


def _named(releases: Sequence[KeyedRelease]) -> Iterator[tuple[KeyedRelease, str]]:
    for number, release in enumerate(releases, start=1):
        yield release, f"key {number} of {len(releases)}" if len(releases) > 1 else ""


def _asked(
    release: KeyedRelease, material: ReleasedFeatures, strangers: NDArray[np.int64], given: AttackInput
) -> NDArray[np.int64]:
    """Return one study of each stranger under this key, at most a gallery of them."""
    own = np.random.default_rng(given.seed).permutation(np.flatnonzero(np.isin(release.rows, strangers)))
    first = own[np.unique(material.subjects[release.rows[own]], return_index=True)[1]]
    return np.random.default_rng(given.seed).permutation(first)[: given.policy.gallery]


def _undone(transform: KeyedNonlinearTransform, released: Floats, own: Floats) -> Floats:
    """Return the exact inverse; where there is none, what a regression on self-made pairs guesses."""
    target = torch.from_numpy(released)
    with torch.no_grad():
        try:
            return np.asarray(transform.inverse(target).numpy())
        except ConfigError:
            return np.asarray(learned_inverse(transform, own)(target).numpy())

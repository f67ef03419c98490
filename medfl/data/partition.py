"""Who is in which split and, for simulations, at which site; decided by subject, never by study.

Assign sites first and splits second: splits are drawn inside each site, so every site has its own.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby

import numpy as np

from medfl.data.apportionment import deal
from medfl.data.manifest import SPLITS, Manifest, StudyRow
from medfl.errors import ConfigError, ManifestError

_DIRICHLET_TRIES = 1000


def assign_splits(
    manifest: Manifest,
    fractions: tuple[float, float, float],
    *,
    seed: int,
    keep_existing: bool = True,
    stratify: bool = False,
) -> Manifest:
    """Give every subject of every site a split.

    Inside each site the number of subjects per split is `fractions` times the subjects to place, rounded by largest
    remainder; a split with a fraction above zero gets at least one subject where the site has enough of them.
    A site's draw does not depend on the other sites.

    Parameters
    ----------
    manifest : Manifest
        Studies; a subject at several sites is drawn with the first of them (sorted).
    fractions : tuple of three floats
        Train, val, test; each >= 0, sum 1.
    seed : int
        Seed of the draw, >= 0.
    keep_existing : bool
        Leave subjects that have a split where they are, and apply `fractions` to the others.
    stratify : bool
        Spread every class label evenly over the splits (a subject's label is its most frequent one).

    Raises
    ------
    ConfigError
        If `fractions` or `seed` are out of range.
    """
    _check_seed(seed)
    shares = _checked_shares(fractions)
    existing = {row.subject: row.split for row in manifest.rows if row.split} if keep_existing else {}
    labels = _subject_labels(manifest) if stratify else {}
    site_of = _first_site(manifest)
    chosen = dict(existing)
    open_subjects = sorted((site_of[subject], subject) for subject in site_of if subject not in existing)
    for site, members in groupby(open_subjects, key=lambda pair: pair[0]):
        order = _shuffled([subject for _, subject in members], seed=seed, stream=f"split/{site}")
        order.sort(key=lambda subject: labels.get(subject, ""))
        for subject, index in zip(order, deal(len(order), shares, at_least_one=True), strict=True):
            chosen[subject] = SPLITS[index]
    return replace(manifest, rows=tuple(replace(row, split=chosen[row.subject]) for row in manifest.rows))


def hold_out_validation(manifest: Manifest, fraction: float, *, seed: int, stratify: bool = False) -> Manifest:
    """Move a part of each site's training subjects to validation and touch nothing else.

    For data sets that come with an official train and test part only.

    Parameters
    ----------
    manifest : Manifest
        Studies with splits.
    fraction : float
        Share of the training subjects, in [0, 1).
    seed : int
        Seed of the draw, >= 0.
    stratify : bool
        As in `assign_splits`.

    Raises
    ------
    ConfigError
        If `fraction` or `seed` is out of range.
    """
    if not 0.0 <= fraction < 1.0:
        raise ConfigError(f"fraction must be in [0, 1), got {fraction}.")
    opened = replace(manifest, rows=tuple(replace(r, split="") if r.split == "train" else r for r in manifest.rows))
    return assign_splits(opened, (1.0 - fraction, fraction, 0.0), seed=seed, stratify=stratify)


def by_column(manifest: Manifest, *, merge: Mapping[str, str] | None = None) -> Manifest:
    """Use the real sites of the manifest, optionally joining small ones to others.

    Parameters
    ----------
    manifest : Manifest
        Studies that all name a site.
    merge : mapping from str to str, optional
        Site to replace -> site to join, e.g. ``{"EZ": "FG"}``.

    Raises
    ------
    ConfigError
        If `merge` names a site to replace that is not there.
    ManifestError
        If a study has no site, or a subject is at two sites after merging.
    """
    merge = {} if merge is None else merge
    unknown = sorted(set(merge) - set(manifest.sites()))
    if unknown:
        raise ConfigError(f"merge must name sites of the manifest {list(manifest.sites())}, got {unknown}.")
    if any(not row.site for row in manifest.rows):
        raise ManifestError("Every study must name its site to use the site column. Fill it in or simulate sites.")
    merged = replace(manifest, rows=tuple(replace(row, site=merge.get(row.site, row.site)) for row in manifest.rows))
    places = {(row.subject, row.site) for row in merged.rows}
    double = len(places) - len(merged.subjects())
    if double:
        raise ManifestError(f"A subject must be at one site; {double} subject-site pairs too many were found.")
    return merged


def iid(manifest: Manifest, n: int, *, seed: int) -> Manifest:
    """Deal the subjects to `n` sites of equal size at random, evenly within each existing split.

    Parameters
    ----------
    manifest : Manifest
        Studies; their present site is overwritten.
    n : int
        Number of sites ``site-1`` to ``site-n``, in [1, number of subjects].
    seed : int
        Seed of the draw, >= 0.

    Raises
    ------
    ConfigError
        If `n` or `seed` is out of range.
    """
    _check_site_count(n)
    return by_size(manifest, dict.fromkeys(_site_names(n), 1.0 / n), seed=seed)


def by_size(manifest: Manifest, shares: Mapping[str, float], *, seed: int) -> Manifest:
    """Deal the subjects at random to sites of the sizes asked for, evenly within each existing split.

    Parameters
    ----------
    manifest : Manifest
        Studies; their present site is overwritten.
    shares : mapping from str to float
        Site name -> share of the subjects; each > 0, sum 1. Rounded by largest remainder, at least one subject each.
    seed : int
        Seed of the draw, >= 0.

    Raises
    ------
    ConfigError
        If the shares or the seed are out of range, or there are fewer subjects than sites.
    """
    _check_seed(seed)
    names = list(shares)
    weights = _checked_shares(tuple(shares.values()))
    if not names or any(not name for name in names) or min(weights) <= 0.0:
        raise ConfigError(f"shares must name at least one site and be > 0, got {dict(shares)}.")
    splits = _subject_splits(manifest)
    _check_enough(len(splits), len(names))
    order = _shuffled(sorted(splits), seed=seed, stream="site")
    order.sort(key=lambda subject: splits[subject])
    dealt = deal(len(order), weights, at_least_one=True)
    return _with_sites(manifest, {subject: names[index] for subject, index in zip(order, dealt, strict=True)})


def by_label_dirichlet(manifest: Manifest, n: int, *, alpha: float, min_subjects: int = 1, seed: int) -> Manifest:
    """Give sites different class mixtures: per class, the shares of the sites are Dirichlet(alpha, ..., alpha).

    The scheme of Yurochkin et al. 2019 (arXiv 1905.12022), by subject; drawn again until every site is large enough.

    Parameters
    ----------
    manifest : Manifest
        Studies with class labels; their present site is overwritten.
    n : int
        Number of sites ``site-1`` to ``site-n``, >= 1.
    alpha : float
        Concentration, > 0: small is skewed, large is nearly equal.
    min_subjects : int
        Fewest subjects per site, >= 1.
    seed : int
        Seed of the draw, >= 0.

    Raises
    ------
    ConfigError
        If a setting is out of range, a study has no class label, or no draw gives every site enough subjects.
    """
    _check_seed(seed)
    _check_site_count(n)
    if not (np.isfinite(alpha) and alpha > 0.0):
        raise ConfigError(f"alpha must be > 0, got {alpha}.")
    if min_subjects < 1:
        raise ConfigError(f"min_subjects must be >= 1, got {min_subjects}.")
    if any(row.has_mask or not row.target for row in manifest.rows):
        raise ConfigError("A label-skewed partition needs a class label for every study. Use iid or by_size instead.")
    labels, splits = _subject_labels(manifest), _subject_splits(manifest)
    _check_enough(len(labels), n * min_subjects)
    order = _shuffled(sorted(labels), seed=seed, stream="site")
    order.sort(key=lambda subject: (labels[subject], splits[subject]))
    rng = _generator(seed, "dirichlet")
    sizes = list(Counter(labels[subject] for subject in order).values())
    for _ in range(_DIRICHLET_TRIES):
        dealt = np.concatenate([deal(size, tuple(rng.dirichlet(np.full(n, alpha)))) for size in sizes])
        if np.bincount(dealt, minlength=n).min() >= min_subjects:
            names = _site_names(n)
            return _with_sites(manifest, {subject: names[index] for subject, index in zip(order, dealt, strict=True)})
    raise ConfigError(
        f"No draw in {_DIRICHLET_TRIES} gave each of {n} sites {min_subjects} subjects. Raise alpha or lower n."
    )


def _subject_labels(manifest: Manifest) -> dict[str, str]:
    """Return each subject's most frequent class label (ties: the first in sorting); masks count as no label."""
    counts: dict[str, Counter[str]] = {}
    for row in manifest.rows:
        counts.setdefault(row.subject, Counter())["" if row.has_mask else row.target] += 1
    return {subject: min(seen, key=lambda label: (-seen[label], label)) for subject, seen in counts.items()}


def _subject_splits(manifest: Manifest) -> dict[str, str]:
    splits: dict[str, str] = {}
    for row in manifest.rows:
        splits[row.subject] = row.split or splits.get(row.subject, "")
    return splits


def _first_site(manifest: Manifest) -> dict[str, str]:
    sites: dict[str, str] = {}
    for row in manifest.rows:
        sites[row.subject] = min(row.site, sites.get(row.subject, row.site))
    return sites


def _with_sites(manifest: Manifest, site_of: Mapping[str, str]) -> Manifest:
    rows: tuple[StudyRow, ...] = tuple(replace(row, site=site_of[row.subject]) for row in manifest.rows)
    return replace(manifest, rows=rows)


def _shuffled(subjects: list[str], *, seed: int, stream: str) -> list[str]:
    order = _generator(seed, stream).permutation(len(subjects))
    return [subjects[index] for index in order]


def _generator(seed: int, stream: str) -> np.random.Generator:
    """Return one independent stream of random numbers per purpose."""
    salt = int.from_bytes(hashlib.sha256(stream.encode("utf-8")).digest()[:8], "big")
    return np.random.default_rng((seed, salt))


def _site_names(n: int) -> list[str]:
    return [f"site-{number}" for number in range(1, n + 1)]


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise ConfigError(f"seed must be >= 0, got {seed}.")


def _check_site_count(n: int) -> None:
    if n < 1:
        raise ConfigError(f"n must be >= 1 sites, got {n}.")


def _check_enough(subjects: int, needed: int) -> None:
    if subjects < needed:
        raise ConfigError(f"At least {needed} subjects are needed for these sites, found {subjects}.")


def _checked_shares(shares: tuple[float, ...]) -> tuple[float, ...]:
    if any(not share >= 0.0 for share in shares) or abs(sum(shares) - 1.0) > 1e-6:
        raise ConfigError(f"Shares must be >= 0 with sum 1, got {shares}.")
    return shares

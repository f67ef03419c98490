"""Attackers that read sex, site, scanner or view from features, judged against what the diagnosis alone gives away.

What is scored is a subject, by the mean over its images; a subject whose images differ in the attribute, such as its
views, is scored once per value. Every choice (shrinkage, view of maps, when to stop, which of several classes is
easiest to read) is made on subjects that the attacker holds out of its own.
"""

import time
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medfl.attacks.attribute_attackers import Fit, LabeledImages, areas_of, fit_network, fit_probe, held_out
from medfl.attacks.pairs import Features, Floats
from medfl.attacks.statistics import LEVEL, auc
from medfl.errors import ConfigError, ShapeError, TooFewSubjectsError
from medfl.results.attack import AttackResult, Control, Measure

MIN_TEST_SUBJECTS = 10
MIN_ATTACKER_SUBJECTS = 8
_SHUFFLES = 5
_MOST_UNDEFINED = 0.1


def evaluate_attribute(
    attacker_features: Features,
    attacker_subjects: ArrayLike,
    attacker_values: ArrayLike,
    test_features: Features,
    test_subjects: ArrayLike,
    test_values: ArrayLike,
    *,
    name: str,
    labels: tuple[ArrayLike, ArrayLike] | None = None,
    metadata: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    seed: int,
    draws: int = 1000,
) -> tuple[tuple[AttackResult, ...], tuple[Control, ...]]:
    """Let a linear probe and a small network learn one attribute on the attacker's subjects; judge them on strangers.

    Of an attribute with more than two values the class is reported that is easiest to tell from all others on the
    attacker's own held-out subjects, with all classes as further measures.

    Parameters
    ----------
    attacker_features : ndarray of shape (n, D) or (n, C, *spatial)
    attacker_subjects, attacker_values : array_like of shape (n,)
    test_features : ndarray of shape (m, ...)
        Of the same kind.
    test_subjects, test_values : array_like of shape (m,)
        None of these subjects may be the attacker's.
    name : str
        Of the attribute.
    labels : two array_like of shapes (n,) and (m,), or None
        Classes of the task, attacker's and test's: what the task itself tells about the attribute is the chance level.
        None takes 0.5.
    metadata : two ndarray of shapes (n, M) and (m, M), or None
        Numbers known beside the features, for the confounder control.
    seed : int
        Equal seeds give equal results, but for `seconds`.
    draws : int
        Draws of subjects for the intervals.

    Returns
    -------
    results : tuple of AttackResult
        Family "attributes": "linear probe" and "mlp". The further measure "excess_over_baseline" is value minus chance
        under the same draws of subjects.
    controls : tuple of Control
        "null" of each attacker: the mean of five areas, each with the values shuffled over subjects and everything
        learned anew. "confounder": a linear probe on the metadata alone.

    Raises
    ------
    ConfigError
        If a test subject is one of the attacker's, or there is one value only.
    ShapeError
        If arrays do not fit together or features are not finite.
    TooFewSubjectsError
        If a value has fewer than 10 test subjects or 8 attacker's ones.
    """
    known, strangers, classes = _checked(
        (attacker_features, attacker_subjects, attacker_values), (test_features, test_subjects, test_values)
    )
    count = len(classes)
    counts = resampled_subjects(len(np.unique(strangers.subjects)), draws, np.random.default_rng(seed))
    fits: dict[str, Fit] = {"linear probe": fit_probe, "mlp": fit_network}
    validations, scores, seconds = {}, {}, {}
    for attacker, fit in fits.items():
        began = time.perf_counter()
        held = held_out(known, count, seed)
        validations[attacker] = areas_of(fit(known[~held], count, seed), known[held], count)
        scores[attacker] = fit(known, count, seed)(strangers.features)
        seconds[attacker] = time.perf_counter() - began
    # A value against the rest is the same question from both sides where there are two.
    tasks = range(1, 2) if count == 2 else range(count)
    task = max(tasks, key=lambda one: max(areas[one] for areas in validations.values()))
    chance, drawn_chance = 0.5, np.full(draws, 0.5)
    if labels is not None:
        chance, drawn_chance = _judged(strangers, _scores_of_labels(known, labels, count), task, counts)
    results = []
    for attacker in fits:
        value, drawn = _judged(strangers, scores[attacker], task, counts)
        low, high = percentiles(drawn)
        excess = percentiles(drawn - drawn_chance)
        positives = int(strangers.count(count)[task])
        units = len(strangers.units(scores[attacker])[1])
        further = [
            Measure(name="excess_over_baseline", value=value - chance, ci_low=excess[0], ci_high=excess[1], chance=0.0)
        ]
        if count > 2:
            further += [
                _measure(f"auc {classes[one]} against rest", *_judged(strangers, scores[attacker], one, counts))
                for one in tasks
            ]
        results.append(
            AttackResult(
                family="attributes",
                name=attacker,
                knowledge="re-trained",
                setting=name if count == 2 else f"{name}: {classes[task]} against rest",
                value=value,
                ci_low=low,
                ci_high=high,
                chance=chance,
                baseline="guessing" if labels is None else "class label alone",
                subjects=counts.shape[1],
                positives=positives,
                negatives=units - positives,
                attacker_subjects=len(np.unique(known.subjects)),
                validation=validations[attacker][task],
                further=tuple(further),
                seconds=seconds[attacker],
            )
        )
    controls = [_null(name, attacker, fit, known, strangers, task, counts, seed) for attacker, fit in fits.items()]
    if metadata is not None:
        controls.append(_confounder(name, known, strangers, metadata, task, counts, seed))
    return tuple(results), tuple(controls)


def resampled_subjects(subjects: int, draws: int, rng: np.random.Generator) -> Floats:
    """Return how often each subject is in each bootstrap draw, (draws, subjects).

    Raises
    ------
    ConfigError
        If `draws` is under 1.
    """
    if draws < 1:
        raise ConfigError(f"draws must be at least 1, got {draws}.")
    return rng.multinomial(subjects, np.full(subjects, 1 / subjects), size=draws).astype(np.float64)


def resampled_area(
    scores: Floats, positive: NDArray[np.bool_], owners: NDArray[np.int64], counts: Floats
) -> tuple[float, Floats]:
    """Area under the curve, and the same in every draw of subjects.

    Parameters
    ----------
    scores, positive, owners : ndarray of shape (u,)
        Score, kind and number of the subject of what is judged; higher scores mean positive.
    counts : ndarray of shape (draws, subjects)
        From `resampled_subjects`; equal counts make areas comparable draw by draw.

    Returns
    -------
    (float, ndarray of shape (draws,))
        NaN in draws that lack a kind.
    """
    drawn = np.full(len(counts), np.nan)
    for number, weights in enumerate(counts[:, owners]):
        ours, theirs = weights[positive], weights[~positive]
        if ours.any() and theirs.any():
            drawn[number] = auc(scores[positive], scores[~positive], ours, theirs)
    return auc(scores[positive], scores[~positive]), drawn


def percentiles(drawn: Floats) -> tuple[float, float]:
    """Return the 95 % percentile interval of draws.

    Raises
    ------
    TooFewSubjectsError
        If more than a tenth of them is undefined.
    """
    defined = drawn[~np.isnan(drawn)]
    if len(defined) < (1 - _MOST_UNDEFINED) * len(drawn):
        raise TooFewSubjectsError(
            f"An interval needs subjects of both kinds in nearly every draw; {len(drawn) - len(defined)} of "
            f"{len(drawn)} draws had none. Test on more subjects."
        )
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _checked(
    known: tuple[Features, ArrayLike, ArrayLike], strangers: tuple[Features, ArrayLike, ArrayLike]
) -> tuple[LabeledImages, LabeledImages, list[Any]]:
    for features, subjects, values in (known, strangers):
        if (
            features.ndim < 2
            or np.shape(subjects) != features.shape[:1]
            or np.shape(values) != features.shape[:1]
            or features.shape[1:] != known[0].shape[1:]
        ):
            raise ShapeError(
                "features must be (n, D) or (n, C, *spatial), of one shape for attacker and test, with one subject and "
                f"one value per image; found {features.shape}, {np.shape(subjects)} and {np.shape(values)}."
            )
        if not np.isfinite(features).all():
            raise ShapeError("features must be finite; found NaN or infinity.")
    shared = len(np.intersect1d(np.asarray(known[1]), np.asarray(strangers[1])))
    if shared:
        raise ConfigError(f"Attacker and test must share no subject; {shared} are in both. Split by subject.")
    classes, numbers = np.unique(np.concatenate([np.asarray(known[2]), np.asarray(strangers[2])]), return_inverse=True)
    if len(classes) < 2:
        raise ConfigError("An attribute must have at least two values, found one.")
    cut = len(known[0])
    parts = [
        LabeledImages(features, np.unique(np.asarray(subjects), return_inverse=True)[1].astype(np.int64), own)
        for (features, subjects, _), own in zip((known, strangers), (numbers[:cut], numbers[cut:]), strict=True)
    ]
    for part, least, who in zip(parts, (MIN_ATTACKER_SUBJECTS, MIN_TEST_SUBJECTS), ("attacker", "test"), strict=True):
        if part.count(len(classes)).min() < least:
            raise TooFewSubjectsError(
                f"Every value of an attribute needs at least {least} subjects of the {who}, one has fewer. "
                "Join rare values or leave them out."
            )
    return parts[0], parts[1], classes.tolist()


def _judged(images: LabeledImages, scores: Floats, task: int, counts: Floats) -> tuple[float, Floats]:
    means, values, owners = images.units(scores)
    return resampled_area(means[:, task], values == task, owners, counts)


def _measure(name: str, value: float, drawn: Floats) -> Measure:
    low, high = percentiles(drawn)
    return Measure(name=name, value=value, ci_low=low, ci_high=high, chance=0.5)


def _scores_of_labels(known: LabeledImages, labels: tuple[ArrayLike, ArrayLike], classes: int) -> Floats:
    """Return how frequent each value is among the attacker's images with the same label, (m, K)."""
    ours, theirs = np.asarray(labels[0]), np.asarray(labels[1])
    if ours.shape != known.values.shape or theirs.ndim != 1:
        raise ShapeError(f"labels must be one per image, found {ours.shape} and {theirs.shape}.")
    prior = np.bincount(known.values, minlength=classes) / len(known.values)
    scores = np.tile(prior, (len(theirs), 1))
    for label in np.unique(ours):
        own = np.bincount(known.values[ours == label], minlength=classes)
        scores[theirs == label] = (own + prior) / (own.sum() + 1)
    return scores


def _shuffled(images: LabeledImages, rng: np.random.Generator) -> LabeledImages:
    """Give each subject the values of another; where that one has fewer images they are repeated."""
    order = np.argsort(images.subjects, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(images.subjects[order])) + 1)
    values = np.empty_like(images.values)
    for images_of, other in zip(members, rng.permutation(len(members)), strict=True):
        values[images_of] = np.resize(images.values[members[other]], len(images_of))
    return LabeledImages(images.features, images.subjects, values)


def _null(
    name: str,
    attacker: str,
    fit: Fit,
    known: LabeledImages,
    strangers: LabeledImages,
    task: int,
    counts: Floats,
    seed: int,
) -> Control:
    rng, classes = np.random.default_rng(seed + 2), int(known.values.max()) + 1
    values, drawn = [], []
    for number in range(_SHUFFLES):
        own, others = _shuffled(known, rng), _shuffled(strangers, rng)
        value, areas = _judged(others, fit(own, classes, seed + number)(others.features), task, counts)
        values.append(value)
        drawn.append(areas)
    low, high = percentiles(np.mean(drawn, axis=0))
    return Control(
        family="attributes",
        kind="null",
        name=f"{name}: {attacker} with shuffled values",
        value=float(np.mean(values)),
        ci_low=low,
        ci_high=high,
        expected=f"the interval of the mean of {_SHUFFLES} shuffles includes 0.5",
        passed=low <= 0.5 <= high,
    )


def _confounder(
    name: str,
    known: LabeledImages,
    strangers: LabeledImages,
    metadata: tuple[NDArray[np.float64], NDArray[np.float64]],
    task: int,
    counts: Floats,
    seed: int,
) -> Control:
    ours, theirs = metadata
    if ours.ndim != 2 or theirs.ndim != 2 or (len(ours), len(theirs)) != (len(known.values), len(strangers.values)):
        raise ShapeError(f"metadata must be (n, M) with one row per image, found {ours.shape} and {theirs.shape}.")
    model = fit_probe(LabeledImages(ours, known.subjects, known.values), int(known.values.max()) + 1, seed)
    value, drawn = _judged(strangers, model(theirs), task, counts)
    low, high = percentiles(drawn)
    return Control(
        family="attributes",
        kind="confounder",
        name=f"{name}: metadata alone",
        value=value,
        ci_low=low,
        ci_high=high,
        expected="what the metadata give away without any features; informs only",
    )

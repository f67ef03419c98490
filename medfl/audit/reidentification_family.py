"""Re-identification of released features: every attacker, its controls, and how unequal the risk is."""

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from medfl.attacks.division import Division
from medfl.attacks.identification import cluster_bootstrap_rate, cmc, placings, rank_1_at_gallery, rank_k
from medfl.attacks.linear_attackers import LdaAttacker
from medfl.attacks.operating_points import equal_error_rate, tpr_at_fpr
from medfl.attacks.pairs import Attacker, Features, Floats, Scorer, VerificationPairs, verification_pairs
from medfl.attacks.rates import no_narrower_than_exact
from medfl.attacks.reidentification import default_attackers, evaluate_reidentification, fitted_attacks
from medfl.attacks.statistics import AucInterval, auc, cluster_bootstrap_auc
from medfl.audit.findings import Findings
from medfl.audit.material import ReleasedFeatures
from medfl.audit.nulls import HIGHEST_Z, from_chance
from medfl.errors import TooFewSubjectsError
from medfl.governance.policy import AuditPolicy
from medfl.results.attack import AttackResult, Control, Knowledge, Measure, best_retrained
from medfl.results.report import Curve, FamilyOutcome, SubjectRisk

_SHUFFLES = 5
_POOLED = (2, 4, 8)
_LEAST_POOLED = 10
_IMPOSTORS = 20_000

Progress = Callable[[str], None]


def audit_reidentification(
    material: ReleasedFeatures,
    division: Division,
    policy: AuditPolicy,
    *,
    seed: int,
    draws: int,
    progress: Progress,
) -> Findings:
    """Attack a release as a hub could that knows some subjects, and judge the attack on all others.

    Parameters
    ----------
    material : ReleasedFeatures
        Of one class, so that telling diagnoses apart does not look like telling people apart.
    division : Division
        Of its studies.
    policy : AuditPolicy
    seed : int
    draws : int
        Of subjects, for intervals.
    progress : callable
        Told what is being done.
    """
    known, unseen = material.rows(~division.is_test), material.rows(division.is_test)
    progress("attackers on released features")
    fitted = fitted_attacks(known.released, known.subjects, unseen.released, unseen.subjects, seed=seed, draws=draws)
    attacks = [one.result for one in fitted]
    best = best_retrained(attacks)
    place = attacks.index(best)
    attacker = next(one for one in default_attackers(seed) if one.name == best.name)
    pairs = verification_pairs(unseen.subjects, np.random.default_rng(seed), _IMPOSTORS)
    progress("the strongest attacker in detail")
    scorer = fitted[place].scorer
    scores = scorer.of_pairs(unseen.released, pairs)
    attacks[place] = best.model_copy(update={"further": _operating_points(scores, pairs)})
    headline = [place]
    identified = _identified(scorer, attacker, known, unseen, policy.gallery, seed, draws)
    headline.append(len(attacks))
    attacks.append(identified[0])
    for images in _POOLED:
        row = _pooled(scorer, attacker, known, unseen, images, seed, draws)
        if row is not None:
            headline.append(len(attacks))
            attacks.append(row)
    attacks += _transferred(attacker, known, unseen, pairs, seed, draws)
    progress("controls")
    controls = (
        *_nulls(known, unseen, seed, draws),
        _positive(known, unseen, policy, seed, draws),
        *_confounder(known, unseen, seed, draws),
    )
    outcome = FamilyOutcome(
        family="re-identification",
        status="run",
        attacks=tuple(attacks),
        headline=tuple(headline),
        controls=controls,
    )
    curves = (_roc(best.name, scores, pairs), Curve(name=best.name, kind="cmc", x=identified[1], y=identified[2]))
    return Findings(outcome=outcome, curves=curves, subject_risk=_risk(best.name, scores, pairs, unseen.subjects))


def _operating_points(scores: Floats, pairs: VerificationPairs) -> tuple[Measure, ...]:
    genuine, impostor = scores[pairs.is_same], scores[~pairs.is_same]
    found = [Measure(name="eer", value=equal_error_rate(genuine, impostor), chance=0.5)]
    for rate in (0.01, 0.001):
        name = f"tpr_at_fpr_{rate:g}"
        try:
            found.append(Measure(name=name, value=tpr_at_fpr(genuine, impostor, rate), chance=rate))
        except TooFewSubjectsError as error:
            found.append(Measure(name=name, value=None, chance=rate, note=str(error)))
    return tuple(found)


def _identified(
    scorer: Scorer,
    attacker: Attacker,
    known: ReleasedFeatures,
    unseen: ReleasedFeatures,
    size: int,
    seed: int,
    draws: int,
) -> tuple[AttackResult, tuple[float, ...], tuple[float, ...]]:
    """Look every other study of a subject up in a gallery that holds the first study of each."""
    began = time.perf_counter()
    embedded = scorer.embed(unseen.released)
    first = np.unique(unseen.subjects, return_index=True)[1]
    in_gallery = np.zeros(len(embedded), dtype=bool)
    in_gallery[first] = True
    probes, owners = embedded[~in_gallery], unseen.subjects[~in_gallery]
    found = placings(probes, embedded[in_gallery], owners, unseen.subjects[in_gallery], compare=scorer.compare)
    entries = int(in_gallery.sum())
    size = min(size, entries)
    hits = rank_1_at_gallery(found, size)
    rate = cluster_bootstrap_rate(hits, owners, draws, np.random.default_rng(seed))
    low, high = no_narrower_than_exact(rate.value, rate.low, rate.high, rate.subjects)
    shown = np.unique(np.round(np.geomspace(1, entries, 30)).astype(int))
    row = AttackResult(
        name=f"{attacker.name}, identification",
        knowledge="re-trained",
        setting=f"gallery of {size}",
        metric="rank_1",
        value=rate.value,
        ci_low=low,
        ci_high=high,
        chance=1 / size,
        subjects=rate.subjects,
        positives=len(probes),
        negatives=entries - 1,
        attacker_subjects=len(np.unique(known.subjects)),
        further=(
            Measure(name="rank_5 of all", value=rank_k(found, 5), chance=min(1.0, 5 / entries)),
            Measure(name="rank_1 of all", value=rank_k(found, 1), chance=1 / entries),
        ),
        seconds=time.perf_counter() - began,
    )
    rates = cmc(found, entries)
    return row, tuple(map(float, shown)), tuple(float(rates[rank - 1]) for rank in shown)


def _pooled(
    scorer: Scorer,
    attacker: Attacker,
    known: ReleasedFeatures,
    unseen: ReleasedFeatures,
    images: int,
    seed: int,
    draws: int,
) -> AttackResult | None:
    """Compare `images` studies of one side with as many of the other; the mean of all scores decides."""
    began = time.perf_counter()
    rng = np.random.default_rng(seed)
    sides = [
        rng.permutation(np.flatnonzero(unseen.subjects == name))[: 2 * images].reshape(2, images)
        for name in np.unique(unseen.subjects)
        if (unseen.subjects == name).sum() >= 2 * images
    ]
    if len(sides) < _LEAST_POOLED:
        return None
    embedded = scorer.embed(unseen.released)
    count = len(sides)
    one, other = (axis.ravel() for axis in np.meshgrid(np.arange(count), np.arange(count), indexing="ij"))
    left, right = np.stack([side[0] for side in sides]), np.stack([side[1] for side in sides])
    scores = np.zeros(len(one))
    for a in range(images):
        for b in range(images):
            scores += scorer.compare(embedded[left[one, a]], embedded[right[other, b]]) / images**2
    found = cluster_bootstrap_auc(scores, one, other, draws, rng)
    name, setting = f"{attacker.name}, pooled", f"{images} images per side"
    return _row(found, known, name, "re-trained", setting, time.perf_counter() - began)


def _transferred(
    attacker: Attacker,
    known: ReleasedFeatures,
    unseen: ReleasedFeatures,
    pairs: VerificationPairs,
    seed: int,
    draws: int,
) -> list[AttackResult]:
    """Train on clear features, score released ones; only where both have the same shape and are not the same."""
    if known.clear.shape != known.released.shape or np.array_equal(known.clear, known.released):
        return []
    began = time.perf_counter()
    scores = attacker.fit(known.clear, known.subjects).of_pairs(unseen.released, pairs)
    first, second = unseen.subjects[pairs.first], unseen.subjects[pairs.second]
    found = cluster_bootstrap_auc(scores, first, second, draws, np.random.default_rng(seed))
    return [_row(found, known, attacker.name, "transferred", "", time.perf_counter() - began)]


def _row(
    found: AucInterval, known: ReleasedFeatures, name: str, knowledge: Knowledge, setting: str, seconds: float
) -> AttackResult:
    return AttackResult(
        name=name,
        knowledge=knowledge,
        setting=setting,
        value=found.value,
        ci_low=found.low,
        ci_high=found.high,
        subjects=found.subjects,
        positives=found.genuine_pairs,
        negatives=found.impostor_pairs,
        attacker_subjects=len(np.unique(known.subjects)),
        seconds=seconds,
    )


def _nulls(known: ReleasedFeatures, unseen: ReleasedFeatures, seed: int, draws: int) -> tuple[Control, ...]:
    """Random features, and true ones under shuffled names: both several times, as one alone may leave by chance."""
    random, shuffled = [], []
    for number in range(_SHUFFLES):
        rng = np.random.default_rng([seed, number])
        noise = [rng.standard_normal(part.released.shape) for part in (known, unseen)]
        random.append(_by_lda(noise[0], known.subjects, noise[1], unseen.subjects, seed + number, draws))
        names = [rng.permutation(part.subjects) for part in (known, unseen)]
        shuffled.append(_by_lda(known.released, names[0], unseen.released, names[1], seed + number, draws))
    return _null("random features", random), _null("shuffled subjects", shuffled)


def _null(name: str, found: Sequence[AttackResult]) -> Control:
    far = [from_chance(one) for one in found]
    worst = found[int(np.argmax(far))]
    return Control(
        family="re-identification",
        kind="null",
        name=f"{name}, {len(found)} times",
        value=worst.value,
        ci_low=worst.ci_low,
        ci_high=worst.ci_high,
        expected="every area within 2.58 standard errors of 0.5; the furthest is shown",
        passed=max(far) < HIGHEST_Z,
    )


def _positive(known: ReleasedFeatures, unseen: ReleasedFeatures, policy: AuditPolicy, seed: int, draws: int) -> Control:
    found = best_retrained(
        evaluate_reidentification(
            known.clear,
            known.subjects,
            unseen.clear,
            unseen.subjects,
            seed=seed,
            draws=draws,
            attackers=[one for one in default_attackers(seed) if one.knowledge == "re-trained"],
        )
    )
    least = policy.positive_control_auc
    return Control(
        family="re-identification",
        kind="positive",
        name=f"{found.name} on clear features",
        value=found.value,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        expected=f"an area of {least:g} or more, and an interval over 0.5",
        passed=found.value >= least and found.ci_low > 0.5,
    )


def _confounder(known: ReleasedFeatures, unseen: ReleasedFeatures, seed: int, draws: int) -> tuple[Control, ...]:
    """Attack what the manifest says of each study, without any image."""
    columns = [(name, value) for name in sorted(known.attributes) for value in np.unique(known.attributes[name])]
    table = [
        np.array([part.attributes[name] == value for name, value in columns], dtype=np.float64).T
        for part in (known, unseen)
    ]
    if not columns or (table[0].std(axis=0) == 0).all():
        return ()
    found = _by_lda(table[0], known.subjects, table[1], unseen.subjects, seed, draws)
    return (
        Control(
            family="re-identification",
            kind="confounder",
            name=f"{', '.join(sorted(known.attributes))} alone",
            value=found.value,
            ci_low=found.ci_low,
            ci_high=found.ci_high,
            expected="informs: how much is not anatomy",
        ),
    )


def _by_lda(
    known: Features, known_names: NDArray[np.str_], unseen: Features, names: NDArray[np.str_], seed: int, draws: int
) -> AttackResult:
    attackers = [LdaAttacker(seed)]
    (found,) = evaluate_reidentification(known, known_names, unseen, names, seed=seed, draws=draws, attackers=attackers)
    return found


def _roc(name: str, scores: Floats, pairs: VerificationPairs) -> Curve:
    genuine, impostor = np.sort(scores[pairs.is_same]), np.sort(scores[~pairs.is_same])
    rates = np.geomspace(1 / len(impostor), 1, 60)
    places = len(impostor) - np.maximum(1, np.round(rates * len(impostor))).astype(int)
    thresholds = impostor[places]
    over = 1 - np.searchsorted(genuine, thresholds, side="left") / len(genuine)
    return Curve(name=name, kind="roc", x=tuple(map(float, rates)), y=tuple(map(float, over)))


def _risk(name: str, scores: Floats, pairs: VerificationPairs, subjects: NDArray[np.str_]) -> tuple[SubjectRisk, ...]:
    impostor = scores[~pairs.is_same]
    owner = subjects[pairs.first[pairs.is_same]]
    genuine = scores[pairs.is_same]
    areas = np.sort([auc(genuine[owner == one], impostor) for one in np.unique(owner)])
    tenth = max(1, round(len(areas) / 10))
    return (
        SubjectRisk(
            attack=name,
            metric="auc",
            mean=float(areas.mean()),
            worst_decile=float(areas[-tenth:].mean()),
            subjects=len(areas),
        ),
    )

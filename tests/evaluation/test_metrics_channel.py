"""What a site sends gives away no subject's value; the same attacks succeed on careless releases.

Every attack runs twice: on the arrays that medfl sends, where it may not beat a guess from the marginal distribution
that is told the exact mean and spread, and on a release with one precaution missing, where it must.
"""

from dataclasses import replace

import numpy as np
import pytest

from medfl.attacks.metrics_channel import (
    differences,
    fit_overlaps,
    guess_rate,
    hit_rate,
    overlap_scores,
    spread_in_cells,
)
from medfl.evaluation.classification import ClassificationTask
from medfl.evaluation.classification_sums import sums_from_predictions
from medfl.evaluation.classification_wire import flatten_sums
from medfl.evaluation.measures import block_from_subjects, flatten
from medfl.evaluation.reliability import bins_from_predictions
from medfl.evaluation.score_histogram import CELLS, histogram_from_scores
from medfl.evaluation.segmentation import CASE_FIELDS, SegmentationTask
from medfl.evaluation.segmentation_sums import blocks_from_studies

from .channel_attacks import lone_draws, meet_in_the_middle, spell_out

pytestmark = pytest.mark.slow

TASK = SegmentationTask(("organ",))
BINARY = ClassificationTask(("no", "yes"))
SURDS = np.sqrt(np.arange(1, 17))
SURD_WEIGHTS = np.exp(-0.25 * np.arange(16)) / np.exp(-0.25 * np.arange(16)).sum()


def population(generator: np.random.Generator, n: int, size: int = 1000) -> np.ndarray:
    """(n, 3) voxel counts of an organ: Dice about 0.85."""
    volume = generator.normal(size, size / 6, n).clip(size / 2)
    recall, precision = generator.beta(17, 3, n), generator.beta(17, 3, n)
    tp = np.maximum(np.rint(volume * recall), 1)
    return np.column_stack([tp, np.rint(tp * (1 / precision - 1)), np.rint(volume) - tp])


def studies(generator: np.random.Generator, voxels: np.ndarray) -> np.ndarray:
    """One study per subject, as `measure_study` returns it."""
    n = len(voxels)
    dice, iou = overlap_scores(voxels)
    hd95 = generator.choice(SURDS, n, p=SURD_WEIGHTS)
    others = [hd95, generator.uniform(0.3, 1.5, n), generator.beta(30, 2, n), np.full(n, np.nan)]
    return np.column_stack([dice, iou, voxels, *others])[:, None, :]


def sent_by(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Send the arrays of one site."""
    return flatten(blocks_from_studies([f"s{i}" for i in range(len(rows))], rows, TASK))


def beats_guessing(attack: list[float], guess: list[float], margin: float = 0.02) -> bool:
    """Say whether the attack's mean hit rate lies 3 standard errors and a margin above the guess."""
    gain = np.array(attack) - np.array(guess)
    return bool(gain.mean() > margin + 3 * gain.std() / np.sqrt(len(gain)))


@pytest.mark.parametrize("n", [5, 8, 12, 30])
def test_fitting_all_sums_finds_no_dice(n: int) -> None:
    attack, guess = [], []
    for seed in range(8):
        generator = np.random.default_rng(100 * n + seed)
        voxels, prior = population(generator, n), population(generator, 2000)
        sent = sent_by(studies(generator, voxels))
        sums = {
            "sum": np.r_[sent["dice/organ.totals"][0], sent["iou/organ.totals"][0], sent["voxels/organ.totals"] / 1000],
            "spread": np.sqrt(
                np.r_[
                    sent["dice/organ.covariance"][0, 0],
                    sent["iou/organ.covariance"][0, 0],
                    np.diag(sent["voxels/organ.covariance"]) / 1e6,
                ]
                / n
            ),
        }
        truth = overlap_scores(voxels)[0]
        claims = fit_overlaps(sums, n, prior, generator, starts=3)
        attack.append([hit_rate(claim, truth) for claim in claims])
        guess.append(guess_rate(overlap_scores(prior)[0], truth, generator))
    assert not any(beats_guessing(list(one), guess) for one in np.transpose(attack))


def test_fitting_exact_second_moments_would_find_every_dice() -> None:
    attack, guess = [], []
    for seed in range(4):
        generator = np.random.default_rng(seed)
        voxels, prior = population(generator, 5), population(generator, 2000)
        columns = np.column_stack([*overlap_scores(voxels), voxels / 1000])
        sums = {"sum": columns.sum(axis=0), "gram": columns.T @ columns}
        truth = overlap_scores(voxels)[0]
        attack.append(hit_rate(fit_overlaps(sums, 5, prior, generator, starts=20)[0], truth))
        guess.append(guess_rate(overlap_scores(prior)[0], truth, generator))
    assert beats_guessing(attack, guess)
    assert np.mean(attack) > 0.8


def surd_rates(n: int, *, careless: bool) -> tuple[list[float], list[float]]:
    """Attack the total of Hausdorff distances, square roots of 1 to 16, of n subjects."""
    attack, guess = [], []
    for seed in range(15 if careless else 50):
        generator = np.random.default_rng(seed)
        rows = studies(generator, population(generator, n))
        truth = rows[:, 0, CASE_FIELDS.index("hd95_mm")]
        sent = sent_by(rows)
        spread = float(np.sqrt(sent["hd95_mm/organ.covariance"][0, 0] / n))
        total, window = float(sent["hd95_mm/organ.totals"][0]), float(sent["hd95_mm/organ.resolution"][0]) / 2
        if careless:
            total, window = float(truth.sum()), 1e-9
        claims = spell_out(total, window, SURDS, SURD_WEIGHTS, n, (0.8 * spread * 0.9, 1.05 * spread))
        if not claims.any():
            claims = spell_out(total, window, SURDS, SURD_WEIGHTS, n, None)
        attack.append(hit_rate(claims, truth))
        # the guess is told the mean within 0.05 mm and the spread within 10 %
        told = (0.95 * truth.std(), 1.05 * truth.std())
        guess.append(hit_rate(spell_out(truth.sum(), 0.05 * n, SURDS, SURD_WEIGHTS, n, told), truth))
    return attack, guess


def test_rounded_distances_do_not_spell_out_their_addends() -> None:
    attack, guess = surd_rates(5, careless=False)
    assert not beats_guessing(attack, guess)


def test_exact_distances_would_spell_out_their_addends() -> None:
    attack, guess = surd_rates(5, careless=True)
    assert beats_guessing(attack, guess)
    assert np.mean(attack) > 0.95


def small_organ_rates(*, careless: bool) -> tuple[list[float], list[float]]:
    """Attack the totals of Dice and IoU of five subjects with organs of 12 voxels."""
    attack, guess = [], []
    counts = np.array([(tp, errors, 0) for tp in range(4, 13) for errors in range(9)], dtype=np.float64)
    alphabet = np.unique(np.column_stack(overlap_scores(counts)), axis=0)
    for seed in range(5 if careless else 30):
        generator = np.random.default_rng(seed)
        voxels = counts[generator.integers(0, len(counts), 5)]
        truth = overlap_scores(voxels)[0]
        sent = sent_by(studies(generator, voxels))
        totals = np.array([sent[f"{key}/organ.totals"][0] for key in ("dice", "iou")])
        windows = np.array([sent[f"{key}/organ.resolution"][0] for key in ("dice", "iou")]) / 2
        if careless:
            totals, windows = np.array([column.sum() for column in overlap_scores(voxels)]), np.full(2, 1e-9)
        found = [meet_in_the_middle(totals, windows, alphabet, generator) for _ in range(3)]
        attack.append(float(np.mean([hit_rate(claims, truth) for claims in found])))
        marginal = overlap_scores(counts)[0]
        guess.append(float(np.mean([hit_rate(generator.choice(marginal, 5), truth) for _ in range(50)])))
    return attack, guess


def test_sums_over_small_organs_cannot_be_taken_apart() -> None:
    attack, guess = small_organ_rates(careless=False)
    assert not beats_guessing(attack, guess)


def test_exact_sums_over_small_organs_could_be_taken_apart() -> None:
    attack, guess = small_organ_rates(careless=True)
    assert beats_guessing(attack, guess)
    assert np.mean(attack) > 0.9


def test_bootstrap_replicates_would_show_subjects_one_by_one() -> None:
    attack, guess = [], []
    for seed in range(10):
        generator = np.random.default_rng(seed)
        prior = overlap_scores(population(generator, 2000))[0]
        truth = prior[:5]
        replicates = generator.poisson(1.0, (1000, 5)) @ truth
        attack.append(hit_rate(lone_draws(replicates, 5), truth))
        guess.append(guess_rate(prior, truth, generator))
    assert beats_guessing(attack, guess)
    assert np.mean(attack) > 0.95


@pytest.mark.parametrize("n", [5, 12])
def test_what_is_sent_holds_no_replicate_and_no_difference_of_one_subject(n: int) -> None:
    lone, subtracted, guess, chance = [], [], [], []
    for seed in range(10):
        generator = np.random.default_rng(seed)
        prior = overlap_scores(population(generator, 2000))[0]
        voxels = population(generator, n)
        truth = overlap_scores(voxels)[0]
        sent = list(sent_by(studies(generator, voxels)).values())
        lone.append(hit_rate(lone_draws(np.concatenate([np.ravel(part) for part in sent]), n), truth))
        claims = differences(sent, lambda delta: (delta > 0.5) & (delta < 1.0))
        subtracted.append(hit_rate(claims, truth))
        chance.append(float(np.mean([hit_rate(generator.choice(prior, len(claims)), truth) for _ in range(50)])))
        guess.append(guess_rate(prior, truth, generator))
    assert not beats_guessing(lone, guess)
    assert not beats_guessing(subtracted, chance)


def test_leaving_one_subject_out_would_show_that_subject() -> None:
    attack, chance = [], []
    for seed in range(10):
        generator = np.random.default_rng(seed)
        prior = overlap_scores(population(generator, 2000))[0]
        truth = prior[:8]
        releases = [np.array([truth.sum() - value]) for value in truth] + [np.array([truth.sum()])]
        claims = differences(releases, lambda delta: (delta > 0.5) & (delta < 1.0))
        attack.append(hit_rate(claims, truth))
        chance.append(float(np.mean([hit_rate(generator.choice(prior, len(claims)), truth) for _ in range(50)])))
    assert beats_guessing(attack, chance)


def test_a_sum_over_one_subject_would_be_that_subject() -> None:
    block = block_from_subjects(("dice", "present"), np.array([[0.8125, 1.0]]), spread="none", min_subjects=1)
    assert hit_rate(flatten({"dice": block})["dice.totals"][:1], np.array([0.8125])) == 1.0


def probabilities(generator: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and positive-class probabilities of a fair classifier."""
    labels = (np.arange(n) % 2).astype(np.int64)
    return labels, 1 / (1 + np.exp(-generator.normal(3.0 * labels - 1.5, 1.5)))


def cell_claims(low: np.ndarray, high: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Spread the claims of each cell evenly over it, in logits."""
    edges = np.linspace(-8, 8, CELLS + 1)
    return np.asarray(1 / (1 + np.exp(-spread_in_cells(edges[low], edges[high], counts))))


def histogram_rates(n: int, *, careless: bool) -> tuple[list[float], list[float]]:
    """Attack the score histograms of n subjects."""
    attack, guess = [], []
    for seed in range(100):
        generator = np.random.default_rng(seed)
        labels, scores = probabilities(generator, n)
        _, prior = probabilities(generator, 4000)
        ids = [f"s{i}" for i in range(n)]
        claims = []
        if careless:
            for value in (0, 1):
                own = [subject for subject, label in zip(ids, labels, strict=True) if label == value]
                cells = histogram_from_scores(own, scores[labels == value], min_subjects=1)
                assert cells is not None
                claims.append(cell_claims(cells.low, cells.high, cells.counts))
        else:
            sums = sums_from_predictions(ids, np.column_stack([1 - scores, scores]), labels, BINARY)
            assert sums is not None
            sent = flatten_sums(sums, BINARY)
            for side in ("positives/yes", "negatives/yes"):
                claims.append(cell_claims(*(sent[f"{side}.{part}"] for part in ("low", "high", "counts"))))
        attack.append(hit_rate(np.concatenate(claims), scores))
        guess.append(guess_rate(prior, scores, generator))
    return attack, guess


@pytest.mark.parametrize("n", [10, 16, 30])
def test_score_histograms_find_no_probability(n: int) -> None:
    # A cell names five or more subjects, and the guess is told no cells: over 200 trials that is worth 0.01 to 0.03.
    attack, guess = histogram_rates(n, careless=False)
    assert not beats_guessing(attack, guess, margin=0.05)


def test_histograms_without_a_minimum_would_find_probabilities() -> None:
    attack, guess = histogram_rates(30, careless=True)
    assert beats_guessing(attack, guess, margin=0.1)


@pytest.mark.parametrize("min_subjects", [1, 5])
def test_mean_confidences_name_no_subject_unless_bins_hold_one(min_subjects: int) -> None:
    attack, guess = [], []
    for seed in range(100):
        generator = np.random.default_rng(seed)
        _, scores = probabilities(generator, 6)
        _, prior = probabilities(generator, 4000)
        confidence = np.maximum(scores, 1 - scores)
        bins = bins_from_predictions(np.arange(6), confidence, confidence > 0.6, min_subjects=min_subjects)
        filled = bins.studies > 0
        if min_subjects == 1:
            bins = replace(
                bins,
                confidence=np.array(
                    [confidence[group_of(confidence, a, b)].sum() for a, b in zip(bins.start, bins.stop, strict=True)]
                ),
            )
        claims = np.repeat(bins.confidence[filled] / bins.studies[filled], bins.studies[filled])
        attack.append(hit_rate(claims, confidence))
        guess.append(guess_rate(np.maximum(prior, 1 - prior), confidence, generator))
    assert beats_guessing(attack, guess) is (min_subjects == 1)


def group_of(confidence: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Mark the confidences in a group of bins."""
    return (confidence > start / 10) & (confidence <= stop / 10)

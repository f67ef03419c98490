import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from medfl.errors import ConfigError, ReplyError, ShapeError
from medfl.evaluation.classification import ClassificationTask, per_case
from medfl.evaluation.classification_metrics import finish
from medfl.evaluation.classification_sums import ClassificationSums, sums_from_predictions
from medfl.evaluation.classification_wire import flatten_sums, unflatten_sums
from medfl.evaluation.confusion import accuracy, balanced_accuracy, resample_confusion, sensitivity
from medfl.evaluation.intervals import percentiles
from medfl.results.metrics import MetricValue

BINARY = ClassificationTask(("normal", "pneumonia"))
THREE = ClassificationTask(("normal", "virus", "bacteria"))


def predictions(
    seed: int, task: ClassificationTask, n: int, *, subjects: int, ties: bool = False
) -> tuple[list[str], np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    k = len(task.class_names)
    labels = generator.integers(0, k, n)
    logits = generator.normal(0, 1, (n, k)) + 1.5 * np.eye(k)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if ties:
        probabilities = np.round(probabilities * 16)
        probabilities[:, 0] += 16 - probabilities.sum(axis=1)
        probabilities = np.clip(probabilities, 0, None)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    return [f"s{i}" for i in generator.integers(0, subjects, n)], probabilities, labels


def site_sums(
    ids: list[str], probabilities: np.ndarray, labels: np.ndarray, task: ClassificationTask, n_sites: int
) -> list[ClassificationSums | None]:
    sites = np.array([int(subject[1:]) % n_sites for subject in ids])
    sent = []
    for site in range(n_sites):
        own = np.flatnonzero(sites == site)
        sums = sums_from_predictions([ids[i] for i in own], probabilities[own], labels[own], task)
        sent.append(None if sums is None else unflatten_sums(flatten_sums(sums, task), task))
    return sent


def close(metric: MetricValue, expected: float) -> None:
    assert metric.value is not None
    assert abs(metric.value - expected) <= 1e-9 + (metric.error_bound or 0.0)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 2**31), st.integers(1, 4), st.sampled_from([BINARY, THREE]), st.booleans(), st.sampled_from([1, 4])
)
def test_finished_metrics_equal_scikit_learn_on_the_pool(
    seed: int, n_sites: int, task: ClassificationTask, ties: bool, studies_per_subject: int
) -> None:
    n = 240 * n_sites
    ids, probabilities, labels = predictions(seed, task, n, subjects=n // studies_per_subject, ties=ties)
    metrics = finish(site_sums(ids, probabilities, labels, task, n_sites), task)
    predicted = probabilities.argmax(axis=1)
    close(metrics["accuracy"], reference.accuracy_score(labels, predicted))
    close(metrics["balanced_accuracy"], reference.balanced_accuracy_score(labels, predicted))
    close(metrics["f1_macro"], reference.f1_score(labels, predicted, average="macro"))
    close(metrics["mcc"], reference.matthews_corrcoef(labels, predicted))
    recall = reference.recall_score(labels, predicted, average=None)
    for position, name in enumerate(task.class_names):
        close(metrics[f"sensitivity/{name}"], recall[position])
        close(metrics[f"specificity/{name}"], reference.recall_score(labels != position, predicted != position))
        close(metrics[f"f1/{name}"], reference.f1_score(labels == position, predicted == position))
    exact = ("accuracy", "balanced_accuracy", "f1_macro", "mcc")
    assert all(metrics[key].error_bound is None for key in exact)
    if task is BINARY:
        close(metrics["brier"], reference.brier_score_loss(labels, probabilities[:, 1]))
        close(metrics["auroc"], reference.roc_auc_score(labels, probabilities[:, 1]))
        close(metrics["average_precision"], reference.average_precision_score(labels, probabilities[:, 1]))
        assert metrics["sensitivity"] == metrics["sensitivity/pneumonia"]
    else:
        close(metrics["brier"], float(((probabilities - np.eye(3)[labels]) ** 2).sum(axis=1).mean()))
        close(metrics["auroc"], reference.roc_auc_score(labels, probabilities, multi_class="ovr"))
        close(metrics["average_precision"], reference.average_precision_score(np.eye(3)[labels], probabilities))
    assert metrics["brier"].error_bound is None


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31))
def test_a_class_that_never_occurs_is_left_out_as_scikit_learn_does(seed: int) -> None:
    ids, probabilities, labels = predictions(seed, THREE, 200, subjects=200)
    labels = np.where(labels == 2, 1, labels)
    metrics = finish(site_sums(ids, probabilities, labels, THREE, 2), THREE)
    predicted = probabilities.argmax(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns that a predicted class is not among the labels
        close(metrics["balanced_accuracy"], reference.balanced_accuracy_score(labels, predicted))
        close(metrics["f1_macro"], reference.f1_score(labels, predicted, average="macro"))
    assert metrics["sensitivity/bacteria"].value is None
    assert metrics["auroc/bacteria"].value is None
    assert "2 of 3 classes" in metrics["auroc"].note


def test_studies_of_a_rare_class_leave_no_trace() -> None:
    ids, probabilities, labels = predictions(0, THREE, 120, subjects=1000)
    rare = np.flatnonzero(labels == 2)
    labels[rare[4:]] = 0
    sums = sums_from_predictions(ids, probabilities, labels, THREE)
    rest = labels != 2
    without = sums_from_predictions(
        [i for i, keep in zip(ids, rest, strict=True) if keep], probabilities[rest], labels[rest], THREE
    )
    assert sums is not None
    assert without is not None
    first, second = flatten_sums(sums, THREE), flatten_sums(without, THREE)
    assert first.pop("suppressed").tolist() == [0, 0, 1]
    assert second.pop("suppressed").tolist() == [0, 0, 0]
    assert all((first[key] == second[key]).all() for key in second)
    assert set(first) == set(second)
    assert "bacteria at 1 of 1 sites" in finish([sums], THREE)["accuracy"].note


def test_a_small_site_sends_nothing() -> None:
    ids, probabilities, labels = predictions(0, BINARY, 4, subjects=1000)
    assert sums_from_predictions(ids, probabilities, labels, BINARY) is None
    metrics = finish([None], BINARY)
    assert metrics["accuracy"].value is None
    assert metrics["auroc"].value is None
    ids, probabilities, labels = predictions(0, BINARY, 100, subjects=1000)
    both = finish([sums_from_predictions(ids, probabilities, labels, BINARY), None], BINARY)
    assert "1 of 2 sites left out" in both["mcc"].note
    assert "1 of 2 sites left out" in both["auroc"].note
    assert "1 of 2 sites left out" in both["brier"].note


def test_intervals_hold_the_value_and_a_perfect_model_is_not_certain() -> None:
    ids = [f"s{i}" for i in range(24)]
    labels = np.arange(24) % 2
    probabilities = np.where(labels[:, None] == np.arange(2), 0.9, 0.1) + np.linspace(-0.05, 0.05, 24)[:, None] * [
        1,
        -1,
    ]
    metrics = finish([sums_from_predictions(ids, probabilities, labels, BINARY)], BINARY)
    assert metrics["auroc"].value == 1.0
    assert 0.5 < (metrics["auroc"].ci_low or 1) < 0.95
    assert 0.6 < (metrics["sensitivity"].ci_low or 1) < 0.9
    for metric in metrics.values():
        assert metric.value is not None
        assert metric.ci_low is not None
        assert metric.ci_high is not None
        assert metric.ci_low <= metric.value <= metric.ci_high


def test_copies_of_a_study_do_not_narrow_the_interval() -> None:
    ids, probabilities, labels = predictions(0, BINARY, 200, subjects=10**6)
    once = finish([sums_from_predictions(ids, probabilities, labels, BINARY)], BINARY)
    many = finish([sums_from_predictions(ids * 5, np.tile(probabilities, (5, 1)), np.tile(labels, 5), BINARY)], BINARY)
    for key in ("accuracy", "auroc", "mcc", "brier"):
        widths = [(m[key].ci_high or 0) - (m[key].ci_low or 0) for m in (once, many)]
        assert widths[1] == pytest.approx(widths[0], rel=0.15)


def test_confusion_intervals_cover() -> None:
    generator, hits, trials = np.random.default_rng(0), np.zeros(3), 600
    for trial in range(trials):
        labels, right = generator.random(60) < 0.5, generator.random(60) < 0.9
        table = np.array(
            [[(~labels & right).sum(), (~labels & ~right).sum()], [(labels & ~right).sum(), (labels & right).sum()]]
        )
        draws = resample_confusion(table.astype(np.float64), 400, np.random.default_rng(trial))
        for place, values in enumerate((accuracy(draws), sensitivity(draws, 1), balanced_accuracy(draws))):
            low, high = percentiles(values) or (1.0, 0.0)
            hits[place] += low <= 0.9 <= high
    # 600 trials: standard error 0.009
    assert ((hits / trials > 0.91) & (hits / trials < 0.98)).all()


def test_per_case_names_what_stays_at_the_site() -> None:
    row = per_case(np.array([0.25, 0.75]), 0, BINARY)
    assert row["probability/pneumonia"] == 0.75
    assert (row["predicted"], row["label"], row["is_correct"]) == (1.0, 0.0, 0.0)
    assert row["brier"] == pytest.approx(0.5625)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("counts", np.zeros((2, 2))),
        ("counts", np.zeros((3, 3), np.int64)),
        ("counts", np.full((2, 2), -1)),
        ("design", np.array([0.5, 1.0])),
        ("brier.totals", np.array([np.inf, 1.0])),
        ("reliability.start", np.array([1])),
        ("positives/pneumonia.low", np.array([500])),
        ("positives/pneumonia.design", np.array([np.nan])),
        ("surprise", np.array([1.0])),
    ],
)
def test_impossible_sums_are_refused(name: str, value: np.ndarray) -> None:
    sums = sums_from_predictions(*predictions(0, BINARY, 100, subjects=1000), BINARY)
    assert sums is not None
    sent = flatten_sums(sums, BINARY)
    with pytest.raises(ReplyError):
        unflatten_sums(sent | {name: value}, BINARY)
    for missing in sent:
        with pytest.raises(ReplyError):
            unflatten_sums({key: part for key, part in sent.items() if key != missing}, BINARY)
    assert unflatten_sums({}, BINARY) is None


def test_predictions_must_be_probabilities() -> None:
    good = np.full((2, 2), 0.5)
    labels = np.array([0, 1])
    for wrong in (good[:1], good * 2, good * 0.9, np.full((2, 2), np.nan)):
        with pytest.raises(ShapeError):
            sums_from_predictions(["a", "b"], wrong, labels, BINARY)
    with pytest.raises(ShapeError):
        sums_from_predictions(["a", "b"], good, labels + 1, BINARY)
    with pytest.raises(ConfigError):
        ClassificationTask(("one",))

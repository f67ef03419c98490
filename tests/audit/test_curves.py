import numpy as np
import pytest

from medfl.attacks.feature_inversion import KNOWN_IMAGES, evaluate_feature_inversion
from medfl.attacks.linkage import evaluate_linkage
from medfl.audit.curves import anchor_curves
from medfl.results.attack import AttackResult, Measure
from tests.audit.reports import attack


def anchored(known: int, value: float, **changes: object) -> AttackResult:
    return attack(value, knowledge="anchored", further=(Measure(name=KNOWN_IMAGES, value=known),), **changes)


def test_one_curve_for_each_attacker_and_metric_sorted_by_known_images() -> None:
    rows = [anchored(64, 0.8), anchored(4, 0.6), anchored(4, 0.1, metric="rank_1"), anchored(64, 0.3, metric="rank_1")]
    first, second = anchor_curves([*rows, attack(0.9)])
    assert (first.name, first.kind, first.metric) == ("re-identification: lda", "anchors", "auc")
    assert (first.x, first.y) == ((4, 64), (0.6, 0.8))
    assert (first.y_low, first.y_high) == (pytest.approx((0.58, 0.78)), pytest.approx((0.62, 0.82)))
    assert (second.metric, second.y) == ("rank_1", (0.1, 0.3))


def test_one_number_of_images_is_no_curve() -> None:
    assert anchor_curves([anchored(4, 0.6), attack(0.9)]) == ()


def test_linkage_and_inversion_say_how_many_images_are_known() -> None:
    rng = np.random.default_rng(0)
    subjects = np.repeat(np.arange(40), 3)
    clear = rng.normal(size=(40, 8)).repeat(3, axis=0) + 0.1 * rng.normal(size=(120, 8))
    turned = clear @ np.linalg.qr(rng.normal(size=(8, 8)))[0]
    linked = evaluate_linkage(clear, turned, subjects, seed=0, draws=20, anchors=(4, 16), impostors=1000)
    (curve,) = anchor_curves(linked)
    assert (curve.name, curve.x) == ("linkage: anchored ridge", (4, 16))
    assert curve.y[1] > curve.y[0]
    inverted = evaluate_feature_inversion(turned, clear, subjects, seed=0, known=(4, 16), draws=20)
    assert [one.name for one in anchor_curves(inverted)] == ["inversion: ridge", "inversion: procrustes"]

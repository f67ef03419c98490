import math
import re

import pytest

from medfl.audit.figures import (
    Figure,
    Point,
    Row,
    anchors_figure,
    cmc_figure,
    intervals_figure,
    roc_figure,
    utility_figure,
)
from medfl.audit.label_places import place_labels
from medfl.errors import AuditError
from medfl.results.report import Curve
from tests.audit.reports import attack

BLUE, ORANGE = "#0072b2", "#d55e00"


def colors(figure: Figure) -> set[str]:
    return set(re.findall(r"#[0-9a-f]{6}", figure.svg))


def height(figure: Figure) -> float:
    found = re.search(r'height="([\d.]+)pt"', figure.svg)
    assert found is not None
    return float(found.group(1))


def anchors(metric: str = "auc", **changes: object) -> Curve:
    facts: dict[str, object] = {"name": "linkage: anchored ridge", "kind": "anchors", "metric": metric}
    facts |= {"x": (4.0, 64.0), "y": (0.6, 0.9), "y_low": (0.55, 0.85), "y_high": (0.65, 0.95)}
    return Curve.model_validate(facts | changes)


def test_what_an_attacker_knows_has_its_own_color_and_only_what_is_there_is_explained() -> None:
    trained = intervals_figure([Row(attack(0.6))])
    both = intervals_figure([Row(attack(0.6)), Row(attack(0.7, knowledge="anchored"))])
    assert BLUE in colors(trained)
    assert ORANGE not in colors(trained)
    assert {BLUE, ORANGE} <= colors(both)


def test_headline_attacks_look_different_and_their_margin_is_drawn_and_said() -> None:
    plain, headline = Row(attack(0.6)), Row(attack(0.6), is_headline=True, limit=0.55)
    assert intervals_figure([plain]).svg != intervals_figure([Row(attack(0.6), is_headline=True)]).svg
    assert "margin" not in intervals_figure([plain]).alt
    assert "headline, margin 0.55" in intervals_figure([headline]).alt


def test_attacks_stand_family_by_family_whatever_order_they_come_in() -> None:
    mixed = [Row(attack(0.6)), Row(attack(0.7, family="linkage")), Row(attack(0.8, name="cosine"))]
    said = intervals_figure(mixed).alt
    assert said.index("re-identification: lda") < said.index("re-identification: cosine") < said.index("linkage: lda")


def test_metrics_are_never_drawn_on_one_axis() -> None:
    rows = [Row(attack(0.6)), Row(attack(0.2, metric="rank_1", name="gallery"))]
    assert "gallery" not in intervals_figure(rows).alt
    assert "lda" not in intervals_figure(rows, "rank_1").alt


def test_a_figure_of_many_attacks_still_fits_a_page() -> None:
    few = intervals_figure([Row(attack(0.6, name=f"attack {n}")) for n in range(5)])
    many = intervals_figure([Row(attack(0.6, name=f"attack {n} " + "long " * 12)) for n in range(90)])
    assert height(few) < height(many) <= 700
    assert intervals_figure([]).svg.startswith("<svg")


def test_several_curves_are_told_apart_without_color() -> None:
    curves = {name: ([0.01, 0.1, 1.0], [0.1 * n, 0.5, 1.0]) for n, name in enumerate(("a", "b", "c"), start=1)}
    for figure in (roc_figure(curves), cmc_figure({name: ([1.0, 2.0, 9.0], y) for name, (_, y) in curves.items()})):
        assert {BLUE, ORANGE, "#117733"} <= colors(figure)
        assert len(set(re.findall(r"stroke-dasharray: ([\d. ,]+)", figure.svg))) >= 3


def test_known_images_have_one_panel_for_each_metric() -> None:
    one = anchors_figure([anchors()])
    two = anchors_figure([anchors(), anchors("rank_1", name="inversion: ridge", y_low=(), y_high=())])
    assert one.svg.count('id="axes_') == 1
    assert two.svg.count('id="axes_') == 2
    assert "linkage: anchored ridge (auc): 0.60 with 4, 0.90 with 64" in two.alt


def test_a_figure_of_nothing_is_refused() -> None:
    with pytest.raises(AuditError, match="anchors"):
        anchors_figure([])
    with pytest.raises(AuditError, match="anchors"):
        anchors_figure([Curve(name="a", kind="roc", x=(1.0,), y=(1.0,))])
    with pytest.raises(AuditError, match="at least one arm"):
        utility_figure([], "AUC", "auroc")


def test_utility_against_leakage_says_every_number_and_the_margin() -> None:
    points = [Point("none", 0.9, 0.88, 0.92, 0.96, 0.95, 0.97), Point("a$b{", 0.6, 0.5, 0.7, 0.9, 0.8, 0.95)]
    figure = utility_figure(points, "AUC of the attacker", "auroc", 0.55)
    assert "none: auroc 0.960 [0.950, 0.970], AUC of the attacker 0.900 [0.880, 0.920]" in figure.alt
    assert "The margin is 0.55." in figure.alt
    assert "margin" not in utility_figure(points, "AUC", "auroc").alt


def test_equal_input_gives_equal_bytes() -> None:
    points = [Point("none", 0.9, 0.88, 0.92, 0.96, 0.95, 0.97)]
    assert utility_figure(points, "x", "y").svg == utility_figure(points, "x", "y").svg
    assert anchors_figure([anchors()]).svg == anchors_figure([anchors()]).svg


def test_labels_of_crowded_points_touch_neither_each_other_nor_a_point() -> None:
    from matplotlib.figure import Figure as Canvas
    from matplotlib.text import Text

    canvas = Canvas(figsize=(7, 4.8), layout="constrained")
    axes = canvas.subplots()
    spots = [(0.5 + 0.01 * math.cos(n), 0.7 + 0.01 * math.sin(n)) for n in range(8)]
    axes.plot([x for x, _ in spots], [y for _, y in spots], "o")
    axes.set_xlim(0.3, 0.8)
    axes.set_ylim(0.5, 0.9)
    place_labels(axes, [(f"gaussian, epsilon {n}", *spot) for n, spot in enumerate(spots)], [])
    canvas.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axes.texts]  # without the line that ties a label to its point
    assert len(boxes) == len(spots)
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[:n])
    centers = axes.transData.transform(spots)
    assert not any(box.contains(*center) for box in boxes for center in centers)

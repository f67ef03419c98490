import json

import pytest

from app.dashboard.figures import Bar, Figure, intervals, lines, over_time, reliability, scatter
from app.dashboard.theme import BLUE, GRAY, GREEN, ORANGE, PURPLE, SERIES, SKY, VERMILION
from medfl.evaluation.reliability import ReliabilityBin

BARS = [Bar("north", 0.8, 0.7, 0.9, strong=True), Bar("</script>", 0.7, 0.6, 0.8)]
ROWS = [{"x": 1, "y": 0.5, "name": name, "strong": False} for name in ("a", "b")]
FIGURES: dict[str, Figure] = {
    "intervals": intervals(BARS, "Dice"),
    "reliability": reliability([ReliabilityBin(0.5, 0.6, 20, 0.55, 0.5)], "said", "happened"),
    "scatter": scatter(ROWS, "x", "y", ("x", "y"), limit=0.5),
    "lines": lines(ROWS, ("round", "loss")),
    "over time": over_time([row | {"x": "2026-01-01T00:00:00"} for row in ROWS], ("time", "spent"), limit=1.0),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_plain_json_and_asks_for_nothing_elsewhere(name: str) -> None:
    text = json.dumps(FIGURES[name], allow_nan=False)
    assert "url" not in text
    assert "href" not in text
    assert "expr" not in text


def test_every_interval_is_drawn_with_its_value() -> None:
    values = FIGURES["intervals"]["data"]["values"]
    assert [(row["name"], row["value"], row["low"], row["high"]) for row in values] == [
        ("north", 0.8, 0.7, 0.9),
        ("</script>", 0.7, 0.6, 0.8),
    ]


def test_lines_are_told_apart_by_more_than_colour_and_one_line_needs_no_legend() -> None:
    encoding = FIGURES["lines"]["layer"][0]["encoding"]
    assert encoding["strokeDash"]["scale"]["domain"] == encoding["color"]["scale"]["domain"] == ["a", "b"]
    assert lines(ROWS[:1], ("x", "y"))["layer"][0]["encoding"]["color"]["legend"] is None


def test_colours_are_those_of_okabe_and_ito_with_gray() -> None:
    assert set(SERIES) | {GRAY} == {BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE, GRAY}
    assert len(set(SERIES)) == len(SERIES)

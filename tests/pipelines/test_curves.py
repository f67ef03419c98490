import xml.etree.ElementTree as ElementTree

import pytest

from medfl.results.history import History, RoundRecord, SiteRound
from medfl.results.metrics import MetricValue
from pipelines.curves import curves_svg

SVG = "{http://www.w3.org/2000/svg}"


def history(rounds: int, losses: dict[str, float | None]) -> History:
    return History(
        rounds=tuple(
            RoundRecord(
                number=number,
                seconds=1.0,
                sites=tuple(SiteRound(site=site, loss=loss) for site, loss in losses.items()),
                metrics={"dice_mean": MetricValue(value=0.1 * number, n=3), "hd95": MetricValue(value=None, n=0)},
            )
            for number in range(1, rounds + 1)
        )
    )


@pytest.mark.parametrize("rounds", [0, 1, 7])
@pytest.mark.parametrize("losses", [{}, {"a": None}, {"a": 0.5, "b": 0.5}, {f"s{i}": float(i) for i in range(9)}])
def test_curves_are_well_formed_whatever_happened(rounds: int, losses: dict[str, float | None]) -> None:
    text = curves_svg(history(rounds, losses))
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert root.find(f"{SVG}title") is not None
    assert "nan" not in text
    lines = root.findall(f"{SVG}path")
    assert len(lines) == (sum(loss is not None for loss in losses.values()) + 1 if rounds else 0)


def test_names_cannot_break_out_of_the_drawing() -> None:
    text = curves_svg(history(2, {'<script>alert(1)</script> & "co"': 1.0}))
    root = ElementTree.fromstring(text)
    assert "<script" not in text
    assert any("<script>" in (node.text or "") for node in root.iter(f"{SVG}text"))


def test_curves_load_nothing_from_elsewhere() -> None:
    text = curves_svg(history(2, {"a": 1.0})).replace("http://www.w3.org/2000/svg", "")
    assert "http" not in text
    assert "href" not in text
    assert "url(" not in text

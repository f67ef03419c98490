import base64
import io

import numpy as np
import pytest
from PIL import Image

from medfl.audit.findings import Findings
from medfl.audit.pictures import Picture, picture_of
from medfl.errors import ShapeError
from medfl.results.report import FamilyOutcome


def pixels(png: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(png, validate=True))) as picture:
        assert (picture.format, picture.mode) == ("PNG", "L")
        return np.asarray(picture)


def shown(*images: np.ndarray, low: float = 0.0, high: float = 1.0) -> Picture:
    return picture_of("p", "c", [(f"panel {n}", image) for n, image in enumerate(images)], (low, high))


def test_every_pixel_is_repeated_until_the_longer_side_is_long_enough() -> None:
    image = np.array([[-1.0, 0.0, 1.0], [0.5, 2.0, -7.0]])
    found = pixels(shown(image, low=-1.0).panels[0][1])
    assert found.shape == (2 * 43, 3 * 43)
    assert found[::43, ::43].tolist() == [[0, 128, 255], [191, 255, 0]]
    assert all(len(np.unique(found[r : r + 43, c : c + 43])) == 1 for r in (0, 43) for c in (0, 43, 86))


def test_a_large_image_keeps_its_size() -> None:
    assert pixels(shown(np.zeros((130, 7))).panels[0][1]).shape == (130, 7)


def test_a_volume_shows_the_middle_of_its_last_axis() -> None:
    volume = np.zeros((64, 128, 5))
    volume[..., 2] = 1.0
    assert (pixels(shown(volume).panels[0][1]) == 255).all()


def test_panels_share_one_scale_and_keep_their_order() -> None:
    dark, light = np.full((4, 4), 0.2), np.full((4, 4), 0.6)
    found = shown(dark, light)
    assert [label for label, _ in found.panels] == ["panel 0", "panel 1"]
    assert [int(pixels(png)[0, 0]) for _, png in found.panels] == [51, 153]


def test_findings_keep_pictures_through_json() -> None:
    outcome = FamilyOutcome(family="gradient inversion", status="not run", reason="a test")
    findings = Findings(outcome=outcome, pictures=(shown(np.eye(3)),))
    assert Findings.model_validate(findings.model_dump(mode="json")) == findings
    assert Findings(outcome=outcome).pictures == ()


def test_what_cannot_be_drawn_is_refused() -> None:
    for image in (np.zeros(3), np.zeros((0, 3)), np.array([[np.nan]])):
        with pytest.raises(ShapeError, match="finite image"):
            shown(image)
    with pytest.raises(ShapeError, match="one panel"):
        shown()
    with pytest.raises(ShapeError, match="from low to high"):
        shown(np.eye(2), low=1.0)

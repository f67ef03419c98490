"""What a reader sees, in a real browser: pixels, letters, slice numbers, and what a click tells Python."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

from app.dashboard.viewer.structures import OKABE_ITO
from dashboard.viewer import phantom
from dashboard.viewer.browser import Opened, centroid, near, rgb
from dashboard.viewer.conftest import NASTY_NAME

pytestmark = pytest.mark.slow

Opener = Callable[..., Opened]
ENGINES = ("canvas", "niivue")
MARKERS = {marker.letter: marker for marker in phantom.MARKERS}
COLOURS = {marker.letter: rgb(OKABE_ITO[position]) for position, marker in enumerate(phantom.MARKERS)}
#: Letters at the left, right, top and bottom side: the patient's right is on the left, the nose points left.
SIDES = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}
PLANES = tuple(SIDES)


def set_range(opened: Opened, part: str, value: int) -> None:
    opened.page.locator(f"[data-part={part}]").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})); }", value
    )


def put_crosshair_at_the_centre(opened: Opened) -> None:
    for plane, middle in (("axial", 12), ("coronal", 25), ("sagittal", 18)):
        opened.page.locator(f"[data-plane={plane}] input[type=range]").evaluate(
            "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})); }",
            middle,
        )
    opened.settle()


def colours_only(opened: Opened) -> None:
    """Show nothing but the model's mask, opaque."""
    set_range(opened, "opacity", 100)
    opened.page.locator("[data-part=reference]").uncheck()


def marker_places(opened: Opened, plane: str) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    pixels = opened.pixels(plane)
    return {letter: np.array(centroid(near(pixels, COLOURS[letter]))) for letter in SIDES[plane]}


def along(letter: str) -> float:
    """Millimeters of a marker from the centre."""
    return float(np.abs(MARKERS[letter].centre_mm).max())


@pytest.mark.parametrize("engine", ENGINES)
def test_masks_lie_where_they_belong_in_all_three_planes(open_viewer: Opener, engine: str) -> None:
    opened = open_viewer(case="phantom", engine=engine)
    assert opened.page.locator(f".viewer[data-engine={engine}]").count() == 1
    put_crosshair_at_the_centre(opened)
    colours_only(opened)
    scales = []
    for plane, (left, right, top, bottom) in SIDES.items():
        place = marker_places(opened, plane)
        assert place[left][0] < place[right][0], plane
        assert place[top][1] < place[bottom][1], plane
        scales += [
            (place[right][0] - place[left][0]) / (along(left) + along(right)),
            (place[bottom][1] - place[top][1]) / (along(top) + along(bottom)),
        ]
        centre = place[left] + [along(left) * scales[-2], 0]
        assert place[top][0] == pytest.approx(centre[0], abs=1.2 * scales[-1]), plane
        assert place[left][1] == pytest.approx(place[top][1] + along(top) * scales[-1], abs=1.2 * scales[-1]), plane
    assert max(scales) / min(scales) < 1.06  # one scale along every axis: voxels of 2.5 x 1.6 x 0.9 mm look right


@pytest.mark.parametrize("engine", ENGINES)
def test_the_image_lies_under_its_masks(open_viewer: Opener, engine: str) -> None:
    opened = open_viewer(case="phantom", engine=engine)
    put_crosshair_at_the_centre(opened)
    colours_only(opened)
    places = {plane: marker_places(opened, plane) for plane in PLANES}
    opened.page.locator("[data-part=model]").uncheck()
    for plane in PLANES:
        pixels = opened.pixels(plane)
        for letter, (column, row) in places[plane].items():
            assert pixels[round(row), round(column)].min() > 200, (plane, letter)
        column, row = np.mean([places[plane][letter] for letter in SIDES[plane][:2]], axis=0)
        assert pixels[round(row), round(column)].max() < 120, plane  # the body between them


@pytest.mark.parametrize("engine", ENGINES)
def test_the_reference_is_an_outline_around_the_same_place(open_viewer: Opener, engine: str) -> None:
    opened = open_viewer(case="phantom", engine=engine)
    put_crosshair_at_the_centre(opened)
    colours_only(opened)
    filled = {plane: opened.pixels(plane) for plane in PLANES}
    opened.page.locator("[data-part=model]").uncheck()
    opened.page.locator("[data-part=reference]").check()
    for plane in PLANES:
        pixels = opened.pixels(plane)
        for letter in SIDES[plane]:
            rows, columns = np.nonzero(near(filled[plane], COLOURS[letter]))
            outline = near(pixels, COLOURS[letter])
            height, width = np.ptp(rows), np.ptp(columns)
            box = np.zeros_like(outline)
            box[rows.min() - 4 : rows.max() + 5, columns.min() - 4 : columns.max() + 5] = True
            assert outline[box].sum() > height + width, (plane, letter)  # half of the way around at least
            assert near(pixels, COLOURS[letter], slack=12)[~box].sum() == 0, (plane, letter)
            inner = pixels[rows.min() + 4 : rows.max() - 3, columns.min() + 4 : columns.max() - 3]
            assert np.ptp(inner, axis=-1).max() < 30, (plane, letter)  # gray: the image shows


def test_letters_stand_at_all_four_sides_of_every_plane(open_viewer: Opener) -> None:
    opened = open_viewer(case="phantom", engine="canvas")
    for plane, sides in SIDES.items():
        outer = opened.plane(plane).bounding_box()
        assert outer is not None
        for side, letter in zip(("left", "right", "top", "bottom"), sides, strict=True):
            found = opened.page.locator(f"[data-plane={plane}] .letter[data-side={side}]")
            assert found.inner_text() == letter
            assert found.is_visible()
            box = found.bounding_box()
            assert box is not None
            across = (box["x"] + box["width"] / 2 - outer["x"]) / outer["width"]
            down = (box["y"] + box["height"] / 2 - outer["y"]) / outer["height"]
            nearest = min(
                ("left", across), ("right", 1 - across), ("top", down), ("bottom", 1 - down), key=lambda x: x[1]
            )
            assert nearest[0] == side


@pytest.mark.parametrize("engine", ENGINES)
def test_window_and_opacity_change_the_pixels(open_viewer: Opener, engine: str) -> None:
    opened = open_viewer(case="phantom", engine=engine)
    before = opened.pixels("axial")
    opened.page.locator("[data-part=width]").fill("200")
    opened.page.locator("[data-part=level]").fill("100")
    opened.page.locator("[data-part=level]").press("Enter")
    windowed = opened.pixels("axial")
    assert np.abs(windowed - before).max() > 60
    assert opened.page.locator("[data-part=preset]").input_value() == "manual"
    set_range(opened, "opacity", 0)
    clear = opened.pixels("axial")
    assert np.abs(clear - windowed).max() > 60
    set_range(opened, "opacity", 100)
    assert np.abs(opened.pixels("axial") - clear).max() > 60


def test_wheel_keys_and_slider_change_the_slice(open_viewer: Opener) -> None:
    opened = open_viewer(case="phantom", engine="canvas")
    put_crosshair_at_the_centre(opened)
    number = "[data-plane=axial] .number"
    assert opened.text(number) == "slice 12 of 24"
    before = opened.pixels("axial")
    opened.plane("axial").hover()
    opened.page.mouse.wheel(0, -100)
    opened.settle()
    assert opened.text(number) == "slice 13 of 24"
    opened.plane("axial").focus()
    pressed = {"ArrowUp": 14, "ArrowDown": 13, "PageUp": 18, "PageDown": 13, "Home": 1, "End": 24}
    for key, slice_number in pressed.items():
        opened.page.keyboard.press(key)
        opened.settle()
        assert opened.text(number) == f"slice {slice_number} of 24", key
    assert np.abs(opened.pixels("axial") - before).max() > 60
    assert opened.text("[data-plane=coronal] .number") == "slice 25 of 50"
    assert opened.text("[data-plane=axial] .position") == f"S {104.0 + 11.5 * 2.5:.1f} mm"


@pytest.mark.parametrize("plane", PLANES)
def test_a_click_tells_python_the_voxel_of_the_file(open_viewer: Opener, plane: str) -> None:
    opened = open_viewer(case="phantom", engine="canvas")
    put_crosshair_at_the_centre(opened)
    colours_only(opened)
    for letter, (column, row) in marker_places(opened, plane).items():
        told = clicked(opened, plane, column, row)
        assert told["plane"] == plane
        assert phantom.labels()[tuple(told["voxel"])] == MARKERS[letter].label
        centre = phantom.CENTRE_MM + MARKERS[letter].centre_mm
        assert np.abs(np.array(told["mm"]) - centre).max() < 2.5
        put_crosshair_at_the_centre(opened)


def clicked(opened: Opened, plane: str, column: float, row: float) -> dict[str, Any]:
    """Click and return what Python then shows of it."""
    before = opened.text("code")
    opened.plane(plane).click(position={"x": column, "y": row})
    opened.page.wait_for_function("(before) => document.querySelector('code').innerText !== before", arg=before)
    told: dict[str, Any] = json.loads(opened.text("code"))
    return told


def test_the_ruler_measures_millimeters(open_viewer: Opener) -> None:
    opened = open_viewer(case="phantom", engine="canvas")
    put_crosshair_at_the_centre(opened)
    colours_only(opened)
    place, box = marker_places(opened, "axial"), opened.plane("axial").bounding_box()
    assert box is not None
    opened.page.locator("[data-value=ruler]").click()
    opened.page.mouse.move(box["x"] + place["R"][0], box["y"] + place["R"][1])
    opened.page.mouse.down()
    opened.page.mouse.move(box["x"] + place["L"][0], box["y"] + place["L"][1], steps=4)
    opened.page.mouse.up()
    opened.settle()
    measured = opened.page.locator("[data-plane=axial] .ruler text")
    assert measured.is_visible()
    assert float(measured.text_content().removesuffix(" mm")) == pytest.approx(36, abs=1.5)  # type: ignore[union-attr]
    opened.page.keyboard.press("ArrowUp")
    opened.settle()
    assert not measured.is_visible()


def test_one_plane_can_stand_alone(open_viewer: Opener) -> None:
    opened = open_viewer(case="phantom", engine="canvas")
    opened.plane("axial").focus()
    opened.page.keyboard.press("2")
    opened.settle()
    assert [opened.plane(plane).is_visible() for plane in PLANES] == [False, True, False]
    opened.page.keyboard.press("0")
    opened.settle()
    assert all(opened.plane(plane).is_visible() for plane in PLANES)


def test_a_volume_that_was_reduced_says_so_and_still_finds_its_voxels(open_viewer: Opener) -> None:
    opened = open_viewer(case="phantom", engine="canvas", limit="40000")
    assert "24 x 36 x 50 voxels, too many to send whole" in opened.text(".notes")
    told = clicked(opened, "axial", 150, 200)
    expected = np.linalg.solve(phantom.affine(), [*told["mm"], 1])[:3]
    assert np.abs(np.array(told["voxel"]) - expected).max() <= 0.5


def test_a_picture_keeps_its_shape_and_gets_no_letters(open_viewer: Opener) -> None:
    opened = open_viewer(case="picture")
    assert opened.page.locator(".letter").count() == 0
    assert opened.text("[data-part=readout]").startswith("pixel ")
    assert "distances are in pixels" in opened.text(".notes")
    set_range(opened, "opacity", 100)
    pixels = opened.pixels("picture")
    found = near(pixels, rgb(OKABE_ITO[0]))
    rows, columns = np.nonzero(found)
    assert np.ptp(columns) / np.ptp(rows) == pytest.approx(2.0, rel=0.03)
    column, row = centroid(found)
    assert clicked(opened, "picture", column, row)["voxel"] == pytest.approx([239.5, 119.5], abs=2)


def test_names_are_shown_as_text_whatever_they_hold(open_viewer: Opener) -> None:
    opened = open_viewer(case="picture")
    assert opened.text(".legend .chip") == NASTY_NAME
    assert opened.page.title() != "run"


@pytest.mark.parametrize("case", ["phantom", "picture"])
def test_axe_finds_nothing_in_the_viewer(open_viewer: Opener, case: str) -> None:
    opened = open_viewer(case=case, engine="canvas")
    found = Axe().run(opened.page).response["violations"]
    nodes = [(rule["id"], node["target"]) for rule in found for node in rule["nodes"]]
    assert [(rule, target) for rule, target in nodes if isinstance(target[0], list)] == []  # inside of a shadow root


def test_research_use_only_is_always_there(open_viewer: Opener) -> None:
    for case in ("phantom", "picture"):
        assert "Research use only" in open_viewer(case=case, engine="canvas").text(".research")


#: WebGL says that it is drawn by a graphics card, and becomes slow when the page is told so.
A_CARD = """
const { getParameter, finish } = WebGL2RenderingContext.prototype;
WebGL2RenderingContext.prototype.getParameter = function (name) {
  return name === 0x9246 ? "A graphics card" : getParameter.call(this, name);
};
WebGL2RenderingContext.prototype.finish = function () {
  for (const start = performance.now(); window.isSlow && performance.now() < start + 60; );
  finish.call(this);
};
"""


def test_a_lost_card_does_not_lose_the_image(open_viewer: Opener) -> None:
    opened = open_viewer(case="phantom", engine="niivue")
    put_crosshair_at_the_centre(opened)
    colours_only(opened)
    opened.page.locator(".behind canvas").evaluate(
        "(canvas) => canvas.getContext('webgl2').getExtension('WEBGL_lose_context').loseContext()"
    )
    opened.page.locator(".viewer[data-engine=canvas]").wait_for()
    assert set(marker_places(opened, "axial")) == set(SIDES["axial"])


def test_niivue_is_taken_with_a_card_and_left_where_it_is_slow(open_viewer: Opener) -> None:
    opened = open_viewer(case="phantom", engine="auto", script=A_CARD)
    assert opened.page.locator(".viewer[data-engine=niivue]").count() == 1
    opened.page.evaluate("() => { window.isSlow = true; }")
    opened.plane("axial").focus()
    for _ in range(6):
        opened.page.keyboard.press("ArrowUp")
        opened.settle()
    opened.page.locator(".viewer[data-engine=canvas]").wait_for()


def test_without_a_card_the_viewer_draws_by_itself(open_viewer: Opener) -> None:
    opened = open_viewer(case="phantom", engine="auto")
    assert opened.page.locator(".viewer[data-engine=canvas]").count() == 1

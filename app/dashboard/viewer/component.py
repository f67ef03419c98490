"""The viewer as a Streamlit element."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from streamlit.components.v2 import component
from streamlit.components.v2.get_bidi_component_manager import get_bidi_component_manager
from streamlit.components.v2.manifest_scanner import ComponentConfig, ComponentManifest
from streamlit.components.v2.types import ComponentRenderer

from app.dashboard.viewer.prepared import PreparedVolume
from app.dashboard.viewer.structures import Structure
from app.dashboard.viewer.windows import Window
from app.dashboard.viewer.wire import message_of
from app.dashboard.viewer.words import ENGLISH, checked_words

Engine = Literal["auto", "canvas", "niivue"]

_PLANES = ("axial", "coronal", "sagittal", "picture")
_DISTRIBUTION, _COMPONENT = "medfl", "viewer"
_NAME = f"{_DISTRIBUTION}.{_COMPONENT}"
_LARGEST_UNSAID_TILT = 5.0


@dataclass(frozen=True)
class Selection:
    """Where the reader clicked.

    Attributes
    ----------
    plane : {"axial", "coronal", "sagittal", "picture"}
    mm : three floats
        RAS+ millimeters of the voxel's centre.
    voxel : tuple of int
        The file's own index (x, y, z), or (x, y) = (column, row) of a picture. Where voxels were joined, the file's
        voxel at the block's centre.
    """

    plane: str
    mm: tuple[float, float, float]
    voxel: tuple[int, ...]


def show_volume(
    prepared: PreparedVolume,
    *,
    key: str,
    structures: Sequence[Structure] = (),
    words: Mapping[str, str] = ENGLISH,
    opacity: float = 0.45,
    height: int = 460,
    engine: Engine = "auto",
    on_select: Callable[[], None] | None = None,
) -> Selection | None:
    """Show an image with its masks; the reader scrolls, measures and sets windows without asking the server.

    Parameters
    ----------
    prepared : PreparedVolume
    key : str
        Of the element; one per viewer on a page.
    structures : sequence of Structure
        Names and colours of the masks' labels. Labels that are not named are not drawn.
    words : mapping
        With the keys of `ENGLISH`.
    opacity : float
        Of the model's mask at the beginning, 0 to 1.
    height : int
        Of the planes, in CSS pixels.
    engine : {"auto", "canvas", "niivue"}
        Who draws. ``"auto"`` takes niivue (WebGL 2) where the graphics card draws, and the viewer's own code where
        there is no WebGL, where a program plays the graphics card, or where the volume is large.
    on_select : callable, optional
        Called before the page runs again after a click.

    Returns
    -------
    Selection or None
        The last click in this image.
    """
    checked = checked_words(words)
    header = {
        "kind": "volume" if prepared.is_volume else "picture",
        "shape": list(prepared.shape),
        "affine": prepared.affine.tolist(),
        "calibrated": prepared.is_calibrated,
        "colour": prepared.colour,
        "windows": [_described(window) for window in prepared.windows],
        "structures": [{"label": one.label, "name": one.name, "colour": one.colour} for one in structures],
        "notes": _notes(prepared, checked),
        "words": checked,
        "opacity": min(1.0, max(0.0, opacity)),
        "height": height,
        "engine": engine,
    }
    _make_known()
    result = _renderer()(key=key, data=message_of(header, prepared.body), on_selection_change=on_select or _nothing)
    return selection_from(result.get("selection"), prepared)


def selection_from(message: object, prepared: PreparedVolume) -> Selection | None:
    """Return what the browser reported, or None when it is no position in this image.

    Parameters
    ----------
    message : object
        ``{"digest": str, "plane": str, "mm": [r, a, s]}``; everything is checked, since a browser can send anything.
    prepared : PreparedVolume
    """
    if not isinstance(message, Mapping) or message.get("digest") != prepared.body.digest:
        return None
    plane, mm = message.get("plane"), message.get("mm")
    if plane not in _PLANES or not isinstance(mm, list | tuple) or len(mm) != 3:
        return None
    if not all(isinstance(number, int | float) and isfinite(number) for number in mm):
        return None
    right, anterior, superior = (float(number) for number in mm)
    voxel = prepared.file_voxel((right, anterior, superior))
    return None if voxel is None else Selection(str(plane), (right, anterior, superior), voxel)


def _described(window: Window) -> dict[str, Any]:
    """Return a window for the header."""
    return {"name": window.name, "low": window.low, "high": window.high}


def _notes(prepared: PreparedVolume, words: Mapping[str, str]) -> list[str]:
    """Return the sentences that the reader must see above the image."""
    notes = []
    if prepared.is_reduced:
        z, y, x = prepared.factors
        size = " x ".join(str(length) for length in prepared.file_shape)
        notes.append(words["reduced"].format(file_voxels=size, x=x, y=y, z=z))
    if prepared.tilt_degrees > _LARGEST_UNSAID_TILT:
        notes.append(words["tilted"].format(degrees=round(prepared.tilt_degrees)))
    if not prepared.is_calibrated:
        notes.append(words["unsized"])
    return notes


def _make_known() -> None:
    """Tell the running Streamlit where the bundle lies.

    Streamlit finds bundles of installed packages by itself only inside a package named like the distribution; this
    one lies in `app`, so it is registered as Streamlit registers the others. Only the folder `built` is served.
    """
    manager = get_bidi_component_manager()
    if manager.get_component_asset_root(_NAME) is None:
        manifest = ComponentManifest(_DISTRIBUTION, "0", [ComponentConfig(_COMPONENT, asset_dir="built")])
        manager.register_from_manifest(manifest, Path(__file__).parent)


@cache
def _renderer() -> ComponentRenderer:
    """Return the function that puts the element on a page."""
    return component(_NAME, js="viewer-*.js")


def _nothing() -> None:
    """Do nothing after a click; Streamlit runs the page again all the same."""

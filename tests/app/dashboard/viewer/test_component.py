import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from app.dashboard.viewer.component import Selection, selection_from
from app.dashboard.viewer.prepared import PreparedVolume, prepared_volume
from medfl.imaging.volume import Volume

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def prepared() -> PreparedVolume:
    return prepared_volume(Volume(np.zeros((1, 2, 3, 4), np.uint8), np.diag([2.0, 2.0, 2.0, 1.0])))


def told(prepared: PreparedVolume, **changes: object) -> dict[str, object]:
    return {"digest": prepared.body.digest, "plane": "axial", "mm": [6.0, 4.0, 2.0]} | changes


def test_a_click_becomes_millimeters_and_a_voxel(prepared: PreparedVolume) -> None:
    assert selection_from(told(prepared), prepared) == Selection("axial", (6.0, 4.0, 2.0), (3, 2, 1))


@pytest.mark.parametrize(
    "message",
    [
        None,
        "axial",
        {},
        {"plane": "oblique"},
        {"mm": [1.0, 2.0]},
        {"mm": ["1", "2", "3"]},
        {"mm": [float("nan"), 0.0, 0.0]},
        {"mm": [1e300, 0.0, 0.0]},
        {"mm": None},
        {"digest": "of another image"},
    ],
)
def test_what_is_no_position_in_this_image_is_no_selection(prepared: PreparedVolume, message: object) -> None:
    sent = told(prepared, **message) if isinstance(message, dict) and message else message
    assert selection_from(sent, prepared) is None


def test_the_viewer_loads_neither_torch_nor_the_federation() -> None:
    program = "import sys, app.dashboard.viewer.component; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "streamlit" in loaded
    assert not loaded & {"torch", "monai", "flwr", "ray", "opacus"}

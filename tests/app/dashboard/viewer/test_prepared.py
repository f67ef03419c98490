from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.dashboard.viewer.prepared import PreparedVolume, prepared_volume
from dashboard.viewer import phantom
from medfl.errors import DataError, ShapeError
from medfl.imaging.nifti import read_nifti
from medfl.imaging.volume import Volume


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return phantom.write(tmp_path_factory.mktemp("cases") / "phantom")


@pytest.fixture(scope="module")
def prepared(case: Path) -> PreparedVolume:
    return prepared_volume(case / "image.nii.gz", model=case / "model.nii.gz")


def test_voxels_travel_in_the_order_of_the_body(prepared: PreparedVolume) -> None:
    assert prepared.shape == (36, 50, 24)
    assert np.allclose(prepared.affine[:3, :3], np.diag([1.6, 0.9, 2.5]))
    assert prepared.has_model
    assert not prepared.has_reference
    assert prepared.tilt_degrees == pytest.approx(0)


def test_millimeters_find_the_voxel_of_the_file(prepared: PreparedVolume) -> None:
    for marker in phantom.MARKERS:
        right, anterior, superior = phantom.CENTRE_MM + marker.centre_mm
        voxel = prepared.file_voxel((right, anterior, superior))
        assert voxel is not None
        assert phantom.labels()[voxel] == marker.label


def test_every_voxel_of_the_file_is_found_by_its_own_millimeters(prepared: PreparedVolume) -> None:
    corners = [(0, 0, 0), (23, 35, 49), (5, 0, 49), (11, 17, 3)]
    for corner in corners:
        mm = phantom.affine() @ [*corner, 1]
        assert prepared.file_voxel((mm[0], mm[1], mm[2])) == corner


def test_outside_of_the_image_there_is_no_voxel(prepared: PreparedVolume) -> None:
    assert prepared.file_voxel((500.0, 0.0, 0.0)) is None


def volume(array: NDArray[np.generic]) -> Volume:
    return Volume(array, np.eye(4))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.array([0, 1], np.bool_), "u8"),
        (np.array([-3, 4], np.int8), "i16"),
        (np.array([0, 65535], np.uint16), "u16"),
        (np.array([-1000, 3000], np.int32), "i16"),
        (np.array([0, 100_000], np.int32), "f32"),
        (np.array([-1024.0, 3071.0], np.float64), "i16"),
        (np.array([0.0, 0.5], np.float64), "f32"),
    ],
)
def test_values_travel_in_the_smallest_type_that_holds_them(values: NDArray[np.generic], kind: str) -> None:
    prepared = prepared_volume(volume(values.reshape(1, 1, 1, 2)))
    assert prepared.body.parts["image"]["type"] == kind
    sent = np.frombuffer(
        prepared.body.content[: prepared.body.parts["image"]["length"]],
        {"u8": "u1", "u16": "<u2", "i16": "<i2", "f32": "<f4"}[kind],
    )
    assert np.array_equal(sent.astype(np.float64), values.astype(np.float64))


def test_too_many_voxels_are_joined_until_they_fit(case: Path) -> None:
    whole = prepared_volume(case / "image.nii.gz", model=case / "model.nii.gz")
    small = prepared_volume(case / "image.nii.gz", model=case / "model.nii.gz", largest_bytes=40_000)
    assert not whole.is_reduced
    assert small.is_reduced
    assert small.body.parts["image"]["length"] <= 40_000
    assert small.file_shape == phantom.SHAPE
    edges = [np.array([-0.5, -0.5, -0.5, 1]), np.array([-0.5, -0.5, -0.5, 1])]
    assert np.allclose(whole.affine @ edges[0], small.affine @ edges[1])


def test_a_mask_must_lie_on_the_grid_of_its_image(case: Path) -> None:
    image = read_nifti(case / "image.nii.gz")
    shifted = image.affine.copy()
    shifted[0, 3] += 1
    labels = np.zeros((1, *image.spatial_shape), np.uint8)
    with pytest.raises(ShapeError, match="affine"):
        prepared_volume(image, model=Volume(labels, shifted))
    with pytest.raises(ShapeError, match="size"):
        prepared_volume(image, reference=Volume(labels[:, 1:], image.affine))


@pytest.mark.parametrize("value", [0.5, -1.0, 256.0])
def test_a_mask_must_hold_labels(value: float) -> None:
    image = volume(np.zeros((1, 2, 2, 2), np.float32))
    with pytest.raises(DataError, match="labels"):
        prepared_volume(image, model=image.with_array(np.full((1, 2, 2, 2), value, np.float32)))


def test_a_channel_that_is_not_there_is_refused() -> None:
    with pytest.raises(ShapeError, match="channel 2"):
        prepared_volume(volume(np.zeros((2, 2, 2, 2), np.float32)), channel=2)


def test_a_scan_tilted_against_the_body_says_by_how_much(tmp_path: Path) -> None:
    angle = np.radians(12)
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), turned), tmp_path / "tilted.nii")
    assert prepared_volume(tmp_path / "tilted.nii").tilt_degrees == pytest.approx(12, abs=1e-4)


def test_a_gray_picture_keeps_rows_and_columns(tmp_path: Path) -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    prepared = prepared_volume(tmp_path / "image.png")
    assert prepared.shape == (3, 2)
    assert not prepared.is_volume
    assert not prepared.is_calibrated
    assert prepared.body.content[:6] == pixels.tobytes()
    assert prepared.file_voxel((2.0, 1.0, 0.0)) == (2, 1)


def test_a_colour_picture_travels_with_its_three_channels(tmp_path: Path) -> None:
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    prepared = prepared_volume(tmp_path / "image.png")
    assert prepared.colour
    assert prepared.shape == (3, 2)
    assert prepared.body.content[:18] == np.moveaxis(pixels, -1, 0).tobytes()


def test_a_gray_picture_stored_in_colour_is_gray(tmp_path: Path) -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    Image.fromarray(np.stack([pixels] * 3, axis=-1)).save(tmp_path / "image.png")
    prepared = prepared_volume(tmp_path / "image.png")
    assert not prepared.colour
    assert prepared.body.parts["image"]["length"] == 6


def test_a_flat_nifti_file_has_its_pixel_size(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 6), np.float32), np.diag([0.5, 2.0, 1, 1])), tmp_path / "flat.nii")
    prepared = prepared_volume(tmp_path / "flat.nii")
    assert prepared.shape == (4, 6)
    assert prepared.is_calibrated
    assert np.linalg.norm(prepared.affine[:3, :2], axis=0) == pytest.approx([0.5, 2.0])

from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from medfl.errors import ImageReadError
from medfl.imaging.nifti import read_nifti, write_nifti
from medfl.imaging.orientation import as_stored, check_affine, empty_canonical

# Distances in millimeters that no mirror image and no exchange of axes leaves as they are.
LENGTHS_XYZ = (5, 6, 7)
SPACINGS_XYZ = (1.0, 1.5, 2.0)
RIGHT, ANTERIOR, SUPERIOR = 101, 102, 103
ORIENTATIONS = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]


def phantom_value(right_mm: float, anterior_mm: float, superior_mm: float) -> int:
    """Anatomy as a function of the place in the patient, not of any index: a landmark at the end of each axis."""
    if (right_mm, anterior_mm, superior_mm) == (4.0, 1.5, 2.0):
        return RIGHT
    if (right_mm, anterior_mm, superior_mm) == (1.0, 7.5, 4.0):
        return ANTERIOR
    if (right_mm, anterior_mm, superior_mm) == (2.0, 3.0, 12.0):
        return SUPERIOR
    return int(right_mm + 10 * anterior_mm / 1.5)


def stored_phantom(order: tuple[int, ...], signs: tuple[int, ...]) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Sample the phantom on a file grid whose axis i runs along patient axis order[i] in direction signs[i]."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for stored, (patient, sign) in enumerate(zip(order, signs, strict=True)):
        affine[patient, stored] = sign * SPACINGS_XYZ[patient]
        affine[patient, 3] = 0 if sign > 0 else (LENGTHS_XYZ[patient] - 1) * SPACINGS_XYZ[patient]
    shape = tuple(LENGTHS_XYZ[patient] for patient in order)
    array = np.empty(shape, dtype=np.int16)
    for index in np.ndindex(shape):
        array[index] = phantom_value(*(affine @ (*index, 1))[:3])
    return array, affine


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_all_48_orientations_read_to_one_image_and_are_written_back_in_place(
    order: tuple[int, ...], signs: tuple[int, ...], tmp_path: Path
) -> None:
    array, affine = stored_phantom(order, signs)
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "stored.nii")

    volume = read_nifti(tmp_path / "stored.nii")

    assert volume.array.shape == (1, 7, 6, 5)
    assert volume.array.flags.c_contiguous
    np.testing.assert_allclose(volume.affine, np.diag([1.0, 1.5, 2.0, 1.0]), atol=1e-12)
    assert volume.spacing_mm == pytest.approx((2.0, 1.5, 1.0))
    axial, coronal, sagittal = volume.array[0, 6], volume.array[0, :, 5], volume.array[0, :, :, 4]
    assert axial[2, 2] == SUPERIOR
    assert coronal[2, 1] == ANTERIOR
    assert sagittal[1, 1] == RIGHT
    for d, h, w in np.ndindex(7, 6, 5):
        assert volume.array[0, d, h, w] == phantom_value(w * 1.0, h * 1.5, d * 2.0)

    write_nifti(volume, tmp_path / "written.nii.gz")
    written = nib.load(tmp_path / "written.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), array)
    np.testing.assert_array_equal(written.affine, affine)
    assert written.get_data_dtype() == array.dtype


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS[::5])
def test_another_library_sees_the_written_voxels_at_the_same_place(
    order: tuple[int, ...], signs: tuple[int, ...], tmp_path: Path
) -> None:
    array, affine = stored_phantom(order, signs)
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "stored.nii")
    write_nifti(read_nifti(tmp_path / "stored.nii"), tmp_path / "written.nii")

    image = sitk.ReadImage(str(tmp_path / "written.nii"))

    where = [int(index) for index in np.argwhere(array == SUPERIOR)[0]]
    assert image.GetPixel(where) == SUPERIOR
    left, posterior, superior = image.TransformIndexToPhysicalPoint(where)
    assert (-left, -posterior, superior) == pytest.approx((2.0, 3.0, 12.0))


@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    spacings=st.tuples(*[st.floats(0.1, 9.0)] * 3),
    offset=st.tuples(*[st.floats(-500, 500)] * 3),
)
def test_turning_keeps_every_voxel_at_its_place_and_can_be_undone(
    angles: tuple[float, ...], spacings: tuple[float, ...], offset: tuple[float, ...]
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = rotation(*angles) * spacings
    affine[:3, 3] = offset
    stored = np.arange(2 * 4 * 3 * 2).reshape(2, 4, 3, 2)  # (C, z, y, x)

    volume = empty_canonical(affine, (2, 3, 4), 2, stored.dtype)
    as_stored(volume)[0][...] = stored

    for z, y, x in np.ndindex(4, 3, 2):
        _, d, h, w = np.argwhere(volume.array == stored[0, z, y, x])[0]
        np.testing.assert_allclose(volume.affine @ (w, h, d, 1), affine @ (x, y, z, 1), atol=1e-9)
    assert (np.linalg.det(volume.affine[:3, :3]) > 0) == (
        np.linalg.det(affine[:3, :3]) * handedness(volume.stored_axes) > 0
    )
    assert all(volume.affine[axis, axis] >= 0 for axis in range(3))
    array_back, affine_back = as_stored(volume)
    np.testing.assert_array_equal(array_back, stored)
    np.testing.assert_allclose(affine_back, affine, atol=1e-9)


@pytest.mark.parametrize(
    "affine",
    [
        np.diag([np.nan, 1, 1, 1]),
        np.diag([np.inf, 1, 1, 1]),
        np.diag([0.0, 1, 1, 1]),
        np.diag([1e12, 1, 1, 1]),
        np.array([[1.0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    ],
    ids=["nan", "inf", "zero", "huge", "flat"],
)
def test_an_affine_that_is_no_map_to_millimeters_is_refused(affine: NDArray[np.float64]) -> None:
    with pytest.raises(ImageReadError) as caught:
        check_affine(affine)
    assert caught.value.reason == "bad_affine"


def handedness(axes: tuple[tuple[int, int], ...]) -> float:
    turn = np.zeros((3, 3))
    for stored, (canonical, sign) in enumerate(axes):
        turn[canonical, stored] = sign
    return float(np.linalg.det(turn))


def rotation(a: float, b: float, c: float) -> NDArray[np.float64]:
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_x @ about_y @ about_z

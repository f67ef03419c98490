import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medfl.errors import DataError, ImageReadError
from medfl.imaging.nifti import read_nifti, write_nifti
from medfl.imaging.volume import Volume


def saved(path: Path, array: np.ndarray, image_class: type = nib.Nifti1Image) -> Path:
    nib.save(image_class(array, np.diag([1.0, 2.0, 3.0, 1.0])), path)
    return path


def reason_of(path: Path) -> str:
    with pytest.raises(ImageReadError) as caught:
        read_nifti(path)
    assert path.name not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", ">i2", ">f4"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_the_stored_dtype_is_kept_and_written(dtype: str, ending: str, tmp_path: Path) -> None:
    array = np.arange(24, dtype=dtype).reshape(2, 3, 4)
    image = nib.Nifti1Image(array, np.eye(4), dtype=array.dtype)
    if dtype.startswith(">"):
        image = nib.Nifti1Image(array, np.eye(4), nib.Nifti1Header(endianness=">"), dtype=array.dtype)
    nib.save(image, tmp_path / f"a{ending}")

    volume = read_nifti(tmp_path / f"a{ending}")

    assert volume.array.dtype == array.dtype.newbyteorder("=")
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.array[0], array.T)
    write_nifti(volume, tmp_path / f"b{ending}")
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / f"b{ending}").dataobj), array)


def test_a_scaling_gives_float32_values(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    image.to_filename(tmp_path / "a.nii")
    stored = bytearray((tmp_path / "a.nii").read_bytes())
    stored[352:] = np.arange(24, dtype="<i2").tobytes()
    (tmp_path / "a.nii").write_bytes(stored)

    volume = read_nifti(tmp_path / "a.nii")

    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array.reshape(-1), np.arange(24) * 0.5 - 3)


def test_the_fourth_axis_becomes_channels_and_comes_back(tmp_path: Path) -> None:
    array = np.arange(120, dtype=np.int16).reshape(2, 3, 4, 5)
    volume = read_nifti(saved(tmp_path / "a.nii.gz", array))
    assert volume.array.shape == (5, 4, 3, 2)
    assert volume.array[4, 3, 2, 1] == array[1, 2, 3, 4]
    write_nifti(volume, tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "b.nii.gz").dataobj), array)


def test_a_vector_axis_becomes_channels(tmp_path: Path) -> None:
    array = np.arange(72, dtype=np.int16).reshape(2, 3, 4, 1, 3)
    assert read_nifti(saved(tmp_path / "a.nii", array)).array.shape == (3, 4, 3, 2)


def test_a_flat_file_keeps_its_rows_and_columns(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.int16).reshape(3, 4)
    nib.save(nib.Nifti1Image(array, np.diag([-1.0, -2.0, 1.0, 1.0])), tmp_path / "a.nii")
    volume = read_nifti(tmp_path / "a.nii")
    np.testing.assert_array_equal(volume.array, array.T[None])
    assert volume.spacing_mm == (2.0, 1.0)
    write_nifti(volume, tmp_path / "b.nii")
    assert nib.load(tmp_path / "b.nii").shape == (3, 4)


def test_a_header_in_microns_gives_millimeters(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.diag([500.0, 500.0, 500.0, 1.0]))
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "a.nii")
    assert read_nifti(tmp_path / "a.nii").spacing_mm == pytest.approx((0.5, 0.5, 0.5))


def test_an_axis_too_long_for_nifti_1_is_written_as_nifti_2(tmp_path: Path) -> None:
    volume = Volume(np.zeros((1, 1, 1, 40000), np.uint8), np.eye(4))
    write_nifti(volume, tmp_path / "a.nii.gz")
    assert isinstance(nib.load(tmp_path / "a.nii.gz"), nib.Nifti2Image)
    assert read_nifti(tmp_path / "a.nii.gz").array.shape == (1, 1, 1, 40000)


def test_a_pair_is_read_from_both_files(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    nib.save(nib.Nifti1Pair(array, np.eye(4)), tmp_path / "a.hdr")
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.hdr").array[0], array.T)
    (tmp_path / "a.img").unlink()
    assert reason_of(tmp_path / "a.hdr") == "missing_pair"


def test_gzip_members_and_zero_padding_are_read_to_the_end(tmp_path: Path) -> None:
    whole = saved(tmp_path / "a.nii", np.arange(24, dtype=np.int16).reshape(2, 3, 4)).read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(whole[:300]) + gzip.compress(whole[300:]) + bytes(512))
    np.testing.assert_array_equal(read_nifti(tmp_path / "b.nii.gz").array, read_nifti(tmp_path / "a.nii").array)


def test_a_wrong_gzip_checksum_is_noticed(tmp_path: Path) -> None:
    content = bytearray(saved(tmp_path / "a.nii.gz", np.zeros((20, 20, 20))).read_bytes())
    content[-6] ^= 1
    (tmp_path / "a.nii.gz").write_bytes(content)
    assert reason_of(tmp_path / "a.nii.gz") == "bad_gzip"


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("keep", [0, 1, 2, 100, 347, 400])
def test_a_file_cut_anywhere_is_refused(ending: str, keep: int, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (9, 9, 9)).astype(np.uint8)
    path = saved(tmp_path / f"a{ending}", noise)
    path.write_bytes(path.read_bytes()[:keep])
    assert reason_of(path) in ("empty", "truncated", "not_nifti", "bad_gzip")


def test_a_small_file_that_announces_much_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", np.zeros((2, 2, 2), np.uint8))
    content = bytearray(path.read_bytes())
    content[42:48] = np.array([512, 512, 1000], "<i2").tobytes()
    path.write_bytes(content)
    assert reason_of(path) == "truncated"
    content[42:48] = np.array([32767, 32767, 32767], "<i2").tobytes()
    path.write_bytes(content)
    assert reason_of(path) == "too_large"


def test_gigabytes_behind_the_image_are_refused(tmp_path: Path) -> None:
    whole = saved(tmp_path / "a.nii", np.zeros((2, 2, 2), np.uint8)).read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(whole + bytes(1 << 25)))
    assert reason_of(tmp_path / "b.nii.gz") == "trailing_data"


@pytest.mark.parametrize(
    ("dtype", "value", "reason"),
    [("f4", np.nan, "not_finite"), ("f8", -np.inf, "not_finite"), ("c8", 0, "unsupported_dtype")],
)
def test_voxels_that_are_no_finite_numbers_are_refused(dtype: str, value: float, reason: str, tmp_path: Path) -> None:
    array = np.zeros((2, 3, 4), dtype)
    array[1, 2, 3] = value
    assert reason_of(saved(tmp_path / "a.nii", array)) == reason


def test_several_axes_beyond_space_are_refused(tmp_path: Path) -> None:
    assert reason_of(saved(tmp_path / "a.nii", np.zeros((2, 2, 2, 2, 2), np.uint8))) == "bad_dimensions"


def test_a_missing_file_is_refused_without_naming_it(tmp_path: Path) -> None:
    assert reason_of(tmp_path / "Doe_John.nii") == "unreadable"


def test_equal_volumes_give_equal_bytes_whatever_the_name(tmp_path: Path) -> None:
    volume = Volume(np.ones((1, 2, 3, 4), bool), np.eye(4))
    write_nifti(volume, tmp_path / "a.nii.gz")
    write_nifti(volume, tmp_path / "b.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    volume = Volume(np.ones((1, 2, 3, 4), np.uint8), np.eye(4))
    write_nifti(volume, tmp_path / "a.nii")
    before = (tmp_path / "a.nii").read_bytes()
    with pytest.raises(DataError, match="complex"):
        write_nifti(volume.with_array(volume.array.astype(complex)), tmp_path / "a.nii")
    with pytest.raises(DataError, match=r"\.nii"):
        write_nifti(volume, tmp_path / "a.png")
    assert (tmp_path / "a.nii").read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.nii"]


def test_real_volumes_agree_with_nibabel_and_come_back(real_data: Path, tmp_path: Path) -> None:
    for path in sorted((real_data / "msd-hippocampus" / "images").glob("*.nii.gz"))[::20]:
        expected = nib.load(path)
        volume = read_nifti(path)
        np.testing.assert_array_equal(volume.array[0], np.asarray(nib.as_closest_canonical(expected).dataobj).T)
        write_nifti(volume, tmp_path / "back.nii.gz")
        back = nib.load(tmp_path / "back.nii.gz")
        np.testing.assert_array_equal(np.asarray(back.dataobj), np.asarray(expected.dataobj))
        np.testing.assert_array_equal(back.affine, expected.affine)

from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless
from synthetic_dicom import CR, ENHANCED_CT, FUNDUS, axial_slices, image, save_all, saved

from medfl.errors import ImageReadError
from medfl.imaging.dicom import read_dicom, read_series
from medfl.imaging.dicom_folder import find_series
from medfl.imaging.volume import Volume

ORIENTATIONS = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]
LENGTHS_RAS = (5, 6, 7)
SPACINGS_RAS = (1.0, 1.5, 2.0)


def read_only_series(folder: Path) -> Volume:
    (series,) = find_series(folder).series
    return read_series(series)


def reason_of(read: Callable[[], Any]) -> str:
    with pytest.raises(ImageReadError) as caught:
        read()
    assert "Doe" not in str(caught.value)
    return caught.value.reason


def phantom_value(right_mm: float, anterior_mm: float, superior_mm: float) -> int:
    """Tissue as a function of the place in the patient: no mirror image and no exchange of axes leaves it alone."""
    return round(right_mm + 20 * anterior_mm / 1.5 + 400 * superior_mm / 2)


def phantom_series(order: tuple[int, ...], signs: tuple[int, ...]) -> list[Dataset]:
    """Scan the phantom with columns, rows and slices that count up along the given patient axes and directions."""
    steps = np.zeros((3, 3))
    for stored, (patient, sign) in enumerate(zip(order, signs, strict=True)):
        steps[stored, patient] = sign
    start = np.array(
        [
            0 if signs[order.index(patient)] > 0 else (LENGTHS_RAS[patient] - 1) * SPACINGS_RAS[patient]
            for patient in range(3)
        ]
    )
    columns, rows, slices = (LENGTHS_RAS[patient] for patient in order)
    column_mm, row_mm, slice_mm = (SPACINGS_RAS[patient] for patient in order)
    to_lps = np.array([-1.0, -1.0, 1.0])
    datasets = []
    for index in range(slices):
        corner = start + index * slice_mm * steps[2]
        pixels = np.empty((rows, columns), np.int16)
        for row, column in np.ndindex(rows, columns):
            pixels[row, column] = phantom_value(*(corner + column * column_mm * steps[0] + row * row_mm * steps[1]))
        datasets.append(
            image(
                pixels,
                SOPInstanceUID=f"1.2.3.4.{index}",
                PixelSpacing=[row_mm, column_mm],
                ImagePositionPatient=list(corner * to_lps),
                ImageOrientationPatient=[*(steps[0] * to_lps), *(steps[1] * to_lps)],
            )
        )
    return datasets


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_scans_in_all_48_orientations_read_to_one_image(
    order: tuple[int, ...], signs: tuple[int, ...], tmp_path: Path
) -> None:
    volume = read_only_series(save_all(phantom_series(order, signs), tmp_path))

    np.testing.assert_allclose(volume.affine, np.diag([1.0, 1.5, 2.0, 1.0]), atol=1e-9)
    assert volume.array.shape == (1, 7, 6, 5)
    assert volume.array.dtype == np.int16
    assert volume.array.flags.c_contiguous
    for d, h, w in np.ndindex(7, 6, 5):
        assert volume.array[0, d, h, w] == phantom_value(w * 1.0, h * 1.5, d * 2.0)


def test_another_library_puts_every_voxel_at_the_same_place(tmp_path: Path) -> None:
    save_all(axial_slices(5, ImageOrientationPatient=[0.8, 0.6, 0, -0.6, 0.8, 0], PixelSpacing=[1.5, 0.7]), tmp_path)
    volume = read_only_series(tmp_path)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    other = reader.Execute()
    ours = {
        tuple(np.round((volume.affine @ (w, h, d, 1))[:3], 4)): volume.array[0, d, h, w]
        for d, h, w in np.ndindex(*volume.spatial_shape)
    }
    for x, y, z in np.ndindex(*other.GetSize()):
        left, posterior, superior = other.TransformIndexToPhysicalPoint((x, y, z))
        assert ours[tuple(np.round((-left, -posterior, superior), 4))] == other.GetPixel(x, y, z)


def test_slices_are_sorted_by_geometry_not_by_name_or_number(tmp_path: Path) -> None:
    volume = read_only_series(save_all(axial_slices(9), tmp_path))
    assert volume.array[0, :, 0, 0].tolist() == list(range(9))
    assert volume.spacing_mm == (2.0, 1.0, 1.0)


def test_a_tilted_gantry_keeps_its_shear(tmp_path: Path) -> None:
    slices = axial_slices(5)
    for index, dataset in enumerate(slices):
        dataset.ImagePositionPatient = [0, 0.5 * index, 2 * index]
    volume = read_only_series(save_all(slices, tmp_path))
    assert volume.affine[:3, 2] == pytest.approx([0, -0.5, 2])


@pytest.mark.parametrize(
    ("slope", "intercept", "signed", "bits", "dtype"),
    [
        ("1", "0", True, 16, np.int16),
        ("1", "-1024", False, 12, np.int16),
        ("1", "-1024", True, 16, np.int32),
        ("0.5", "-3", True, 16, np.float32),
    ],
)
def test_slope_and_intercept_are_applied(
    slope: str, intercept: str, signed: bool, bits: int, dtype: type, tmp_path: Path
) -> None:
    stored = np.arange(12).reshape(4, 3).astype(np.int16 if signed else np.uint16)
    path = saved(
        image(stored, RescaleSlope=slope, RescaleIntercept=intercept, BitsStored=bits, HighBit=bits - 1), tmp_path / "a"
    )
    array = read_dicom(path).array
    assert array.dtype == dtype
    np.testing.assert_array_equal(np.sort(array.reshape(-1)), np.arange(12) * float(slope) + float(intercept))


def test_every_slice_is_scaled_by_its_own_slope(tmp_path: Path) -> None:
    slices = axial_slices(3)
    for index, dataset in enumerate(slices):
        dataset.RescaleSlope, dataset.RescaleIntercept = str(0.5 + index), "1"
    array = read_only_series(save_all(slices, tmp_path)).array
    assert array[0, :, 0, 0].tolist() == [1.0, 2.5, 6.0]


def test_bits_above_the_stored_ones_are_cleared(tmp_path: Path) -> None:
    stored = np.array([[0x0FFF, 0xF001]], np.uint16)
    path = saved(image(stored, BitsStored=12, HighBit=11), tmp_path / "a")
    assert sorted(read_dicom(path).array.reshape(-1).tolist()) == [1, 0x0FFF]
    signed = np.array([[0x0FFF, 0x7001]], np.int16)
    path = saved(image(signed, BitsStored=12, HighBit=11), tmp_path / "b")
    assert sorted(read_dicom(path).array.reshape(-1).tolist()) == [-1, 1]


def test_a_radiograph_is_two_dimensional_and_larger_is_brighter(tmp_path: Path) -> None:
    stored = np.arange(6, dtype=np.uint16).reshape(2, 3)
    attributes = {"SOPClassUID": CR, "Modality": "CR", "ImagePositionPatient": None, "ImageOrientationPatient": None}
    dark = image(stored, PhotometricInterpretation="MONOCHROME1", BitsStored=10, HighBit=9, **attributes)
    volume = read_dicom(saved(dark, tmp_path / "a"))
    np.testing.assert_array_equal(volume.array, 1023 - stored[None])
    plain = image(stored, PixelSpacing=None, ImagerPixelSpacing=[0.2, 0.1], **attributes)
    volume = read_dicom(saved(plain, tmp_path / "b"))
    np.testing.assert_array_equal(volume.array, stored[None])
    assert volume.spacing_mm == (0.2, 0.1)


@pytest.mark.parametrize("planar", [0, 1])
def test_color_becomes_three_channels(planar: int, tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    dataset = image(
        rgb,
        SOPClassUID=FUNDUS,
        Modality="OP",
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=planar,
    )
    if planar:
        dataset.PixelData = np.ascontiguousarray(np.moveaxis(rgb, -1, 0)).tobytes()
    volume = read_dicom(saved(dataset, tmp_path / "a"))
    np.testing.assert_array_equal(volume.array, np.moveaxis(rgb, -1, 0))


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda uid: uid.name)
def test_compressed_slices_read_like_plain_ones(syntax: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 4096, (3, 64, 48)).astype(np.uint16)
    slices = [
        image(
            plane,
            SOPInstanceUID=f"1.2.3.{index}",
            ImagePositionPatient=[0, 0, index],
            BitsStored=12,
            HighBit=11,
            RescaleSlope="1",
            RescaleIntercept="-1024",
        )
        for index, plane in enumerate(noise)
    ]
    plain = read_only_series(save_all(slices, tmp_path / "plain"))
    for dataset in slices:
        dataset.compress(syntax)
    packed = read_only_series(save_all(slices, tmp_path / "packed"))
    np.testing.assert_array_equal(packed.array, plain.array)
    np.testing.assert_array_equal(packed.affine, plain.affine)


def enhanced(positions: list[float]) -> Dataset:
    """An enhanced multi-frame CT whose pixels hold the frame's place."""
    pixels = np.stack([np.full((4, 3), round(position), np.int16) for position in positions])
    dataset = image(pixels, SOPClassUID=ENHANCED_CT, NumberOfFrames=len(positions))
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(dataset, keyword)
    plane, measures, scaling, shared = Dataset(), Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing, measures.SliceThickness = [1.5, 0.7], 2
    scaling.RescaleSlope, scaling.RescaleIntercept = 1, 100
    shared.PlaneOrientationSequence = Sequence([plane])
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PixelValueTransformationSequence = Sequence([scaling])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for position in positions:
        place, frame = Dataset(), Dataset()
        place.ImagePositionPatient = [0, 0, position]
        frame.PlanePositionSequence = Sequence([place])
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return dataset


def test_the_frames_of_an_enhanced_file_are_sorted_like_slices(tmp_path: Path) -> None:
    volume = read_dicom(saved(enhanced([6.0, 0.0, 4.0, 2.0]), tmp_path / "a"))
    assert volume.array[0, :, 0, 0].tolist() == [100, 102, 104, 106]
    assert volume.spacing_mm == pytest.approx((2.0, 1.5, 0.7))


def test_phases_that_share_a_place_are_not_mixed(tmp_path: Path) -> None:
    path = saved(enhanced([0.0, 2.0, 0.0, 2.0]), tmp_path / "a")
    assert reason_of(lambda: read_dicom(path)) == "duplicate_positions"


def moved(index: int, keyword: str, value: Any) -> Callable[[list[Dataset]], None]:
    return lambda slices: setattr(slices[index], keyword, value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda slices: slices.pop(4), "missing_slices"),
        (moved(4, "ImagePositionPatient", [0, 0, 6.0]), "duplicate_positions"),
        (moved(4, "ImagePositionPatient", [0, 0, 8.7]), "uneven_spacing"),
        (moved(4, "ImagePositionPatient", [3, 0, 8.0]), "shifted_slices"),
    ],
    ids=["gap", "duplicate", "uneven", "shifted"],
)
def test_a_broken_stack_is_refused(change: Callable[[list[Dataset]], Any], reason: str, tmp_path: Path) -> None:
    slices = axial_slices(9)
    change(slices)
    save_all(slices, tmp_path)
    assert reason_of(lambda: read_only_series(tmp_path)) == reason


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "bad_orientation"),
        ({"ImageOrientationPatient": [1, 0, 0, 0.5, 1, 0]}, "bad_orientation"),
        ({"PixelSpacing": [-1, 1]}, "bad_spacing"),
        ({"PixelSpacing": [0, 1]}, "bad_spacing"),
        ({"ImagePositionPatient": None}, "missing_geometry"),
        ({"RescaleSlope": "0", "RescaleIntercept": "0"}, "bad_scaling"),
        ({"RescaleSlope": "1e300", "RescaleIntercept": "0"}, "not_finite"),
        ({"Rows": 0}, "bad_dimensions"),
        ({"Rows": 4000}, "truncated"),
        ({"Rows": None}, "missing_attribute"),
        ({"NumberOfFrames": 2147483647}, "truncated"),
        ({"BitsStored": 12, "HighBit": 15}, "unsupported_bits"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "unsupported_photometric"),
    ],
    ids=lambda value: next(iter(value.items()), "") if isinstance(value, dict) else value,
)
def test_a_header_that_cannot_be_is_refused(attributes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    path = saved(image(np.ones((4, 3), np.int16), **attributes), tmp_path / "a")
    assert reason_of(lambda: read_dicom(path)) == reason


def test_too_many_voxels_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = saved(image(np.ones((4, 3), np.int16)), tmp_path / "a")
    assert reason_of(lambda: read_dicom(path, max_voxels=11)) == "too_large"


def test_a_file_that_changes_after_its_header_was_read_is_refused(tmp_path: Path) -> None:
    path = saved(image(np.ones((4, 3), np.int16)), tmp_path / "a")
    (series,) = find_series(tmp_path).series
    path.write_bytes(path.read_bytes() + b"\0")
    assert reason_of(lambda: read_series(series)) == "changed"


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda uid: uid.name)
def test_damaged_compressed_pixels_are_refused(syntax: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 4096, (64, 48)).astype(np.uint16)
    dataset = image(noise)
    dataset.compress(syntax)
    whole = saved(dataset, tmp_path / "a").read_bytes()
    for cut in (700, 60, 14):
        (tmp_path / "a").write_bytes(whole[:-cut])
        assert reason_of(lambda: read_dicom(tmp_path / "a")) in ("bad_pixels", "truncated")


def test_transfer_syntaxes_of_one_image_agree(real_data: Path) -> None:
    folder = real_data / "dicom-pydicom" / "test_files"
    expected = read_dicom(folder / "MR_small.dcm")
    names = ("RLE", "bigendian", "expb", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded")
    for name in names:
        volume = read_dicom(folder / f"MR_small_{name}.dcm")
        np.testing.assert_array_equal(volume.array, expected.array)
        np.testing.assert_array_equal(volume.affine, expected.affine)


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_jpeg_gdcm.dcm",
        "SC_rgb_jpeg_lossy_gdcm.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "SC_rgb_gdcm_KY.dcm",
        "SC_rgb_rle.dcm",
        "SC_rgb_jls_lossy_line.dcm",
        "SC_rgb_small_odd_big_endian.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
    ],
)
def test_further_transfer_syntaxes_decode_as_pydicom_decodes_them(name: str, real_data: Path, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(real_data / "dicom-pydicom" / "test_files" / name)
    expected = dataset.pixel_array
    dataset.SOPClassUID, dataset.Modality = FUNDUS, "OP"
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = "1.2.3"
    for keyword in ("ConversionType", "RescaleSlope", "RescaleIntercept"):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.save_as(tmp_path / "a")
    array = read_dicom(tmp_path / "a").array
    np.testing.assert_array_equal(array, np.moveaxis(expected, -1, 0) if expected.ndim == 3 else expected[None])


def test_jpeg_of_twelve_bits_is_refused_since_no_free_decoder_reads_it(real_data: Path, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(real_data / "dicom-pydicom" / "test_files" / "JPGExtended.dcm")
    dataset.SOPClassUID, dataset.Modality = FUNDUS, "OP"
    dataset.save_as(tmp_path / "a")
    assert reason_of(lambda: read_dicom(tmp_path / "a")) == "unsupported_transfer_syntax"


def test_real_ct_equals_another_library(real_data: Path) -> None:
    path = real_data / "dicom-pydicom" / "test_files" / "CT_small.dcm"
    volume = read_dicom(path)
    other = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    np.testing.assert_array_equal(volume.array[0], other[:, ::-1, ::-1])

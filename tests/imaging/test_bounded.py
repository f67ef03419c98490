import gzip
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from synthetic_dicom import axial_slices, image, save_all, saved

from medfl.errors import ConfigError, ImageReadError
from medfl.imaging.bounded import BoundedReader, ReadLimits
from medfl.imaging.dicom import read_series
from medfl.imaging.dicom_folder import find_series
from medfl.imaging.read import read_image

#: What each file of hostile/ must end in: a reason, or "volume" where pixels and their place are fine.
HOSTILE = {
    "dicom/bad_utf8.dcm": "volume",
    "dicom/bitflip_0.dcm": "unsupported_class",
    "dicom/bitflip_2.dcm": "unsupported_transfer_syntax",
    "dicom/bitflip_4.dcm": "unsupported_transfer_syntax",
    "dicom/bitflip_6.dcm": "unsupported_transfer_syntax",
    "dicom/bits_allocated_7.dcm": "unsupported_bits",
    "dicom/deflate_bomb_64MiB.dcm": "unsupported_transfer_syntax",
    "dicom/frames_2g.dcm": "truncated",
    "dicom/html_preamble.dcm": "volume",
    "dicom/missing_BitsAllocated.dcm": "missing_attribute",
    "dicom/missing_PatientID.dcm": "volume",
    "dicom/missing_PixelData.dcm": "missing_pixels",
    "dicom/missing_SOPInstanceUID.dcm": "missing_attribute",
    "dicom/missing_StudyInstanceUID.dcm": "missing_attribute",
    "dicom/mz_preamble.dcm": "volume",
    "dicom/nested_400.dcm": "nested_too_deep",
    "dicom/not_dicom.dcm": "unknown_format",
    "dicom/orientation_zero.dcm": "bad_orientation",
    "dicom/phi_everywhere.dcm": "burned_in_annotation",
    "dicom/pn_length_65534.dcm": "missing_pixels",
    "dicom/rows_0.dcm": "bad_dimensions",
    "dicom/same_uid_other_pixels.dcm": "volume",
    "dicom/spacing_negative.dcm": "bad_spacing",
    "dicom/text.dcm": "unknown_format",
    "dicom/truncated_200.dcm": "missing_attribute",
    "dicom/truncated_400.dcm": "missing_attribute",
    "nifti/affine_nan.nii.gz": "bad_affine",
    "nifti/bad_crc.nii.gz": "bad_gzip",
    "nifti/big_endian.nii.gz": "volume",
    "nifti/datatype_unknown.nii.gz": "unsupported_dtype",
    "nifti/dim_huge.nii.gz": "too_large",
    "nifti/dim_zero.nii.gz": "bad_dimensions",
    "nifti/empty.nii.gz": "empty",
    "nifti/four_d.nii.gz": "volume",
    "nifti/half_header.nii": "truncated",
    "nifti/label_float_fraction.nii.gz": "volume",
    "nifti/label_value_200.nii.gz": "volume",
    "nifti/nan_inf_voxels.nii.gz": "not_finite",
    "nifti/nifti2.nii.gz": "volume",
    "nifti/oblique.nii.gz": "volume",
    "nifti/pair.hdr": "missing_pair",
    "nifti/pixdim_nan.nii.gz": "volume",
    "nifti/slope_nan.nii.gz": "volume",
    "nifti/truncated.nii": "truncated",
    "nifti/two_d.nii.gz": "volume",
}


@pytest.fixture(scope="module")
def reader() -> Iterator[BoundedReader]:
    with BoundedReader() as opened:
        yield opened


def outcome(reader: BoundedReader, path: Path) -> str:
    try:
        volume = reader.read(path)
    except ImageReadError as error:
        return "named the file" if path.name in str(error) else error.reason
    return "volume" if volume.array.size else "no voxel"


def reading_processes() -> set[int]:
    """The children of this process that read files for it."""
    children = {
        int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()
    }
    return {pid for pid in children if b"bounded_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def zeros_gz(path: Path, header: bytes, n_bytes: int) -> Path:
    """A NIfTI file with megabytes of zeros on disk for gigabytes inflated."""
    block = 1 << 26
    member = gzip.compress(bytes(block), 1)
    path.write_bytes(gzip.compress(header) + member * (n_bytes // block))
    return path


def header_of(shape: tuple[int, int, int], offset: int = 352) -> bytes:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(shape)
    header.set_sform(np.eye(4), 1)
    header["vox_offset"], header["magic"] = offset, b"n+1"
    return bytes(header.binaryblock) + bytes(4)


def test_what_arrives_is_what_was_read(reader: BoundedReader, tmp_path: Path) -> None:
    nib.save(
        nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.diag([-2.0, 1, 1, 1])), tmp_path / "a.nii.gz"
    )
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(tmp_path / "b.png")
    saved(image(np.arange(12, dtype=np.int16).reshape(4, 3)), tmp_path / "c.dcm")
    for name in ("a.nii.gz", "b.png", "c.dcm"):
        ours, expected = reader.read(tmp_path / name), read_image(tmp_path / name)
        np.testing.assert_array_equal(ours.array, expected.array)
        np.testing.assert_array_equal(ours.affine, expected.affine)
        assert ours.array.dtype == expected.array.dtype
        assert ours.stored_axes == expected.stored_axes
        assert ours.array.flags.writeable


def test_a_series_is_found_and_read_through_the_child(reader: BoundedReader, tmp_path: Path) -> None:
    save_all(axial_slices(5), tmp_path)
    found = find_series(tmp_path, header_of=reader.header)
    assert found == find_series(tmp_path)
    np.testing.assert_array_equal(reader.read_series(found.series[0]).array, read_series(found.series[0]).array)


def test_hostile_files_end_in_a_volume_or_their_reason_in_two_gibibytes(real_data: Path) -> None:
    listed = {line.split(",")[0] for line in (real_data / "hostile" / "manifest.csv").read_text().splitlines()[1:]}
    with BoundedReader() as reader:
        assert {name: outcome(reader, real_data / "hostile" / name) for name in sorted(listed)} == HOSTILE
    # Kibibytes of the largest child that has ended.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2 * 2**20


def test_files_of_other_readers_tests_end_in_a_volume_or_a_reason(real_data: Path, reader: BoundedReader) -> None:
    outcomes = {
        path: outcome(reader, path)
        for name in ("dicom-pydicom", "dicom-highdicom", "nifti-nibabel")
        for path in sorted((real_data / name).rglob("*"))
        if path.is_file()
    }
    assert len(outcomes) > 200
    assert {"crashed", "timeout", "memory"}.isdisjoint(outcomes.values())
    assert 20 < sum(reason == "volume" for reason in outcomes.values()) < 80


def test_one_child_serves_many_files_and_a_dead_one_is_replaced(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), tmp_path / "a.nii")
    others = reading_processes()
    with BoundedReader() as reader:
        assert outcome(reader, tmp_path / "a.nii") == "volume"
        (first,) = reading_processes() - others
        assert outcome(reader, tmp_path / "missing") == "unreadable"
        assert outcome(reader, tmp_path / "a.nii") == "volume"
        assert reading_processes() - others == {first}
        os.kill(first, signal.SIGKILL)
        assert outcome(reader, tmp_path / "a.nii") == "crashed"
        assert outcome(reader, tmp_path / "a.nii") == "volume"
        assert first not in reading_processes()
    assert reading_processes() == others


def test_a_child_that_cannot_start_is_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), tmp_path / "a.nii")
    monkeypatch.setattr("medfl.imaging.bounded.sys.executable", "/bin/false")
    with BoundedReader() as reader, pytest.raises(ConfigError, match="must be able to start"):
        reader.read(tmp_path / "a.nii")


def test_the_child_finds_packages_where_this_process_was_told_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), tmp_path / "a.nii")
    (tmp_path / "nibabel.py").write_text("raise ImportError\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with BoundedReader() as reader, pytest.raises(ConfigError, match="must be able to start"):
        reader.read(tmp_path / "a.nii")


def test_a_child_that_does_not_answer_is_ended(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), tmp_path / "a.nii")
    others = reading_processes()
    with BoundedReader(ReadLimits(seconds=1)) as reader:
        assert outcome(reader, tmp_path / "a.nii") == "volume"
        os.kill((reading_processes() - others).pop(), signal.SIGSTOP)
        assert outcome(reader, tmp_path / "a.nii") == "timeout"
        assert outcome(reader, tmp_path / "a.nii") == "volume"


@pytest.mark.slow
def test_a_file_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    path = zeros_gz(tmp_path / "a.nii.gz", header_of((2, 2, 2), offset=2**31 - 128), 1 << 33)
    with BoundedReader(ReadLimits(seconds=1)) as reader:
        assert outcome(reader, path) == "timeout"


def test_a_file_that_takes_too_much_memory_is_given_up(tmp_path: Path) -> None:
    path = zeros_gz(tmp_path / "a.nii.gz", header_of((1024, 1024, 640)), 1 << 30)
    limits = ReadLimits(memory_bytes=600 * 2**20, max_voxels=2**31)
    with BoundedReader(limits) as reader:
        assert outcome(reader, path) == "memory"
        nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), tmp_path / "b.nii")
        assert outcome(reader, tmp_path / "b.nii") == "volume"


def test_pipes_and_folders_do_not_hold_the_reader_up(reader: BoundedReader, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.nii")
    assert outcome(reader, tmp_path / "a.nii") == "not_a_file"
    assert outcome(reader, tmp_path) == "not_a_file"
    assert outcome(reader, Path("/dev/zero")) == "not_a_file"


def test_strange_file_names_reach_the_child(reader: BoundedReader, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"J\xfcrgen\n\"'.nii")
    nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)).to_filename(tmp_path / "a.nii")
    (tmp_path / "a.nii").rename(path)
    assert outcome(reader, path) == "volume"


def test_the_reading_process_stays_small() -> None:
    script = (
        "import sys; sys.argv=['x','0','0','0'];"
        "import medfl.imaging.bounded_worker;"
        "print([name for name in ('torch', 'monai', 'flwr', 'pandas', 'sklearn') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert answer.stdout.strip() == "[]"

"""Seconds and megabytes of reading NIfTI files and DICOM series, beside SimpleITK with one and two threads.

Every round reads each case once with each reader, in an order that rotates; medians over the rounds are printed, with
the ratios of times from the same round. Where other programs keep the machine busy, the processor time is the more
telling one. Memory is measured in a process of its own for each reader: peak
resident size while one volume is read and held, minus the size before. `MEDFL_DATA` names the folder with the
hippocampus volumes; the CT series and the large NIfTI files are made up in a temporary folder.

    python benchmarks/read_volumes.py --rounds 7 --out read_volumes.json
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from medfl.imaging.dicom import read_series
from medfl.imaging.dicom_folder import find_series
from medfl.imaging.nifti import read_nifti, write_nifti
from medfl.imaging.volume import Volume

READERS = ("medfl", "sitk1", "sitk2")
CT_SHAPE = (64, 512, 512)
COMPRESSED_SLICES = 16


@dataclass(frozen=True)
class Case:
    """Something to read: NIfTI files one after another, or the folder of one DICOM series."""

    name: str
    paths: tuple[Path, ...]

    @property
    def is_dicom(self) -> bool:
        """Whether the path is the folder of a series."""
        return self.paths[0].is_dir()


def main() -> None:
    """Measure, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--memory-of", nargs=2, metavar=("READER", "PATH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        reader, path = arguments.memory_of
        print(peak_bytes(reader, Path(path)))
        return
    with tempfile.TemporaryDirectory() as folder:
        cases = [*hippocampus(), *made_up(Path(folder))]
        for case in cases:
            check_equal(case.paths[0])
        results = [measured(case, arguments.rounds) for case in cases]
    print_table(results)
    report = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "simpleitk": version("simpleitk"),
        "rounds": arguments.rounds,
        "cases": results,
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


def read(reader: str, path: Path) -> tuple[NDArray[Any], Any]:
    """Read one volume; a DICOM series from its folder, finding out by itself what is in it.

    Returns
    -------
    array : ndarray
        For SimpleITK a view, which costs it no copy.
    owner : object
        What must be kept for the array to stay valid.
    """
    if reader == "medfl":
        volume = read_series(find_series(path).series[0]) if path.is_dir() else read_nifti(path)
        return volume.array, volume
    itk: Any = sitk
    itk.ProcessObject.SetGlobalDefaultNumberOfThreads(int(reader.removeprefix("sitk")))
    if path.is_dir():
        series = itk.ImageSeriesReader()
        series.SetFileNames(series.GetGDCMSeriesFileNames(str(path)))
        image = series.Execute()
    else:
        image = itk.ReadImage(str(path))
    return itk.GetArrayViewFromImage(image), image


def check_equal(path: Path) -> None:
    """Stop unless both libraries read the same numbers; they may turn the axes differently."""
    (ours, _), (theirs, _keep) = read("medfl", path), read("sitk1", path)
    if not np.array_equal(np.sort(ours, axis=None), np.sort(theirs, axis=None)):
        raise SystemExit("The readers disagree about the values; the times cannot be compared.")


def measured(case: Case, rounds: int) -> dict[str, Any]:
    """Return the figures of one case."""
    wall: dict[str, list[float]] = {reader: [] for reader in READERS}
    processor: dict[str, list[float]] = {reader: [] for reader in READERS}
    for number in range(rounds):
        for turn in range(len(READERS)):
            reader = READERS[(number + turn) % len(READERS)]
            start, processor_start = time.perf_counter(), time.process_time()
            for path in case.paths:
                read(reader, path)
            wall[reader].append((time.perf_counter() - start) / len(case.paths))
            processor[reader].append((time.process_time() - processor_start) / len(case.paths))
    return {
        "name": case.name,
        "volumes": len(case.paths),
        "milliseconds": {reader: 1e3 * statistics.median(values) for reader, values in wall.items()},
        "processor_milliseconds": {reader: 1e3 * statistics.median(values) for reader, values in processor.items()},
        "ratio_to_sitk1": ratio(wall["medfl"], wall["sitk1"]),
        "ratio_to_sitk2": ratio(wall["medfl"], wall["sitk2"]),
        "processor_ratio_to_sitk1": ratio(processor["medfl"], processor["sitk1"]),
        "peak_megabytes": {reader: peak_megabytes(reader, case.paths[0]) for reader in READERS},
        "array_megabytes": read("medfl", case.paths[0])[0].nbytes / 1e6,
    }


def ratio(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Return the median of the rounds' ratios, with the smallest and the largest."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}


def peak_megabytes(reader: str, path: Path) -> float:
    """Measure in a fresh process."""
    command = [sys.executable, __file__, "--memory-of", reader, str(path)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1e6


def peak_bytes(reader: str, path: Path) -> int:
    """Return by how much reading one volume raises the peak resident size of this process."""
    syntax = dcmread(next(path.iterdir())).file_meta.TransferSyntaxUID if path.is_dir() else ExplicitVRLittleEndian
    with tempfile.TemporaryDirectory() as folder:  # loads the libraries
        read(reader, write_series(Path(folder), np.zeros((2, 64, 64), np.int16), syntax))
    before = _status_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # starts a new peak
    read(reader, path)
    return _status_bytes("VmHWM") - before


def _status_bytes(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def hippocampus() -> list[Case]:
    """Return the real volumes, where they are."""
    paths = tuple(sorted(Path(os.environ.get("MEDFL_DATA", "/nowhere"), "msd-hippocampus/images").glob("*.nii.gz")))
    if not paths:
        print("MEDFL_DATA does not name the hippocampus volumes; they are left out.", file=sys.stderr)
        return []
    return [Case("hippocampus .nii.gz", paths)]


def made_up(folder: Path) -> list[Case]:
    """Write a CT-like volume in every form and return the cases."""
    voxels = ct_like(CT_SHAPE)
    volume = Volume(voxels[None], np.diag([0.7, 0.7, 2.5, 1.0]), ((0, -1), (1, -1), (2, 1)))
    # Not ct.nii.gz: beside a ct.nii, SimpleITK takes the voxels of that one.
    write_nifti(volume, folder / "ct.nii")
    write_nifti(volume, folder / "packed.nii.gz")
    few = voxels[:COMPRESSED_SLICES]
    forms: list[tuple[str, NDArray[np.int16], str]] = [
        ("plain", voxels, ExplicitVRLittleEndian),
        ("JPEG-LS", few, JPEGLSLossless),
        ("JPEG 2000", few, JPEG2000Lossless),
        ("RLE", few, RLELossless),
    ]
    slices = f"{CT_SHAPE[0]}x512x512"
    return [
        Case(f"CT {slices} .nii", (folder / "ct.nii",)),
        Case(f"CT {slices} .nii.gz", (folder / "packed.nii.gz",)),
        *(
            Case(f"CT {len(array)}x512x512 DICOM {name}", (write_series(folder / name, array, syntax),))
            for name, array, syntax in forms
        ),
    ]


def ct_like(shape: tuple[int, int, int]) -> NDArray[np.int16]:
    """Return a smooth body with noise in Hounsfield units."""
    d, h, w = np.ogrid[: shape[0], : shape[1], : shape[2]]
    radius = ((h - shape[1] / 2) / (0.4 * shape[1])) ** 2 + ((w - shape[2] / 2) / (0.45 * shape[2])) ** 2
    body = np.where(radius < 1, 40.0 + 30 * np.sin(d / 9 + h / 31 + w / 23), -1000.0)
    noise = np.random.default_rng(0).normal(0, 12, shape) * (radius < 1)
    return np.clip(body + noise, -1024, 3071).astype(np.int16)


def write_series(folder: Path, voxels: NDArray[np.int16], syntax: str) -> Path:
    """Write a CT series with slices in a random order of names."""
    folder.mkdir(exist_ok=True)
    names = np.random.default_rng(1).permutation(len(voxels))
    for index, plane in enumerate(voxels):
        dataset = ct_slice(plane, index)
        if syntax != ExplicitVRLittleEndian:
            dataset.compress(syntax)
        dataset.save_as(folder / f"{names[index]:04d}.dcm", enforce_file_format=True)
    return folder


def ct_slice(plane: NDArray[np.int16], index: int) -> Dataset:
    """Return one CT image with the attributes a scanner writes that matter to a reader."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = f"1.2.826.0.1.3680043.9.1.{index}"
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(dataset.SOPInstanceUID)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.9.2", "1.2.826.0.1.3680043.9.3"
    dataset.FrameOfReferenceUID, dataset.PatientID, dataset.PatientName = "1.2.826.0.1.3680043.9.4", "P", "P"
    dataset.Modality, dataset.StudyDate, dataset.InstanceNumber = "CT", "20240101", index + 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Rows, dataset.Columns = plane.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.PixelSpacing, dataset.SliceThickness = [0.7, 0.7], 2.5
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [-180, -180, 2.5 * index]
    dataset.PixelData = (plane.astype(np.int32) + 1024).astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def print_table(results: list[dict[str, Any]]) -> None:
    """Print one line per case."""
    columns: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("case", lambda row: f"{row['name']:<34}"),
        *((f"{reader} ms", lambda row, r=reader: f"{row['milliseconds'][r]:9.2f}") for reader in READERS),
        *(
            (title, lambda row, k=key: "{median:.2f} ({min:.2f}-{max:.2f})".format(**row[k]))
            for title, key in (
                ("medfl/sitk1", "ratio_to_sitk1"),
                ("medfl/sitk2", "ratio_to_sitk2"),
                ("processor time medfl/sitk1", "processor_ratio_to_sitk1"),
            )
        ),
        *((f"{reader} MB", lambda row, r=reader: f"{row['peak_megabytes'][r]:9.1f}") for reader in READERS),
        ("array MB", lambda row: f"{row['array_megabytes']:8.1f}"),
    ]
    print(" | ".join(title for title, _ in columns))
    for row in results:
        print(" | ".join(cell(row) for _, cell in columns))


if __name__ == "__main__":
    main()

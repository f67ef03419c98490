"""DICOM files made up for the tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
CR = "1.2.840.10008.5.1.4.1.1.1"
FUNDUS = "1.2.840.10008.5.1.4.1.1.77.1.5.1"


def image(pixels: NDArray[Any], **attributes: Any) -> Dataset:
    """One image with every attribute that is needed; `attributes` replaces some, and None leaves one out."""
    rows, columns = (pixels.shape[-3:-1]) if attributes.get("SamplesPerPixel") == 3 else pixels.shape[-2:]
    values: dict[str, Any] = {
        "SOPClassUID": CT,
        "SOPInstanceUID": "1.2.3.4",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.1",
        "FrameOfReferenceUID": "1.2.3.9",
        "PatientID": "Doe-4711",
        "PatientName": "Doe^Jane",
        "PatientSex": "F",
        "PatientAge": "034Y",
        "StudyDate": "20240229",
        "Modality": "CT",
        "ManufacturerModelName": "Phantom 9",
        "Rows": rows,
        "Columns": columns,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": pixels.dtype.itemsize * 8,
        "BitsStored": pixels.dtype.itemsize * 8,
        "HighBit": pixels.dtype.itemsize * 8 - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelSpacing": [1, 1],
        "SliceThickness": 1,
        "ImagePositionPatient": [0, 0, 0],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        **attributes,
    }
    dataset = Dataset()
    for keyword, value in values.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = values["SOPClassUID"]
    dataset.file_meta.MediaStorageSOPInstanceUID = values["SOPInstanceUID"] or "1"
    return dataset


def saved(dataset: Dataset, path: Path) -> Path:
    """Write a data set as a DICOM file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def axial_slices(count: int, step_mm: float = 2.0, **attributes: Any) -> list[Dataset]:
    """Slices of 4 rows and 3 columns whose pixels all hold the slice's number from the feet upwards."""
    return [
        image(
            np.full((4, 3), index, np.int16),
            **{
                "SOPInstanceUID": f"1.2.3.4.{index}",
                "ImagePositionPatient": [0, 0, step_mm * index],
                "InstanceNumber": 1000 - 7 * index % 5,
                **attributes,
            },
        )
        for index in range(count)
    ]


def save_all(datasets: Sequence[Dataset], folder: Path) -> Path:
    """Write data sets under names whose order is not the slices' order."""
    for index, dataset in enumerate(datasets):
        saved(dataset, folder / f"{(index * 7) % 11:02d}_{index}.dcm")
    return folder

"""Made-up studies on disk, for tests and for a demonstration without data."""

from datetime import date, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medfl.data.manifest import Manifest, StudyRow, write_manifest
from medfl.data.partition import assign_splits
from medfl.data.phantom_anatomy import Anatomy, SiteEffect, at_visit, draw_anatomy, draw_site_effect, render
from medfl.errors import ConfigError
from medfl.imaging.nifti import write_nifti
from medfl.imaging.volume import Volume

DEFAULT_SIZE = {2: 64, 3: 32}
FINDINGS = ("normal", "lesion")
_FRACTIONS = (0.6, 0.2, 0.2)
_FIRST_VISIT = date(2020, 1, 1)
_SITE_STREAM = 1  # keeps the sites' random numbers apart from the subjects'


def make_phantoms(
    out: Path,
    *,
    dimensions: int = 3,
    subjects: int = 60,
    visits: int = 2,
    sites: int = 3,
    task: Literal["segmentation", "classification"] = "segmentation",
    seed: int = 0,
    fractions: tuple[float, float, float] = _FRACTIONS,
    size: int | None = None,
    site_strength: float = 1.0,
) -> Manifest:
    """Write phantom studies and their manifest.

    A subject keeps their anatomy over all visits and stays at one site; every site has its own brightness, contrast,
    bias field and noise. Subject number k looks the same however many subjects there are.

    Parameters
    ----------
    out : Path
        Folder to fill: ``manifest.csv``, ``images/`` and, for segmentation, ``labels/``.
    dimensions : int
        3 (NIfTI, 1 mm) or 2 (PNG).
    subjects, visits, sites : int
        How many; at least 1 each, and at least as many subjects as sites. Subjects are spread evenly.
    task : str
        ``"segmentation"``: masks with 0 background and structures 1 and 2, each missing in about 15 % of the
        subjects. ``"classification"``: class ``normal`` or ``lesion``, half of the subjects each.
    seed : int
        Seed of everything random, >= 0.
    fractions : tuple of three floats
        Shares of subjects in train, val and test; sum 1.
    size : int, optional
        Voxels along each axis, >= 16; default 32 in 3-D, 64 in 2-D.
    site_strength : float
        How much the sites differ; 0 is not at all, 1 is clearly visible.

    Returns
    -------
    Manifest
        With splits 60 / 20 / 20 by subject inside each site.

    Raises
    ------
    ConfigError
        If a setting is out of range.
    """
    size = _checked(dimensions, subjects, visits, sites, seed, size)
    (out / "images").mkdir(parents=True, exist_ok=True)
    if task == "segmentation":
        (out / "labels").mkdir(exist_ok=True)
    effects = [
        draw_site_effect(np.random.default_rng((seed, _SITE_STREAM, site)), dimensions, site_strength)
        for site in range(sites)
    ]
    rows: list[StudyRow] = []
    for subject in range(subjects):
        rng = np.random.default_rng((seed, 0, subject))
        has_finding = task == "classification" and (subject // sites) % 2 == 1
        anatomy = draw_anatomy(rng, dimensions, has_finding=has_finding)
        site = subject % sites
        person = _person(rng)
        for visit in range(visits):
            row = _row(subject, visit, site, person, dimensions, _target(task, has_finding))
            _write_study(out, row, anatomy, effects[site], (size,) * dimensions, rng)
            rows.append(row)
    manifest = assign_splits(Manifest(tuple(rows), out.resolve()), fractions, seed=seed, stratify=True)
    write_manifest(manifest, out / "manifest.csv")
    return manifest


def _checked(dimensions: int, subjects: int, visits: int, sites: int, seed: int, size: int | None) -> int:
    if dimensions not in DEFAULT_SIZE:
        raise ConfigError(f"dimensions must be 2 or 3, got {dimensions}.")
    size = DEFAULT_SIZE[dimensions] if size is None else size
    if min(visits, sites) < 1 or subjects < sites:
        raise ConfigError(f"visits and sites must be >= 1, subjects >= sites; got {visits}, {sites}, {subjects}.")
    if seed < 0 or size < 16:
        raise ConfigError(f"seed must be >= 0 and size >= 16, got {seed} and {size}.")
    return size


def _person(rng: np.random.Generator) -> tuple[str, int, date]:
    """Draw sex, age at the first visit in years, and the date of that visit."""
    return str(rng.choice(("F", "M"))), int(rng.integers(20, 90)), _FIRST_VISIT + timedelta(int(rng.integers(0, 365)))


def _target(task: str, has_finding: bool) -> str | None:
    return None if task == "segmentation" else FINDINGS[has_finding]


def _row(
    subject: int, visit: int, site: int, person: tuple[str, int, date], dimensions: int, label: str | None
) -> StudyRow:
    sex, age, first = person
    seen = first + timedelta(180 * visit)
    study = f"phantom-{subject + 1:04d}-{visit + 1}"
    suffix = "nii.gz" if dimensions == 3 else "png"
    return StudyRow(
        subject=f"phantom-{subject + 1:04d}",
        study=study,
        site=f"site-{site + 1}",
        image=f"images/{study}.{suffix}",
        target=f"labels/{study}.{suffix}" if label is None else label,
        visit_date=seen.isoformat(),
        sex=sex,
        age=str(age + (seen - first).days // 365),
        scanner=f"phantom scanner {site + 1}",
    )


def _write_study(
    out: Path,
    row: StudyRow,
    anatomy: Anatomy,
    effect: SiteEffect,
    shape: tuple[int, ...],
    rng: np.random.Generator,
) -> None:
    image, labels = render(at_visit(anatomy, rng), effect, shape, rng)
    highest = 1000 if len(shape) == 3 else 255
    _write(np.round(image * highest).astype(np.int16 if len(shape) == 3 else np.uint8), out / row.image)
    if row.has_mask:
        _write(labels, out / row.target)


def _write(array: NDArray[np.generic], path: Path) -> None:
    if array.ndim == 3:
        write_nifti(Volume(array[np.newaxis], np.eye(4)), path)
    else:
        Image.fromarray(array).save(path)

from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from medfl.data.manifest import Manifest, StudyRow, read_manifest
from medfl.data.phantoms import make_phantoms
from medfl.errors import ConfigError
from medfl.imaging.nifti import read_nifti


def pixels(manifest: Manifest, row: StudyRow) -> NDArray[np.float64]:
    with Image.open(manifest.image_path(row)) as image:
        return np.asarray(image, dtype=np.float64)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return make_phantoms(tmp_path_factory.mktemp("p"), dimensions=2, subjects=24, visits=3, sites=3, seed=1)


def test_volumes_hold_images_and_masks_of_the_same_grid(tmp_path: Path) -> None:
    manifest = make_phantoms(tmp_path, dimensions=3, subjects=6, visits=2, sites=2, size=20)
    assert read_manifest(tmp_path / "manifest.csv") == manifest
    assert len(manifest.rows) == 12
    seen: set[int] = set()
    for row in manifest.rows:
        image, labels = read_nifti(manifest.image_path(row)), read_nifti(manifest.target_path(row))
        assert image.spatial_shape == labels.spatial_shape == (20, 20, 20)
        assert image.array.std() > 0
        seen |= set(np.unique(labels.array).tolist())
    assert seen == {0, 1, 2}


def test_a_subject_stays_at_one_site_and_in_one_split(pictures: Manifest) -> None:
    homes = defaultdict(set)
    for row in pictures.rows:
        homes[row.subject].add((row.site, row.split, row.sex))
    assert len(homes) == 24
    assert all(len(home) == 1 for home in homes.values())
    for site in pictures.sites():
        assert {row.split for row in pictures.where(site=site).rows} == {"train", "val", "test"}


def test_visits_of_a_subject_look_more_alike_than_two_subjects_of_a_site(pictures: Manifest) -> None:
    rows = pictures.where(site="site-1").rows
    images = [pixels(pictures, row).ravel() for row in rows]
    alike = np.corrcoef(images)
    same = np.array([[a.subject == b.subject for b in rows] for a in rows])
    np.fill_diagonal(alike, np.nan)
    assert np.nanmin(alike[same]) > np.nanmedian(alike[~same])
    assert np.nanmean(alike[same]) > np.nanmean(alike[~same]) + 0.05
    assert np.nanmax(alike[same]) < 1.0


def test_structures_are_sometimes_absent_and_differ_in_brightness(pictures: Manifest) -> None:
    present = {1: 0, 2: 0}
    for row in pictures.rows:
        with Image.open(pictures.target_path(row)) as mask:
            labels = np.asarray(mask)
        image = pixels(pictures, row)
        for label in (1, 2):
            present[label] += bool(np.any(labels == label))
        if {1, 2} <= set(np.unique(labels).tolist()):
            assert image[labels == 1].mean() > image[labels == 2].mean() + 20
    assert all(0 < count < len(pictures.rows) for count in present.values())


def test_sites_differ_and_strength_zero_makes_them_alike(tmp_path: Path) -> None:
    def spread_of_tissue(strength: float) -> float:
        manifest = make_phantoms(
            tmp_path / str(strength), dimensions=2, subjects=30, visits=1, seed=3, site_strength=strength
        )
        tissue = [
            np.mean([np.median(image[image > 50]) for image in map(partial(pixels, manifest), rows)])
            for rows in (manifest.where(site=site).rows for site in manifest.sites())
        ]
        return float(np.ptp(tissue))

    assert spread_of_tissue(1.0) > 3 * spread_of_tissue(0.0)


def test_lesions_are_visible_in_half_of_the_subjects(tmp_path: Path) -> None:
    manifest = make_phantoms(tmp_path, dimensions=2, subjects=24, visits=1, task="classification", seed=2)
    assert sorted({row.target for row in manifest.rows}) == ["lesion", "normal"]
    assert sum(row.target == "lesion" for row in manifest.rows) == 12
    assert not (tmp_path / "labels").exists()
    for site in manifest.sites():
        assert len({row.target for row in manifest.where(site=site).rows}) == 2


def test_the_same_seed_writes_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    def content(name: str, seed: int) -> list[bytes]:
        make_phantoms(tmp_path / name, dimensions=2, subjects=3, visits=2, sites=1, seed=seed, size=24)
        return [path.read_bytes() for path in sorted((tmp_path / name).rglob("*.*"))]

    assert content("a", 5) == content("b", 5)
    assert content("c", 6) != content("b", 5)


def test_a_subject_looks_the_same_however_many_there_are(tmp_path: Path) -> None:
    few = make_phantoms(tmp_path / "few", dimensions=2, subjects=3, visits=1, size=24)
    many = make_phantoms(tmp_path / "many", dimensions=2, subjects=9, visits=1, size=24)
    assert few.image_path(few.rows[2]).read_bytes() == many.image_path(many.rows[2]).read_bytes()


@pytest.mark.parametrize(
    "settings", [{"dimensions": 4}, {"subjects": 2}, {"visits": 0}, {"sites": 0}, {"seed": -1}, {"size": 8}]
)
def test_settings_out_of_range_are_refused(tmp_path: Path, settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        make_phantoms(tmp_path / "x", **settings)
    assert not (tmp_path / "x").exists()

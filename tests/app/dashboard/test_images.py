from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from app.dashboard.images import NoImages, find_images, load_case, sizes_of, untouched
from app.dashboard.reading import read_cases
from dashboard.run_folders import classification_run, entry, segmentation_run

MASKS = arrays.arrays(np.uint8, (4, 5, 6), elements=st.integers(0, 2))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return segmentation_run(tmp_path_factory.mktemp("runs") / "tiny", cases=2)


def test_the_settings_of_a_run_lead_to_every_image_and_mask(run: Path) -> None:
    index = find_images(entry(run), None)
    assert set(index) == {"north-s0", "north-s1", "south-s0", "south-s1"}
    assert all(Path(image).exists() and Path(mask).exists() for image, mask in index.values())


def test_the_sites_own_manifest_comes_first_and_a_broken_one_is_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("subject,study,site,image,target,split\np,s,north,x.nii.gz,,\n")
    assert find_images(entry(run), tmp_path) == {"s": (str(tmp_path.resolve() / "x.nii.gz"), "")}
    (tmp_path / "manifest.csv").write_text("nonsense")
    with pytest.raises(NoImages) as caught:
        find_images(entry(run), tmp_path)
    assert caught.value.reason == "manifest"


def test_settings_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    with pytest.raises(NoImages) as caught:
        find_images(entry(classification_run(tmp_path / "xray", cases=3)), None)
    assert caught.value.reason == "settings"


def test_sizes_are_milliliters_of_the_files_own_voxels(run: Path) -> None:
    table = read_cases(entry(run))
    images = load_case(entry(run), table.cases[0], find_images(entry(run), None), [1, 2])
    assert images is not None
    first = images.sizes[0]
    voxel = 1.0 * 2.0 * 3.0 / 1000
    assert first.reference == pytest.approx(4 * 5 * 4 * voxel)
    assert first.model == first.reference
    assert first.missed == first.false == pytest.approx(4 * 5 * 1 * voxel)
    assert (first.missed_regions, first.false_regions) == (0, 0)


@given(MASKS, MASKS)
def test_what_is_missed_and_what_is_false_explain_the_difference(reference: np.ndarray, model: np.ndarray) -> None:  # type: ignore[type-arg]
    sizes = sizes_of(1, reference, model, 0.5)
    assert None not in (sizes.reference, sizes.model, sizes.missed, sizes.false)
    assert sizes.reference - sizes.missed == pytest.approx(sizes.model - sizes.false)  # type: ignore[operator]


def test_without_one_mask_nothing_is_compared() -> None:
    sizes = sizes_of(1, None, np.ones((2, 2), np.uint8), 1.0)
    assert (sizes.reference, sizes.model, sizes.missed, sizes.false_regions) == (None, 4.0, None, None)


def test_regions_count_as_whole_only_where_the_other_mask_does_not_touch() -> None:
    parts = np.zeros((3, 9), np.bool_)
    parts[1, 0:2] = parts[1, 4:6] = parts[0, 8] = True
    other = np.zeros_like(parts)
    assert untouched(parts, other) == 3
    other[1, 1] = True
    assert untouched(parts, other) == 2
    assert untouched(other, parts) == 0

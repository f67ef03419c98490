import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from medfl.config.settings import Config
from medfl.errors import DataError, RunFolderError
from medfl.imaging.read import read_image
from pipelines.predict import predict
from pipelines.simulate import Run, simulate

MakeConfig = Callable[..., Config]


@pytest.fixture(scope="module")
def volumes(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = make_config("training.rounds=1", "evaluation.every=0", dimensions=3)
    return simulate(config, tmp_path_factory.mktemp("volumes") / "run")


@pytest.fixture(scope="module")
def pictures(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return simulate(make_config("training.rounds=1", "evaluation.every=0"), tmp_path_factory.mktemp("pictures") / "run")


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def asymmetric(path: Path, axes: str) -> nibabel.Nifti1Image:
    """Write a volume whose bright corner tells its orientation, stored in the given axes."""
    voxels = np.zeros((20, 18, 14), np.float32)
    voxels[2:8, 3:7, 2:5] = 500
    affine = np.diag([1.0, 1.5, 2.0, 1.0])
    affine[:3, 3] = (-10, 20, 5)
    image = nibabel.Nifti1Image(voxels, affine)
    wanted = nibabel.orientations.axcodes2ornt(tuple(axes))
    turned = image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), wanted))
    nibabel.save(turned, path)
    return turned


def test_masks_have_the_shape_the_place_and_the_voxels_of_their_images(volumes: Run, tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    studies.mkdir()
    images = {axes: asymmetric(studies / f"{axes}.nii.gz", axes) for axes in ("RAS", "LPS", "SLA")}
    done = predict(volumes.folder, studies, tmp_path / "out")
    assert (done.done, done.refused) == (3, ())
    turned = {}
    for axes, image in images.items():
        mask = nibabel.load(tmp_path / "out" / f"{axes}.nii.gz")
        assert mask.shape == image.shape
        np.testing.assert_allclose(mask.affine, image.affine)
        turned[axes] = np.asarray(nibabel.as_closest_canonical(mask).dataobj)
    assert len(np.unique(turned["RAS"])) > 1  # an empty mask would prove nothing
    np.testing.assert_array_equal(turned["RAS"], turned["LPS"])
    np.testing.assert_array_equal(turned["RAS"], turned["SLA"])
    rows = table(done.table)
    assert {row["study"] for row in rows} == set(images)
    spacing = float(np.prod(images["RAS"].header.get_zooms()))
    for row in rows:
        count = int((turned[row["study"]] == 1).sum())
        assert float(row["volume_ml/a"]) == pytest.approx(count * spacing / 1000, rel=1e-4)


def test_one_broken_file_does_not_stop_the_others(pictures: Run, tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    studies.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 30), np.uint8)
    for name in ("a", "c"):
        Image.fromarray(pixels).save(studies / f"{name}.png")
    (studies / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (studies / "empty.nii.gz").write_bytes(b"")
    (studies / "notes.txt").write_text("not an image")
    seen: list[tuple[int, int]] = []
    done = predict(pictures.folder, studies, tmp_path / "out", progress=lambda n, total: seen.append((n, total)))
    assert done.done == 2
    assert [name for name, _ in done.refused] == ["b", "empty"]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [row["study"] for row in table(done.table)] == ["a", "c"]
    assert read_image(tmp_path / "out" / "a.png").spatial_shape[::-1] == (30, 40)


def test_files_of_one_name_get_predictions_of_their_own(pictures: Run, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 20), np.uint8)
    for place in ("north/x.png", "south/x.png", "x.jpg", "x.png", "north_x.png"):
        path = tmp_path / "studies" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    done = predict(pictures.folder, tmp_path / "studies", tmp_path / "out")
    assert done.done == 5
    assert len({row["prediction"] for row in table(done.table)}) == 5
    assert len(list((tmp_path / "out").glob("*.png"))) == 5


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 50), (3, 2)])
def test_small_pictures_are_predicted_too(pictures: Run, tmp_path: Path, size: tuple[int, int]) -> None:
    Image.fromarray(np.full(size, 9, np.uint8)).save(tmp_path / "small.png")
    done = predict(pictures.folder, tmp_path / "small.png", tmp_path / "out")
    assert (done.done, done.refused) == (1, ())
    assert read_image(tmp_path / "out" / "small.png").spatial_shape == size


def test_images_of_another_kind_are_refused_with_the_reason(pictures: Run, tmp_path: Path) -> None:
    asymmetric(tmp_path / "volume.nii.gz", "RAS")
    done = predict(pictures.folder, tmp_path / "volume.nii.gz", tmp_path / "out")
    assert done.done == 0
    assert "2 dimensions" in done.refused[0][1]


def test_without_studies_or_without_a_model_it_says_so(pictures: Run, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing is there"):
        predict(pictures.folder, tmp_path / "none", tmp_path / "out")
    with pytest.raises(DataError, match="at least one image"):
        predict(pictures.folder, tmp_path, tmp_path / "out")
    with pytest.raises(RunFolderError):
        predict(tmp_path, tmp_path, tmp_path / "out")
    copied = tmp_path / "run"
    shutil.copytree(pictures.folder, copied)
    (copied / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(RunFolderError, match="model"):
        predict(copied, tmp_path, tmp_path / "out")

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from medfl.data.dataset import PreparedStudy, prepare_all, prepare_study
from medfl.data.manifest import Manifest
from medfl.data.phantoms import make_phantoms
from medfl.data.preparation import Preparation
from medfl.errors import ImageReadError

MASKS = Preparation(3, 1, None, None, "zscore", mask_values={1: 1, 2: 2})
LABELS = Preparation(2, 1, (20, 24), None, "unit", label_values={"normal": 0, "lesion": 1})


@pytest.fixture
def volumes(tmp_path: Path) -> Manifest:
    return make_phantoms(tmp_path / "volumes", dimensions=3, subjects=4, visits=1, sites=2, size=16)


@pytest.fixture
def pictures(tmp_path: Path) -> Manifest:
    return make_phantoms(tmp_path / "pictures", dimensions=2, subjects=4, visits=1, sites=2, task="classification")


class Halves(nn.Module):
    """An encoder that counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0]))
        self.asked = 0

    def forward(self, image: Tensor) -> Tensor:
        self.asked += len(image)
        assert not self.training
        return image.flatten(1)[:, :3] * self.weight


def assert_equal(left: list[PreparedStudy], right: list[PreparedStudy]) -> None:
    assert [study.row for study in left] == [study.row for study in right]
    for a, b in zip(left, right, strict=True):
        assert torch.equal(a.image, b.image)
        assert torch.equal(a.target, b.target)
        assert (a.target.dtype, a.spacing_mm) == (b.target.dtype, b.spacing_mm)


def test_studies_come_in_the_order_of_the_manifest(volumes: Manifest) -> None:
    seen: list[tuple[int, int]] = []
    studies, refusals = prepare_all(volumes, MASKS, progress=lambda done, total: seen.append((done, total)))
    assert [study.row for study in studies] == list(volumes.rows)
    assert refusals == []
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for study in studies:
        assert study.image.shape == (1, 16, 16, 16)
        assert study.target.shape == (16, 16, 16)
        assert study.spacing_mm == (1.0, 1.0, 1.0)


def test_labels_are_classes_and_spacing_follows_the_size(pictures: Manifest) -> None:
    studies, _ = prepare_all(pictures, LABELS)
    assert [int(study.target) for study in studies] == [row.target == "lesion" for row in pictures.rows]
    assert studies[0].image.shape == (1, 20, 24)
    assert studies[0].spacing_mm == pytest.approx((64 / 20, 64 / 24))


@pytest.mark.parametrize("kind", ["volumes", "pictures"])
def test_the_cache_gives_back_what_was_prepared(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest: Manifest = request.getfixturevalue(kind)
    preparation = MASKS if kind == "volumes" else LABELS
    first, _ = prepare_all(manifest, preparation, cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1
    monkeypatch.setattr("medfl.data.dataset.read_image", pytest.fail)
    again, _ = prepare_all(manifest, preparation, cache=tmp_path / "cache")
    assert_equal(first, again)


def test_the_cache_notices_another_file_another_preparation_and_another_manifest(
    volumes: Manifest, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    prepare_all(volumes, MASKS, cache=cache)
    prepare_all(volumes, replace(MASKS, intensity="unit"), cache=cache)
    prepare_all(replace(volumes, rows=volumes.rows[:3]), MASKS, cache=cache)
    assert len(list(cache.iterdir())) == 3
    first, second = (volumes.image_path(row) for row in volumes.rows[:2])
    first.write_bytes(second.read_bytes())
    studies, _ = prepare_all(volumes, MASKS, cache=cache)
    assert torch.equal(studies[0].image, studies[1].image)


@pytest.mark.parametrize("content", [b"", b"broken" * 20])
def test_a_broken_cache_is_made_anew(volumes: Manifest, tmp_path: Path, content: bytes) -> None:
    first, _ = prepare_all(volumes, MASKS, cache=tmp_path / "cache")
    (path,) = (tmp_path / "cache").iterdir()
    path.write_bytes(content)
    again, _ = prepare_all(volumes, MASKS, cache=tmp_path / "cache")
    assert_equal(first, again)
    assert path.read_bytes() != content


def test_a_bad_study_is_left_out_with_its_reason_and_remembered(volumes: Manifest, tmp_path: Path) -> None:
    volumes.image_path(volumes.rows[1]).write_bytes(b"broken")
    volumes.target_path(volumes.rows[2]).unlink()
    for _ in range(2):
        studies, refusals = prepare_all(volumes, MASKS, cache=tmp_path / "cache")
        assert [study.row.study for study in studies] == [volumes.rows[0].study, volumes.rows[3].study]
        assert [refusal.study for refusal in refusals] == [volumes.rows[1].study, volumes.rows[2].study]
        assert all(refusal.reason and refusal.detail and str(tmp_path) not in refusal.detail for refusal in refusals)


def test_a_mask_of_another_shape_is_refused(volumes: Manifest, tmp_path: Path) -> None:
    other = make_phantoms(tmp_path / "other", dimensions=3, subjects=1, visits=1, sites=1, size=20)
    volumes.target_path(volumes.rows[0]).write_bytes(other.target_path(other.rows[0]).read_bytes())
    with pytest.raises(ImageReadError) as caught:
        prepare_study(volumes.rows[0], volumes, MASKS)
    assert caught.value.reason == "mask_shape"


def test_frozen_features_take_the_place_of_images_once(pictures: Manifest, tmp_path: Path) -> None:
    encoder = Halves()
    plain, _ = prepare_all(pictures, LABELS)
    first, _ = prepare_all(pictures, LABELS, encoder=encoder, cache=tmp_path)
    assert encoder.asked == 4
    for study, image in zip(first, plain, strict=True):
        torch.testing.assert_close(study.image, image.image.flatten()[:3] * 2)
    again, _ = prepare_all(pictures, LABELS, encoder=encoder, cache=tmp_path)
    assert encoder.asked == 4
    assert_equal(first, again)
    with torch.no_grad():
        encoder.weight.fill_(3.0)
    other, _ = prepare_all(pictures, LABELS, encoder=encoder, cache=tmp_path)
    assert not torch.equal(other[0].image, first[0].image)


def test_features_come_even_when_the_last_study_is_bad(pictures: Manifest) -> None:
    pictures.image_path(pictures.rows[-1]).write_bytes(b"broken")
    studies, refusals = prepare_all(pictures, LABELS, encoder=Halves())
    assert [study.image.shape for study in studies] == [(3,)] * 3
    assert len(refusals) == 1


def test_no_rows_are_no_studies(volumes: Manifest, tmp_path: Path) -> None:
    assert prepare_all(replace(volumes, rows=()), MASKS, cache=tmp_path / "cache") == ([], [])

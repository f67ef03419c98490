import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medfl.errors import DataError, ImageReadError
from medfl.imaging.picture import read_picture, write_picture
from medfl.imaging.volume import Volume

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3)).astype(np.uint8)


def reason_of(path: Path, **options: int) -> str:
    with pytest.raises(ImageReadError) as caught:
        read_picture(path, **options)
    assert path.name not in str(caught.value)
    return caught.value.reason


def png_announcing(width: int, height: int) -> bytes:
    """A small PNG file whose header announces a size it does not hold."""
    content = io.BytesIO()
    Image.fromarray(RGB).save(content, format="PNG")
    whole = bytearray(content.getvalue())
    whole[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    whole[29:33] = zlib.crc32(whole[12:29]).to_bytes(4, "big")
    return bytes(whole)


@pytest.mark.parametrize(
    "array",
    [RGB, RGB[..., 0], RGB[..., 0].astype(np.uint16) * 257],
    ids=["rgb", "gray", "gray16"],
)
def test_a_png_keeps_its_pixels_rows_and_columns(array: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(array).save(tmp_path / "a.png")
    volume = read_picture(tmp_path / "a.png")
    expected = np.moveaxis(array, -1, 0) if array.ndim == 3 else array[None]
    np.testing.assert_array_equal(volume.array, expected)
    assert volume.array.dtype == array.dtype
    assert volume.array.flags.c_contiguous
    write_picture(volume, tmp_path / "b.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "b.png").array, expected)


def test_a_mask_of_booleans_is_written(tmp_path: Path) -> None:
    mask = RGB[None, ..., 0] > 128
    write_picture(Volume(mask, np.eye(4)), tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png").array, mask)


def test_palette_and_transparency_become_plain_channels(tmp_path: Path) -> None:
    Image.fromarray(RGB).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(RGB).convert("RGBA").save(tmp_path / "rgba.png")
    Image.fromarray(RGB).convert("LA").save(tmp_path / "la.png")
    Image.fromarray(RGB).convert("1").save(tmp_path / "one.png")
    assert read_picture(tmp_path / "palette.png").array.shape == (3, 5, 7)
    np.testing.assert_array_equal(read_picture(tmp_path / "rgba.png").array, np.moveaxis(RGB, -1, 0))
    assert read_picture(tmp_path / "la.png").array.shape == (1, 5, 7)
    assert set(np.unique(read_picture(tmp_path / "one.png").array)) <= {0, 255}


def test_the_orientation_tag_is_ignored_so_that_masks_still_fit(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif)
    assert read_picture(tmp_path / "a.jpg").array.shape == (3, 5, 7)


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert read_picture(tmp_path / "a.jpg").array.shape == (3, 5, 7)


@pytest.mark.parametrize("size", [(100_000, 100_000), (60_000, 2_000), (8_193, 8_192)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(size: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_announcing(*size))
    assert reason_of(tmp_path / "a.png") == "too_large"


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_picture_cut_anywhere_is_refused(ending: str, tmp_path: Path) -> None:
    noise = RNG.integers(0, 256, (40, 40)).astype(np.uint8)
    path = tmp_path / f"a.{ending}"
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    for keep in (0, 1, 10, 30, len(whole) // 2, len(whole) - 20):
        path.write_bytes(whole[:keep])
        assert reason_of(path) in ("empty", "not_a_picture", "truncated")


def test_other_formats_colors_and_paths_are_refused(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.gif")
    assert reason_of(tmp_path / "a.gif") == "not_a_picture"
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "a.jpg")
    assert reason_of(tmp_path / "a.jpg") == "unsupported_photometric"
    assert reason_of(tmp_path) == "not_a_file"
    assert reason_of(tmp_path / "Doe_Jane.png") == "unreadable"


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("a.jpg", RGB[None, ..., 0]),
        ("a.png", RGB[None, ..., 0].astype(np.float32)),
        ("a.png", RGB[:2, ..., 0].reshape(2, 7, 1)),
        ("a.png", np.zeros((3, 2, 2), np.uint16)),
    ],
    ids=["jpeg", "float", "channels", "color16"],
)
def test_what_a_png_cannot_hold_is_not_written(name: str, array: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        write_picture(Volume(array, np.eye(4)), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_real_pictures_read(real_data: Path) -> None:
    for pattern in ("kermany-cxr/**/*.jpeg", "kermany-lungs/**/*.png", "lgg-mri-small-96/**/*.png"):
        path = next(iter(sorted(real_data.glob(pattern))))
        expected = np.asarray(Image.open(path))
        array = read_picture(path).array
        np.testing.assert_array_equal(array, np.moveaxis(expected, -1, 0) if expected.ndim == 3 else expected[None])

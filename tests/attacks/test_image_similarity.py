import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfl.attacks.image_similarity import psnr, ssim
from medfl.errors import ShapeError

SHAPES = st.sampled_from([(24, 30), (5, 9), (12, 13, 14), (16, 16)])
SEEDS = st.integers(0, 10_000)


@given(SHAPES, SEEDS)
def test_an_image_is_wholly_similar_to_itself(shape: tuple[int, ...], seed: int) -> None:
    image = np.random.default_rng(seed).random(shape)
    assert ssim(image, image, 1.0) == pytest.approx(1.0)
    assert psnr(image, image, 1.0) == float("inf")


@given(SHAPES, SEEDS)
def test_similarity_is_symmetric_bounded_and_blind_to_mirrors(shape: tuple[int, ...], seed: int) -> None:
    a, b = np.random.default_rng(seed).random((2, *shape))
    assert ssim(a, b, 1.0) == pytest.approx(ssim(b, a, 1.0))
    assert ssim(np.flip(a), np.flip(b), 1.0) == pytest.approx(ssim(a, b, 1.0))
    assert -1 <= ssim(a, b, 1.0) < 0.9
    assert psnr(a, b, 1.0) == pytest.approx(psnr(b, a, 1.0))


@given(SHAPES, SEEDS, st.floats(0.01, 4000))
def test_the_unit_of_intensity_does_not_matter(shape: tuple[int, ...], seed: int, unit: float) -> None:
    a, b = np.random.default_rng(seed).random((2, *shape))
    assert ssim(unit * a, unit * b, unit) == pytest.approx(ssim(a, b, 1.0))
    assert psnr(unit * a, unit * b, unit) == pytest.approx(psnr(a, b, 1.0))


@given(st.floats(0, 1), st.floats(0, 1))
def test_constant_images_differ_in_luminance_alone(a: float, b: float) -> None:
    expected = (2 * a * b + 0.01**2) / (a**2 + b**2 + 0.01**2)
    assert ssim(np.full((24, 24), a), np.full((24, 24), b), 1.0) == pytest.approx(expected, abs=1e-9)


def test_one_window_follows_the_published_formula() -> None:
    a, b = np.random.default_rng(0).random((2, 22, 22))
    offsets = np.arange(11) - 5
    one = np.exp(-(offsets**2) / (2 * 1.5**2))
    weights = np.outer(one, one) / one.sum() ** 2
    total = []
    for row in range(12):
        for column in range(12):
            p, q = (image[row : row + 11, column : column + 11] for image in (a, b))
            mp, mq = (weights * p).sum(), (weights * q).sum()
            vp, vq = (weights * (p - mp) ** 2).sum(), (weights * (q - mq) ** 2).sum()
            covariance = (weights * (p - mp) * (q - mq)).sum()
            total.append((2 * mp * mq + 1e-4) * (2 * covariance + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4)))
    assert ssim(a, b, 1.0) == pytest.approx(np.mean(total))


def test_a_volume_of_equal_slices_scores_as_its_slice() -> None:
    a, b = np.random.default_rng(1).random((2, 24, 26))
    assert ssim(np.stack([a] * 24), np.stack([b] * 24), 1.0) == pytest.approx(ssim(a, b, 1.0))


def test_more_noise_means_less_similarity() -> None:
    rng = np.random.default_rng(2)
    image, noise = np.linspace(0, 1, 32 * 32).reshape(32, 32), rng.standard_normal((32, 32))
    scores = [ssim(image, image + size * noise, 1.0) for size in (0.01, 0.05, 0.2, 1.0)]
    assert scores == sorted(scores, reverse=True)
    assert psnr(image, image + 0.1, 1.0) == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("a", "b", "size"), [((8, 8), (8, 9), 1.0), ((8,), (8,), 1.0), ((8, 2), (8, 2), 1.0), ((8, 8), (8, 8), 0.0)]
)
def test_images_that_do_not_fit_are_refused(a: tuple[int, ...], b: tuple[int, ...], size: float) -> None:
    for measure in (psnr, ssim):
        with pytest.raises(ShapeError):
            measure(np.zeros(a), np.zeros(b), size)


def test_images_with_missing_values_are_refused() -> None:
    with pytest.raises(ShapeError, match="finite"):
        ssim(np.full((8, 8), np.nan), np.zeros((8, 8)), 1.0)

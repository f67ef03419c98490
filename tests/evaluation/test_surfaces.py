import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice
from monai.metrics.surface_distance import compute_average_surface_distance
from scipy import ndimage

from medfl.evaluation.surfaces import surface_scores, surface_voxels


def masks(seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(generator.normal(size=shape), 1.5)
    other = field + 0.5 * field.std() * ndimage.gaussian_filter(generator.normal(size=shape), 1.0)
    first, second = field > np.quantile(field, 0.7), other > np.quantile(other, 0.75)
    return first, second


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([(9, 11, 10), (1, 8, 8), (24, 20), (7, 1, 1)]))
def test_surfaces_are_what_erosion_removes(seed: int, shape: tuple[int, ...]) -> None:
    for mask in masks(seed, shape):
        assert (surface_voxels(mask) == (mask & ~ndimage.binary_erosion(mask))).all()


@pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")
@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from([((12, 14, 13), (1.0, 1.0, 1.0)), ((10, 12, 11), (3.0, 0.7, 1.3)), ((30, 26), (0.5, 2.0))]),
)
def test_scores_equal_monai(seed: int, geometry: tuple[tuple[int, ...], tuple[float, ...]]) -> None:
    shape, spacing = geometry
    first, second = masks(seed, shape)
    ours = surface_scores(first, second, spacing_mm=spacing, tolerance_mm=1.1)
    one_hot = [torch.from_numpy(np.stack([~mask, mask])[None].astype(np.float32)) for mask in (first, second)]
    hd95 = compute_hausdorff_distance(*one_hot, percentile=95, spacing=list(spacing))
    msd = compute_average_surface_distance(*one_hot, symmetric=True, spacing=list(spacing))
    nsd = compute_surface_dice(*one_hot, class_thresholds=[1.1], spacing=list(spacing))
    # MONAI computes in float32; the rank inside its quantile costs the most digits
    assert ours.hd95_mm == pytest.approx(float(hd95), rel=1e-4)
    assert ours.msd_mm == pytest.approx(float(msd), rel=1e-5)
    assert ours.nsd == pytest.approx(float(nsd), rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_scores_equal_brute_force(seed: int) -> None:
    first, second = masks(seed, (8, 9, 7))
    spacing = np.array([2.0, 0.5, 1.0])
    points = [np.argwhere(mask & ~ndimage.binary_erosion(mask)) * spacing for mask in (first, second)]
    distance = np.sqrt(((points[0][:, None] - points[1][None]) ** 2).sum(axis=-1))
    there, back = distance.min(axis=1), distance.min(axis=0)
    ours = surface_scores(first, second, spacing_mm=spacing.tolist(), tolerance_mm=0.75)
    both = np.concatenate([there, back])
    assert ours.hd95_mm == pytest.approx(max(np.quantile(there, 0.95), np.quantile(back, 0.95)), abs=1e-9)
    assert ours.msd_mm == pytest.approx(both.mean(), abs=1e-9)
    assert ours.nsd == pytest.approx((both <= 0.75).mean(), abs=1e-9)


def test_spacing_moves_distances_in_millimetres() -> None:
    first, second = np.zeros((5, 5, 9), bool), np.zeros((5, 5, 9), bool)
    first[2, 2, 1], second[2, 2, 4] = True, True
    assert surface_scores(first, second, spacing_mm=(1, 1, 2.0), tolerance_mm=1.0) == (6.0, 6.0, 0.0)
    assert surface_scores(first, first, spacing_mm=(1, 1, 2.0), tolerance_mm=0.0) == (0.0, 0.0, 1.0)


def test_distances_survive_a_process_that_flushes_denormals() -> None:
    code = (
        "import numpy as np, torch; torch.set_flush_denormal(True); "
        "from medfl.evaluation.surfaces import surface_scores; a = np.ones((30, 40, 30), bool); b = a.copy(); "
        "b[:2] = False; print(surface_scores(a, b, spacing_mm=(1, 1, 1), tolerance_mm=1.0).hd95_mm)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0
    assert float(finished.stdout) == 2.0

import numpy as np
import pytest

from app.dashboard.viewer.windows import (
    CT_WINDOWS,
    Window,
    automatic_window,
    centred,
    full_range,
    guessed_modality,
    windows_for,
)


def test_a_window_needs_a_width() -> None:
    with pytest.raises(ValueError, match="low < high"):
        Window("none", 5.0, 5.0)


def test_level_and_width_become_low_and_high() -> None:
    assert centred("brain", 40, 80) == Window("brain", 0.0, 80.0)


def test_ct_presets_are_the_usual_ones() -> None:
    assert {(one.name, (one.low + one.high) / 2, one.high - one.low) for one in CT_WINDOWS} == {
        ("brain", 40, 80),
        ("lung", -600, 1500),
        ("soft_tissue", 40, 400),
        ("bone", 400, 1800),
    }


def test_the_automatic_window_leaves_the_background_out() -> None:
    values = np.zeros(10_000, np.float32)
    values[:2000] = np.linspace(500, 1500, 2000)
    window = automatic_window(values)
    assert window.low == pytest.approx(510, abs=2)
    assert window.high == pytest.approx(1490, abs=2)


def test_the_automatic_window_keeps_a_lowest_value_that_is_rare() -> None:
    values = np.arange(1000, dtype=np.int16)
    assert automatic_window(values).low == pytest.approx(10, abs=1)


@pytest.mark.parametrize("make", [automatic_window, full_range])
def test_a_constant_image_still_has_a_window(make) -> None:  # type: ignore[no-untyped-def]
    window = make(np.full((4, 4, 4), 7, np.int16))
    assert window.low < 7 < window.high


def test_air_far_below_zero_means_ct() -> None:
    values = np.full(1000, 40, np.int16)
    values[:300] = -1000
    assert guessed_modality(values) == "ct"
    assert guessed_modality(np.abs(values).astype(np.uint16)) == "other"
    assert guessed_modality(np.abs(values)) == "other"


def test_only_ct_gets_hounsfield_presets_and_automatic_comes_first() -> None:
    values = np.arange(100, dtype=np.float32)
    assert [window.name for window in windows_for(values, "mr")] == ["automatic", "full_range"]
    assert [window.name for window in windows_for(values, "ct")][2:] == ["brain", "lung", "soft_tissue", "bone"]

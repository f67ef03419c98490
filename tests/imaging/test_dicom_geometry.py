import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfl.errors import ImageReadError
from medfl.imaging.dicom_geometry import stack_slices

AXIAL = np.array([[1.0, 0, 0], [0, 1, 0]])


@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    spacing=st.tuples(*[st.floats(0.1, 5.0)] * 3),
    corner=st.tuples(*[st.floats(-300, 300)] * 3),
    order=st.permutations(range(6)),
)
def test_every_pixel_keeps_its_place_however_the_slices_are_shuffled(
    angles: tuple[float, ...], spacing: tuple[float, ...], corner: tuple[float, ...], order: list[int]
) -> None:
    a, b, c = angles
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    turn = turn @ np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    row_mm, column_mm, slice_mm = spacing
    positions = np.array([np.array(corner) + place * slice_mm * turn[:, 2] for place in order])

    stack = stack_slices(positions, turn[:, :2].T, np.array([row_mm, column_mm]), 1.0)

    assert [order[index] for index in stack.order] == list(range(6))
    for place, row, column in ((0, 0, 0), (5, 3, 2), (2, 0, 7)):
        lps = np.array(corner) + place * slice_mm * turn[:, 2] + column * column_mm * turn[:, 0]
        lps += row * row_mm * turn[:, 1]
        np.testing.assert_allclose((stack.affine @ (column, row, place, 1))[:3], lps * (-1, -1, 1), atol=1e-6)


def test_a_lone_slice_takes_the_given_thickness() -> None:
    stack = stack_slices(np.zeros((1, 3)), AXIAL, np.ones(2), 5.0)
    np.testing.assert_array_equal(stack.affine, np.diag([-1.0, -1.0, 5.0, 1.0]))


@pytest.mark.parametrize(
    ("places", "reason"),
    [
        ([0, 1, 2, 3, 5], "missing_slices"),
        ([0, 1, 2, 2, 3], "duplicate_positions"),
        ([0, 0, 0], "duplicate_positions"),
        ([0, 1, 2.4, 3, 4], "uneven_spacing"),
        ([0, 1, 2, 3, 4.001], None),
    ],
)
def test_steps_between_slices_are_checked(places: list[float], reason: str | None) -> None:
    positions = np.array([[0, 0, place] for place in places], dtype=np.float64)
    if reason is None:
        assert len(stack_slices(positions, AXIAL, np.ones(2), 1.0).order) == len(places)
        return
    with pytest.raises(ImageReadError) as caught:
        stack_slices(positions, AXIAL, np.ones(2), 1.0)
    assert caught.value.reason == reason

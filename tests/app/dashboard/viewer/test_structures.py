import pytest

from app.dashboard.viewer.structures import OKABE_ITO, Structure, structures_of


def test_classes_get_colours_in_the_order_of_their_labels() -> None:
    assert structures_of({"posterior": 2, "anterior": 1}) == (
        Structure(1, "anterior", OKABE_ITO[0]),
        Structure(2, "posterior", OKABE_ITO[1]),
    )


def test_after_the_last_colour_comes_the_first() -> None:
    many = structures_of({f"s{label}": label for label in range(1, 10)})
    assert many[7].colour == OKABE_ITO[0]


@pytest.mark.parametrize("label", [0, -1, 256])
def test_labels_that_no_mask_can_hold_are_refused(label: int) -> None:
    with pytest.raises(ValueError, match=r"1\.\.255"):
        Structure(label, "a", "#FFFFFF")


@pytest.mark.parametrize("colour", ["red", "#12345", "#1234567", 'url("x")', "#12345g"])
def test_only_plain_colours_are_taken(colour: str) -> None:
    with pytest.raises(ValueError, match="#RRGGBB"):
        Structure(1, "a", colour)

"""The structures of a mask: label, name and colour."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

#: Colours that stay apart for every common kind of colour vision (M. Okabe and K. Ito, 2002), bright ones first
#: since they lie on dark images; black is left out.
OKABE_ITO = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2")

_HEX_COLOUR = re.compile(r"#[0-9A-Fa-f]{6}")


@dataclass(frozen=True)
class Structure:
    """One labelled structure.

    Attributes
    ----------
    label : int
        The mask's value, 1 to 255.
    name : str
        Shown as text, never as HTML.
    colour : str
        ``#RRGGBB``.
    """

    label: int
    name: str
    colour: str

    def __post_init__(self) -> None:
        """Check label and colour."""
        if not 1 <= self.label <= 255:
            raise ValueError(f"A label must lie in 1..255, got {self.label}.")
        if not _HEX_COLOUR.fullmatch(self.colour):
            raise ValueError("A colour must be written #RRGGBB.")


def structures_of(classes: Mapping[str, int]) -> tuple[Structure, ...]:
    """Give every class of a run's settings a colour, in the order of the labels.

    Parameters
    ----------
    classes : mapping of name to label

    Returns
    -------
    tuple of Structure
        Colours of `OKABE_ITO`, again from the first after the seventh.
    """
    ordered = sorted(classes.items(), key=lambda item: item[1])
    return tuple(
        Structure(label, name, OKABE_ITO[position % len(OKABE_ITO)]) for position, (name, label) in enumerate(ordered)
    )

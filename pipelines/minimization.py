"""What a bottleneck keeps, as it travels from the hub to the sites."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfl.privacy.bottleneck import TaskBottleneck
from medfl.privacy.class_sums import ClassSums
from medfl.privacy.directions import Directions
from medfl.privacy.protector import FeatureProtector
from medfl.privacy.saturation import Reach, Saturation, reach_between_classes

_DIRECTIONS, _REACH = "directions/", "reach/"


@dataclass(frozen=True, eq=False)
class Minimization:
    """Directions of the features, and how far along them scores are told apart; None tells all of them apart."""

    directions: Directions
    reach: Reach | None = None

    @property
    def channels(self) -> int:
        """Number of directions."""
        return len(self.directions.matrix)

    def protectors(self) -> list[FeatureProtector]:
        """Return the protectors, in order."""
        stages: list[FeatureProtector] = [TaskBottleneck(self.directions)]
        return stages if self.reach is None else [*stages, Saturation(self.reach)]

    def to_arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return plain arrays; `from_arrays` takes them back."""
        arrays = {_DIRECTIONS + name: array for name, array in self.directions.to_arrays().items()}
        if self.reach is not None:
            arrays |= {_REACH + name: array for name, array in self.reach.to_arrays().items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "Minimization | None":
        """Return what `to_arrays` returned; None where there are no directions. Other arrays are passed over.

        Raises
        ------
        ShapeError
            If the arrays do not fit together.
        """
        directions, reach = _part(arrays, _DIRECTIONS), _part(arrays, _REACH)
        if not directions:
            return None
        return cls(Directions.from_arrays(directions), Reach.from_arrays(reach) if reach else None)


def minimization(sums: ClassSums, directions: Directions, saturate: float | None) -> Minimization:
    """Return the directions with the reach that the settings ask for."""
    reach = None if saturate is None else reach_between_classes(sums, directions, saturate)
    return Minimization(directions, reach)


def _part(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

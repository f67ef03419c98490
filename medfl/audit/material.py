"""What an audit works on: a release, and the truth that only the auditor knows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfl.attacks.pairs import Features


@dataclass(frozen=True, eq=False)
class ReleasedFeatures:
    """Features as they left the sites, row by row beside what they were made from.

    Attributes
    ----------
    released : ndarray of shape (n, D) or (n, C, *spatial)
    clear : ndarray of shape (n, ...)
        The same studies without any protection; the positive control.
    subjects : ndarray of shape (n,), str
    labels : ndarray of shape (n,), int
        Class of each study, which the hub is told; 0 for masks.
    attributes : dict of str to ndarray of shape (n,), str
        What the manifest says of each study, for example "sex"; "" where it says nothing.
    """

    released: Features
    clear: Features
    subjects: NDArray[np.str_]
    labels: NDArray[np.int64]
    attributes: dict[str, NDArray[np.str_]]

    def rows(self, kept: NDArray[np.bool_]) -> "ReleasedFeatures":
        """Return some of the studies."""
        return ReleasedFeatures(
            self.released[kept],
            self.clear[kept],
            self.subjects[kept],
            self.labels[kept],
            {name: values[kept] for name, values in self.attributes.items()},
        )

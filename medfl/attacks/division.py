"""Who is the attacker's, and who is a stranger: by subject, so that nobody is both."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medfl.attacks.pairs import linked_subjects
from medfl.errors import ShapeError, TooFewSubjectsError


@dataclass(frozen=True, eq=False)
class Division:
    """Images of the attacker and images of strangers.

    Attributes
    ----------
    is_test : ndarray of shape (n,), bool
    digest : str
        SHA-256 over the sorted names of the test subjects; tells two divisions apart and names nobody.
    attacker_subjects, test_subjects : int
    linked_test_subjects : int
        Test subjects with two images or more; only they can be linked to themselves.
    """

    is_test: NDArray[np.bool_]
    digest: str
    attacker_subjects: int
    test_subjects: int
    linked_test_subjects: int


def divide(subjects: ArrayLike, seed: int, *, test_share: float = 0.4) -> Division:
    """Give a share of the subjects to the test, the same share of those with one image and of those with several.

    Parameters
    ----------
    subjects : array_like of shape (n,)
        Subject of each image.
    seed : int
    test_share : float
        In (0, 1).

    Raises
    ------
    ShapeError
        If subjects are not one name per image, or the share is no share.
    TooFewSubjectsError
        If fewer than ten subjects have two images: six for the attacker and two for the test are the least.
    """
    names = np.asarray(subjects)
    if names.ndim != 1 or not 0 < test_share < 1:
        raise ShapeError(f"subjects must be one per image and test_share in (0, 1); found {names.shape}, {test_share}.")
    linked = np.unique(names[linked_subjects(names)])
    if len(linked) < 10:
        raise TooFewSubjectsError(
            f"An audit of re-identification needs ten subjects with two studies or more, found {len(linked)}."
        )
    rng = np.random.default_rng(seed)
    single = np.setdiff1d(names, linked)
    test = np.concatenate([rng.permutation(part)[: round(test_share * len(part))] for part in (linked, single)])
    text = "\n".join(sorted(map(str, test)))
    return Division(
        np.isin(names, test),
        hashlib.sha256(text.encode()).hexdigest(),
        len(linked) + len(single) - len(test),
        len(test),
        len(np.intersect1d(test, linked)),
    )


def linkable_class(subjects: ArrayLike, labels: ArrayLike) -> int:
    """Return the class with most subjects that have two or more images of it: impostors then share the diagnosis.

    Parameters
    ----------
    subjects, labels : array_like of shape (n,)
        Of each image; no image at all gives class 0.
    """
    names, classes = np.asarray(subjects), np.asarray(labels)
    parts = {int(one): names[classes == one] for one in np.unique(classes)}
    linked = {one: len(np.unique(own[linked_subjects(own)])) for one, own in parts.items()}
    return max(linked, key=lambda one: (linked[one], -one), default=0)

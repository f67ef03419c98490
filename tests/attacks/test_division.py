import numpy as np
import pytest

from medfl.attacks.division import divide, linkable_class
from medfl.errors import ShapeError, TooFewSubjectsError

NAMES = np.array([f"s{number}" for number in range(40) for _ in range(1 + number % 3)])


def test_no_subject_is_on_both_sides() -> None:
    found = divide(NAMES, 0)
    assert not set(NAMES[found.is_test]) & set(NAMES[~found.is_test])
    assert found.attacker_subjects + found.test_subjects == 40
    names, counts = np.unique(NAMES[found.is_test], return_counts=True)
    assert (len(names), (counts > 1).sum()) == (found.test_subjects, found.linked_test_subjects)


def test_equal_seeds_give_equal_divisions_and_digests_and_others_do_not() -> None:
    assert divide(NAMES, 1).digest == divide(NAMES, 1).digest
    assert divide(NAMES, 1).digest != divide(NAMES, 2).digest


def test_too_few_linked_subjects_are_refused_with_the_number_needed() -> None:
    with pytest.raises(TooFewSubjectsError, match="ten subjects"):
        divide(["a", "a", "b", "b", "c"], 0)


def test_shapes_are_checked() -> None:
    with pytest.raises(ShapeError):
        divide(np.zeros((2, 2)), 0)


def test_the_class_that_is_attacked_has_most_subjects_who_can_be_linked() -> None:
    subjects = ["a", "a", "b", "b", "c", "c", "d", "d", "e", "e"]
    assert linkable_class(subjects, [0, 0, 0, 1, 1, 1, 1, 1, 0, 1]) == 1
    assert linkable_class([], []) == 0

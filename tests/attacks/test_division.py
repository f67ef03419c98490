import numpy as np
import pytest

from medfl.attacks.division import divide
from medfl.errors import ShapeError, TooFewSubjectsError

NAMES = np.array([f"s{number}" for number in range(40) for _ in range(1 + number % 3)])


def test_no_subject_is_on_both_sides() -> None:
    found = divide(NAMES, 0)
    assert not set(NAMES[found.is_test]) & set(NAMES[~found.is_test])
    assert found.attacker_subjects + found.test_subjects == 40


def test_equal_seeds_give_equal_divisions_and_digests_and_others_do_not() -> None:
    assert divide(NAMES, 1).digest == divide(NAMES, 1).digest
    assert divide(NAMES, 1).digest != divide(NAMES, 2).digest


def test_too_few_linked_subjects_are_refused_with_the_number_needed() -> None:
    with pytest.raises(TooFewSubjectsError, match="ten subjects"):
        divide(["a", "a", "b", "b", "c"], 0)


def test_shapes_are_checked() -> None:
    with pytest.raises(ShapeError):
        divide(np.zeros((2, 2)), 0)

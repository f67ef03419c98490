from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from medfl.attacks.pairs import VerificationPairs, linked_subjects, verification_pairs
from medfl.errors import ConfigError, ShapeError, TooFewSubjectsError

IMAGES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), min_size=4, max_size=25)


def as_sets(pairs: VerificationPairs) -> list[list[frozenset[int]]]:
    found = [frozenset(map(int, pair)) for pair in zip(pairs.first, pairs.second, strict=True)]
    kinds = np.where(pairs.is_same, 0, np.where(pairs.is_matched, 2, 1))
    return [[pair for pair, kind in zip(found, kinds, strict=True) if kind == wanted] for wanted in range(3)]


def possible(subjects: np.ndarray, strata: np.ndarray) -> list[set[frozenset[int]]]:
    everything = [frozenset(pair) for pair in combinations(range(len(subjects)), 2)]
    same = {pair for pair in everything if len({subjects[i] for i in pair}) == 1}
    others = set(everything) - same
    return [same, others, {pair for pair in others if len({strata[i] for i in pair}) == 1}]


@given(IMAGES, st.integers(1, 60), st.integers(0, 5))
def test_no_pair_is_twice_in_a_set_nor_of_the_wrong_kind(
    images: list[tuple[int, int]], impostors: int, seed: int
) -> None:
    subjects, strata = np.array(images).T
    counts = np.bincount(subjects)
    allowed = possible(subjects, strata)
    assume((counts > 1).sum() >= 2 and allowed[2])
    pairs = verification_pairs(subjects, np.random.default_rng(seed), impostors, strata)
    sets = as_sets(pairs)
    assert set(sets[0]) == (allowed[0] if counts.max() < 7 else set(sets[0]) & allowed[0])
    for kind in (1, 2):
        assert set(sets[kind]) <= allowed[kind]
        assert len(set(sets[kind])) == len(sets[kind]) == min(impostors, len(allowed[kind]))


def test_every_impostor_pair_is_as_likely_as_any_other() -> None:
    subjects, strata = np.array([0, 0, 0, 1, 1, 2, 3]), np.array([0, 1, 1, 0, 1, 1, 1])
    for kind in (1, 2):
        allowed = possible(subjects, strata)[kind]
        counts = dict.fromkeys(allowed, 0)
        generator = np.random.default_rng(kind)
        for _ in range(500):
            for pair in as_sets(verification_pairs(subjects, generator, 2, strata))[kind]:
                counts[pair] += 1
        expected = 1000 / len(allowed)
        assert max(abs(count - expected) for count in counts.values()) < 5 * np.sqrt(expected)


def test_a_subject_with_many_images_keeps_a_random_part_of_its_pairs() -> None:
    subjects = np.repeat(["a", "b", "c"], [12, 3, 1])
    drawn = [as_sets(verification_pairs(subjects, np.random.default_rng(seed), 5))[0] for seed in (0, 0, 1)]
    assert len(drawn[0]) == 20 + 3
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_set_of_impostors_comes_with_all_genuine_pairs() -> None:
    subjects, strata = np.repeat(np.arange(6), 2), np.tile([0, 1], 6)
    pairs = verification_pairs(subjects, np.random.default_rng(0), 10, strata)
    for matched in (False, True):
        chosen = pairs.against(matched=matched)
        assert chosen.is_same.sum() == 6
        assert (chosen.is_matched[~chosen.is_same] == matched).all()
        assert (~chosen.is_same).sum() == 10


def test_linked_subjects_are_those_with_another_image() -> None:
    assert linked_subjects(["a", "b", "a", "c"]).tolist() == [True, False, True, False]


@pytest.mark.parametrize("subjects", [[], [0, 1, 2], [0, 0, 1, 2]])
def test_one_linked_subject_is_too_few(subjects: list[int]) -> None:
    with pytest.raises(TooFewSubjectsError, match="two subjects with two images"):
        verification_pairs(np.array(subjects, dtype=int), np.random.default_rng(0), 5)


def test_strata_without_two_subjects_are_refused() -> None:
    with pytest.raises(TooFewSubjectsError, match="stratum"):
        verification_pairs([0, 0, 1, 1], np.random.default_rng(0), 5, [0, 0, 1, 1])


def test_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        verification_pairs([0, 0, 1, 1], np.random.default_rng(0), 0)
    with pytest.raises(ShapeError, match="one per image"):
        verification_pairs([0, 0, 1, 1], np.random.default_rng(0), 5, [0])
    with pytest.raises(ShapeError, match="one name per image"):
        verification_pairs([[0, 0, 1, 1]], np.random.default_rng(0), 5)

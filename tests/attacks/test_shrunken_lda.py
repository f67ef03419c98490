import numpy as np
import pytest

from medfl.attacks.pairs import held_out_pairs, verification_pairs
from medfl.attacks.shrunken_lda import against_cohort, covariance_within, shrunken_lda


def persons(people: int, *, identity: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, 300): sixty quiet directions of identity and as many loud ones of nuisance, three images each."""
    generator = np.random.default_rng(seed)
    subjects = np.repeat([f"{seed}-{number}" for number in range(people)], 3)
    values = 0.4 * generator.normal(size=(len(subjects), 300))
    values[:, :60] += identity * 0.4 * np.repeat(generator.normal(size=(people, 60)), 3, axis=0)
    values[:, 60:120] += 3.0 * generator.normal(size=(len(subjects), 60))
    return values, subjects


def area(shrinkage: float, *, identity: float = 1.0) -> float:
    (scorer,) = shrunken_lda(*persons(150, identity=identity), (shrinkage,))
    strangers, names = persons(60, identity=identity, seed=1)
    return scorer.area(strangers, verification_pairs(names, np.random.default_rng(0), 3000))


def test_identity_in_many_quiet_directions_is_found_among_loud_ones() -> None:
    assert area(0.01) > 0.8


def test_features_without_identity_give_chance() -> None:
    assert 0.42 < area(0.01, identity=0.0) < 0.58


def test_shrinkage_helps_where_subjects_differ_from_themselves_in_as_many_ways_as_the_attacker_has_seen() -> None:
    assert area(0.01) > area(1e-6) + 0.2


def test_each_strength_gives_what_it_gives_alone() -> None:
    known, (strangers, _) = persons(30), persons(5, seed=1)
    both = shrunken_lda(*known, (0.1, 1.0))
    for scorer, shrinkage in zip(both, (0.1, 1.0), strict=True):
        (alone,) = shrunken_lda(*known, (shrinkage,))
        np.testing.assert_allclose(scorer(strangers[:7], strangers[7:14]), alone(strangers[:7], strangers[7:14]))
    assert not np.allclose(both[0].embed(strangers)[:, :1], both[1].embed(strangers)[:, :1])


def test_the_unit_of_the_features_does_not_matter() -> None:
    (values, names), (strangers, _) = persons(30), persons(5, seed=1)
    one, small = shrunken_lda(values, names, (0.1,))[0], shrunken_lda(1e-5 * values + 7, names, (0.1,))[0]
    np.testing.assert_allclose(
        one(strangers[:7], strangers[7:14]), small(1e-5 * strangers[:7] + 7, 1e-5 * strangers[7:14] + 7), atol=1e-5
    )


def test_subjects_without_any_spread_of_their_own_are_told_apart() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=(12, 5)), 2, axis=0)
    (scorer,) = shrunken_lda(values, np.repeat(np.arange(12), 2), (0.1,))
    pairs = held_out_pairs(np.repeat(np.arange(12), 2), np.random.default_rng(0), share=0.8)[1]
    assert scorer.area(values, pairs) == 1.0


def test_an_image_that_is_close_to_everybody_counts_less() -> None:
    cohort = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1]])
    scorer = against_cohort(lambda new: new, cohort)
    hub, rare = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    hubs, rares = scorer(hub, hub)[0], scorer(rare, rare)[0]
    near = np.cos(np.arctan(0.1))
    assert hubs == pytest.approx(2 - 2 * (1 + 2 * near) / 3)
    assert rares == pytest.approx(2.0)


def test_covariance_within_subjects_matches_a_hand_calculation() -> None:
    values = np.array([[0.0, 0.0], [2.0, 2.0], [5.0, 1.0], [5.0, 3.0], [9.0, 9.0]])
    names = np.array(["a", "a", "b", "b", "c"])
    np.testing.assert_allclose(covariance_within(values, names), [[1.0, 1.0], [1.0, 2.0]])

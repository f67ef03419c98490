from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfl.attacks.identification import (
    Placings,
    cluster_bootstrap_rate,
    cmc,
    hits,
    mean_average_precision,
    placings,
    rank_1_at_gallery,
    rank_k,
    ranks,
)
from medfl.errors import ConfigError, ShapeError, TooFewSubjectsError

CASES = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 2), st.integers(0, 2))


def people(seed: int, subjects: int = 15) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Probes and a gallery with 1 to 3 whole-numbered vectors per subject, so that scores tie often."""
    generator = np.random.default_rng(seed)
    entries = np.repeat(np.arange(subjects), generator.integers(1, 4, subjects))
    probes = generator.permutation(np.repeat(np.arange(subjects), 2))
    centers = generator.integers(-1, 2, (subjects, 4))
    sets = [(centers[who] + generator.integers(-1, 2, (len(who), 4))).astype(float) for who in (probes, entries)]
    return sets[0], sets[1], probes, entries


def placed(better: int, tied: int, mates: int = 1, worse: int = 0) -> Placings:
    return Placings(*(np.array([value]) for value in (better, tied, mates, better + tied + worse)))


def orders(better: int, tied: int, mates: int) -> list[int]:
    """Positions of the best mate in every order of those that tie."""
    return [better + 1 + order.index("m") for order in permutations("i" * tied + "m" * mates)]


@given(CASES)
def test_ranks_and_hits_are_means_over_every_way_to_break_ties(case: tuple[int, int, int, int]) -> None:
    better, tied, mates, _ = case
    positions = np.array(orders(better, tied, mates))
    assert placed(better, tied, mates).ranks[0] == pytest.approx(positions.mean())
    for k in range(1, 8):
        assert hits(placed(better, tied, mates), k)[0] == pytest.approx((positions <= k).mean())


@given(CASES)
def test_a_smaller_gallery_counts_every_subset_of_impostors(case: tuple[int, int, int, int]) -> None:
    better, tied, mates, worse = case
    kinds = "b" * better + "t" * tied + "w" * worse
    for size in range(1, len(kinds) + 2):
        won = []
        for drawn in combinations(kinds, size - 1):
            # One mate of those at the best score is in the running at random: its tied impostors are those drawn.
            position = [orders(drawn.count("b"), drawn.count("t"), mates)]
            won.append(np.mean(np.array(position) == 1))
        assert rank_1_at_gallery(placed(better, tied, mates, worse), size)[0] == pytest.approx(np.mean(won))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("block", [1, 7, 512])
def test_blocks_give_the_places_of_the_whole_matrix(seed: int, block: int) -> None:
    probe, gallery, probes, entries = people(seed)
    found = placings(probe, gallery, probes, entries, block=block)
    for row, who in enumerate(probes):
        scores = gallery @ probe[row]
        own, others = scores[entries == who], scores[entries != who]
        assert found.better[row] == (others > own.max()).sum()
        assert found.tied[row] == (others == own.max()).sum()
        assert found.mates[row] == (own == own.max()).sum()
        assert found.impostors[row] == len(others)
    assert np.array_equal(found.ranks, ranks(probe, gallery, probes, entries))


@pytest.mark.parametrize("block", [2, 512])
def test_a_pairwise_comparison_replaces_the_inner_product(block: int) -> None:
    probe, gallery, probes, entries = people(3)

    def near(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return -np.abs(one - other).sum(axis=1)

    found = ranks(probe, gallery, probes, entries, compare=near, block=block)
    scores = -np.abs(probe[:, None] - gallery).sum(axis=2)
    best = np.where(probes[:, None] == entries, scores, -np.inf).max(axis=1)
    over = ((scores > best[:, None]) & (probes[:, None] != entries)).sum(axis=1)
    assert (found >= 1 + over).all()
    assert (found < 1 + over + len(gallery)).all()
    assert not np.array_equal(found, ranks(probe, gallery, probes, entries))
    product = ranks(probe, gallery, probes, entries, compare=lambda one, other: (one * other).sum(axis=1), block=block)
    assert np.array_equal(product, ranks(probe, gallery, probes, entries))


def test_scores_that_are_all_equal_guess_at_every_rank_and_gallery_size() -> None:
    entries = np.arange(20)
    found = placings(np.ones((20, 3)), np.ones((20, 3)), entries, entries)
    assert found.ranks == pytest.approx(np.full(20, 10.5))
    assert cmc(found, 20) == pytest.approx(np.arange(1, 21) / 20)
    assert rank_1_at_gallery(found, 5) == pytest.approx(np.full(20, 0.2))


def test_perfect_scores_place_everybody_first() -> None:
    entries = np.repeat(np.arange(6), 2)
    found = placings(np.eye(6), np.eye(6)[entries], np.arange(6), entries)
    assert rank_k(found, 1) == 1.0
    assert (rank_1_at_gallery(found, 11) == 1).all()
    assert mean_average_precision(np.eye(6), np.eye(6)[entries], np.arange(6), entries) == 1.0


def test_the_match_characteristic_never_falls_and_ends_at_one() -> None:
    probe, gallery, probes, entries = people(1)
    curve = cmc(placings(probe, gallery, probes, entries), len(gallery))
    assert (np.diff(curve) >= -1e-12).all()
    assert curve[-1] == pytest.approx(1.0)


def test_average_precision_counts_mates_so_far_over_position() -> None:
    gallery = np.array([[5.0], [4.0], [3.0], [2.0]])
    found = mean_average_precision(np.ones((1, 1)), gallery, [7], [7, 0, 7, 1])
    assert found == pytest.approx((1 / 1 + 2 / 3) / 2)
    tied = mean_average_precision(np.ones((1, 1)), np.array([[1.0], [1.0]]), [7], [7, 0])
    assert tied == pytest.approx(1 / 1.5)


def test_gallery_sizes_beyond_the_full_one_and_bad_ranks_are_refused() -> None:
    for size in (0, 5):
        with pytest.raises(ConfigError, match="from 1 to 4"):
            rank_1_at_gallery(placed(1, 1, worse=1), size)
    with pytest.raises(ConfigError):
        hits(placed(0, 0), 0)
    with pytest.raises(ConfigError):
        cmc(placed(0, 0), 0)


def test_large_galleries_do_not_lose_precision() -> None:
    found = rank_1_at_gallery(placed(1000, 0, worse=999_000), 1000)[0]
    assert found == pytest.approx(np.prod(1 - 999 / (1_000_000 - np.arange(1000))), rel=1e-6)


def test_probes_without_mate_or_impostor_and_odd_shapes_are_refused() -> None:
    one = np.ones((2, 3))
    for gallery, probes, entries in [
        (one, [0, 1], [0, 0]),
        (one, [0, 0], [0, 0]),
        (one[:, :2], [0, 1], [0, 1]),
        (one, [0], [0, 1]),
        (np.full((2, 3), np.inf), [0, 1], [0, 1]),
    ]:
        with pytest.raises(ShapeError):
            placings(one, gallery, probes, entries)
    with pytest.raises(ConfigError):
        placings(one, one, [0, 1], [0, 1], block=0)


def test_an_interval_over_subjects_is_wider_than_one_over_probes_that_agree_within_a_subject() -> None:
    generator = np.random.default_rng(0)
    subjects = np.repeat(np.arange(40), 10)
    found = generator.random(40) < 0.5
    by_subject = cluster_bootstrap_rate(found[subjects], subjects, 500, np.random.default_rng(1))
    by_probe = cluster_bootstrap_rate(found[subjects], np.arange(400), 500, np.random.default_rng(1))
    assert by_subject.value == by_probe.value == found.mean()
    assert by_subject.low < by_subject.value < by_subject.high
    assert by_subject.high - by_subject.low > 2 * (by_probe.high - by_probe.low)
    assert (by_subject.subjects, by_probe.subjects) == (40, 400)


def test_rates_of_one_subject_or_out_of_range_have_no_interval() -> None:
    generator = np.random.default_rng(0)
    with pytest.raises(TooFewSubjectsError):
        cluster_bootstrap_rate([True, False], ["a", "a"], 10, generator)
    for results, names, draws in [([2.0, 0.0], [0, 1], 10), ([1.0], [0, 1], 10), ([1.0, 0.0], [0, 1], 0)]:
        with pytest.raises(ShapeError):
            cluster_bootstrap_rate(results, names, draws, generator)

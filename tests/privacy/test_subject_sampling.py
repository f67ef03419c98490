import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfl.errors import ConfigError
from medfl.privacy.keystream import Keystream
from medfl.privacy.subject_sampling import PoissonSubjects


def source(seed: int = 0) -> Keystream:
    return Keystream(seed.to_bytes(32, "little"))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=20), st.floats(0.05, 1.0), st.integers(1, 5), st.integers(0, 9)
)
def test_a_draw_is_whole_subjects_with_at_most_the_cap_each(
    counts: list[int], rate: float, cap: int, seed: int
) -> None:
    ends = np.cumsum(counts)
    studies_of = [list(range(end - count, end)) for count, end in zip(counts, ends, strict=True)]
    drawn = PoissonSubjects(studies_of, rate, source=source(seed), cap=cap).draw()
    owner_of = {study: subject for subject, studies in enumerate(studies_of) for study in studies}
    subjects = [owner_of[study] for study in drawn.studies]
    assert len(np.unique(drawn.studies)) == len(drawn.studies)
    assert len(set(subjects)) == drawn.subjects
    for position, subject in enumerate(dict.fromkeys(subjects)):
        own = drawn.studies[drawn.owner == position]
        assert {owner_of[study] for study in own} == {subject}
        assert len(own) == min(cap, counts[subject])


def test_every_subject_is_drawn_alone_with_the_rate_however_many_studies_it_has() -> None:
    sampler = PoissonSubjects([[0], [1, 2, 3], [4, 5]], 0.3, source=source())
    draws = [sampler.draw() for _ in range(4000)]
    seen = np.array([[0 in d.studies, 2 in d.studies, 5 in d.studies] for d in draws], dtype=float)
    np.testing.assert_allclose(seen.mean(axis=0), 0.3, atol=0.03)
    np.testing.assert_allclose(np.corrcoef(seen.T), np.eye(3), atol=0.06)
    sizes = np.bincount([d.subjects for d in draws], minlength=4) / len(draws)
    np.testing.assert_allclose(sizes, [0.343, 0.441, 0.189, 0.027], atol=0.03)


def test_capped_studies_are_drawn_at_random() -> None:
    sampler = PoissonSubjects([list(range(6))], 1.0, source=source(), cap=2)
    often = np.bincount(np.concatenate([sampler.draw().studies for _ in range(3000)]), minlength=6) / 3000
    np.testing.assert_allclose(often, 1 / 3, atol=0.04)


def test_nobody_may_be_drawn_and_everybody_may() -> None:
    nobody = PoissonSubjects([[0], [1]], 1e-12, source=source()).draw()
    assert (len(nobody.studies), len(nobody.owner), nobody.subjects) == (0, 0, 0)
    assert PoissonSubjects([[0], [1]], 1.0, source=source()).draw().subjects == 2


def test_the_denominator_is_that_of_the_data_set_and_not_of_the_draw() -> None:
    sampler = PoissonSubjects([[i] for i in range(10)], 0.25, source=source())
    before = sampler.expected_subjects
    sampler.draw()
    assert sampler.expected_subjects == before == 2.5


@pytest.mark.parametrize(
    ("studies_of", "rate", "cap", "words"),
    [
        ([], 0.1, 1, "found none"),
        ([[0], []], 0.1, 1, "without"),
        ([[0], [0]], 0.1, 1, "twice"),
        ([[0, 0]], 0.1, 1, "twice"),
        ([[0]], 0.0, 1, "rate"),
        ([[0]], 1.5, 1, "rate"),
        ([[0]], 0.1, 0, "at least one study"),
    ],
)
def test_sampling_that_proves_nothing_is_refused(
    studies_of: list[list[int]], rate: float, cap: int, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        PoissonSubjects(studies_of, rate, source=source(), cap=cap)

"""Who takes part in a step: every subject by chance, alone, with one probability for all."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfl.errors import ConfigError
from medfl.privacy.keystream import Keystream

STUDIES_PER_SUBJECT = 8
"""Most studies of a subject in one step, unless said otherwise."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """The studies of one step.

    Attributes
    ----------
    studies : ndarray of shape (S,), int64
        Indices of studies, those of one subject side by side. S = 0 is legal.
    owner : ndarray of shape (S,), int64
        Which of the drawn subjects each study belongs to, ascending from 0 without gaps.
    subjects : int
        Subjects that were drawn.
    """

    studies: NDArray[np.int64]
    owner: NDArray[np.int64]
    subjects: int


class PoissonSubjects:
    """Poisson sampling over subjects; the only sampling that the account in `sampled_gaussian` is true for.

    Parameters
    ----------
    studies_of : sequence of sequence of int
        The studies of each subject, at least one each and none twice.
    rate : float
        Chance of each subject, in (0, 1].
    cap : int
        Most studies of a subject in one step; of more, as many are drawn at random.
    source : Keystream
        In production of a key that was just drawn from the operating system (`secrets.token_bytes`) and is used for
        nothing else: whoever can repeat the draws, from the run's seed say, knows who took part, and nothing is left of
        the amplification by sampling.

    Attributes
    ----------
    expected_subjects : float
        ``rate`` times the number of subjects, the fixed denominator of every step. It tells how many subjects there
        are, so that number is taken as public.

    Raises
    ------
    ConfigError
        If a subject has no study, a study has two subjects, or a number is out of range.
    """

    def __init__(
        self, studies_of: Sequence[Sequence[int]], rate: float, *, source: Keystream, cap: int = STUDIES_PER_SUBJECT
    ) -> None:
        if not 0 < rate <= 1:
            raise ConfigError(f"the sampling rate must be in (0, 1], found {rate}.")
        if cap < 1:
            raise ConfigError(f"a subject must be allowed at least one study per step, found {cap}.")
        self._studies = [np.array(studies, dtype=np.int64) for studies in studies_of]
        everything = np.concatenate(self._studies) if self._studies else np.zeros(0, dtype=np.int64)
        if not self._studies or any(not len(studies) for studies in self._studies):
            raise ConfigError("sampling needs subjects, each with at least one study; found none, or one without.")
        if len(np.unique(everything)) != len(everything):
            raise ConfigError("every study must belong to one subject, once; found a study that is listed twice.")
        self.rate, self.cap = rate, cap
        self.expected_subjects = rate * len(self._studies)
        self._source = source

    def draw(self) -> Drawn:
        """Return who takes part in the next step, perhaps nobody."""
        present = np.flatnonzero(self._source.uniforms(len(self._studies)) < self.rate)
        chosen = [self._at_most_cap(self._studies[subject]) for subject in present]
        studies = np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.int64)
        owner = np.repeat(np.arange(len(chosen)), [len(one) for one in chosen])
        return Drawn(studies, owner.astype(np.int64), len(chosen))

    def _at_most_cap(self, studies: NDArray[np.int64]) -> NDArray[np.int64]:
        if len(studies) <= self.cap:
            return studies
        return studies[self._source.permutation(len(studies))[: self.cap]]

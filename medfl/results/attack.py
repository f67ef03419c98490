"""What an attacker found out."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from medfl.errors import ConfigError
from medfl.results.metrics import ResultModel

Knowledge = Literal["naive", "re-trained"]


class AttackResult(ResultModel):
    """One attacker on one set of test subjects; rows are never averaged over attackers.

    Attributes
    ----------
    name : str
        The attacker.
    knowledge : str
        "naive": it compares features as they are. "re-trained": it learned on the same kind of features of its own,
        linked subjects.
    metric : str
    value : float
        In [0, 1]; 0.5 is guessing.
    ci_low, ci_high : float
        95 % interval, resampled by subject.
    subjects, genuine_pairs, impostor_pairs : int
        Behind the value; all subjects are strangers to the attacker.
    impostors : str
        "random": any two subjects. "matched": two subjects of one stratum.
    attacker_subjects : int
        Subjects the attacker learned from.
    validation_auc : float
        Of the same attacker on its own held-out subjects; attackers are chosen by it, never by `value`.
    seconds : float
        To train, validate and score.
    """

    name: str
    knowledge: Knowledge
    metric: Literal["auc"] = "auc"
    value: float = Field(ge=0, le=1)
    ci_low: float = Field(ge=0, le=1)
    ci_high: float = Field(ge=0, le=1)
    subjects: int = Field(ge=2)
    genuine_pairs: int = Field(ge=1)
    impostor_pairs: int = Field(ge=1)
    impostors: Literal["random", "matched"] = "random"
    attacker_subjects: int = Field(ge=0)
    validation_auc: float = Field(ge=0, le=1)
    seconds: float = Field(ge=0)


def best_retrained(
    results: Sequence[AttackResult], *, impostors: Literal["random", "matched"] = "random"
) -> AttackResult:
    """Return the re-trained attacker that did best on the attacker's own held-out subjects.

    The test decides nothing: the best of several test results would be too high by chance.

    Raises
    ------
    ConfigError
        If no re-trained attacker is among the results.
    """
    trained = [one for one in results if one.knowledge == "re-trained" and one.impostors == impostors]
    if not trained:
        raise ConfigError(f"There must be a re-trained attacker with {impostors} impostors, found none.")
    return max(trained, key=lambda one: one.validation_auc)

"""What an attacker found out, and whether the experiment that says so can be believed."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from medfl.errors import ConfigError
from medfl.results.metrics import ResultModel

Family = Literal[
    "re-identification",
    "linkage",
    "inversion",
    "membership",
    "gradient inversion",
    "attributes",
    "released sums",
    "key hygiene",
]
Knowledge = Literal["naive", "transferred", "re-trained", "anchored", "key", "model", "update", "sums"]


class Measure(ResultModel):
    """One more number about an attack.

    Attributes
    ----------
    name : str
        For example "tpr_at_fpr_0.01", "rank_1", "eer".
    value : float or None
        None where the data cannot support it, with the reason in `note`.
    ci_low, ci_high : float or None
        95 % interval, resampled by subject.
    chance : float or None
        What guessing gives.
    note : str
    """

    name: str
    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    chance: float | None = None
    note: str = ""


class AttackResult(ResultModel):
    """One attacker on one set of test subjects; rows are never averaged over attackers.

    Attributes
    ----------
    family : str
    name : str
        The attacker.
    knowledge : str
        What it has beside the release. "naive": nothing; it compares features as they are. "transferred": it learned
        on clear features. "re-trained": it learned on the same kind of features of its own, linked subjects.
        "anchored": it knows some images in both sets. "key": it holds the key. "model": it can use a released model.
        "update": it sees what one site sent in one round. "sums": it sees released sums.
    setting : str
        What else tells this row from others, for example "8 images per side"; "" where nothing does.
    metric : str
        For example "auc" or "rank_1".
    value : float
        0.5 of an "auc" is guessing; `chance` says it for every metric.
    ci_low, ci_high : float
        95 % interval, resampled by subject; each end alone is a one-sided 97.5 % bound.
    chance : float
        What guessing gives, or a baseline that does without the release; `baseline` says which.
    baseline : str
    subjects, positives, negatives : int
        Behind the value: genuine and impostor pairs, members and non-members, or subjects with and without an
        attribute. All subjects are strangers to the attacker.
    impostors : str
        "random": any two subjects. "matched": two subjects of one stratum. Of pairs only.
    attacker_subjects : int
        Subjects the attacker learned from.
    validation : float or None
        The same metric of the same attacker on its own held-out subjects; attackers are chosen by it, never by `value`.
    further : tuple of Measure
    budget : str
        What it cost the attacker in words, for example "64 known pairs" or "300 steps".
    seconds : float
        To train, validate and score.
    """

    family: Family = "re-identification"
    name: str
    knowledge: Knowledge
    setting: str = ""
    metric: str = "auc"
    value: float
    ci_low: float
    ci_high: float
    chance: float = 0.5
    baseline: str = "guessing"
    subjects: int = Field(ge=1)
    positives: int = Field(ge=0)
    negatives: int = Field(ge=0)
    impostors: Literal["random", "matched"] = "random"
    attacker_subjects: int = Field(ge=0)
    validation: float | None = None
    further: tuple[Measure, ...] = ()
    budget: str = ""
    seconds: float = Field(ge=0)


class Control(ResultModel):
    """An experiment whose outcome is known before; without it no attack is believed.

    Attributes
    ----------
    family : str
    kind : str
        "null": where nothing can be found, nothing may be. "positive": where something is known to be there, it must be
        found. "confounder": what other data alone gives away. "equal utility": noise that costs the task as much.
    name : str
    metric : str
    value, ci_low, ci_high : float
        As in `AttackResult`.
    expected : str
        What must hold, in words.
    passed : bool or None
        None where the control only informs.
    """

    family: Family
    kind: Literal["null", "positive", "confounder", "equal utility"]
    name: str
    metric: str = "auc"
    value: float
    ci_low: float
    ci_high: float
    expected: str
    passed: bool | None = None


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
    return max(trained, key=lambda one: -1.0 if one.validation is None else one.validation)

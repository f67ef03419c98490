"""What happened, round by round."""

from pydantic import Field

from medfl.results.metrics import MetricValue, ResultModel


class SiteRound(ResultModel):
    """One site's part in one round.

    Attributes
    ----------
    site : str
    subjects, studies : int
        How many took part in training, as the site says.
    loss : float or None
        Mean training loss; None when the reply was refused.
    seconds : float
        Time the site spent training.
    bytes_down, bytes_up : int
        Array bytes sent to and received from the site in training.
    refused : str
        Reason code when the reply was not used, else empty.
    detail : str
        The sentence behind the code.
    """

    site: str
    subjects: int = 0
    studies: int = 0
    loss: float | None = None
    seconds: float = 0.0
    bytes_down: int = 0
    bytes_up: int = 0
    refused: str = ""
    detail: str = ""


class RoundRecord(ResultModel):
    """One round.

    Attributes
    ----------
    number : int
        1 for the first round.
    seconds : float
        Wall time of the round including evaluation.
    skipped : str
        Why the global model was left as it was; empty when it was updated.
    sites : tuple of SiteRound
    metrics : dict of str to MetricValue
        Pooled validation metrics after the round; empty when the round was not evaluated.
    """

    number: int = Field(ge=1)
    seconds: float
    skipped: str = ""
    sites: tuple[SiteRound, ...]
    metrics: dict[str, MetricValue] = Field(default_factory=dict)


class History(ResultModel):
    """All finished rounds, in order."""

    rounds: tuple[RoundRecord, ...] = ()

    def until(self, number: int) -> "History":
        """Return the rounds up to and including `number`."""
        return History(rounds=tuple(record for record in self.rounds if record.number <= number))

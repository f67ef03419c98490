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


class SiteRelease(ResultModel):
    """One site's release of features, before the first round.

    Attributes
    ----------
    site : str
    subjects, studies : int
        Behind the envelopes that the hub received; 0 where the sites train the head.
    seconds : float
        Time the site spent on protecting and sealing.
    bytes_up : int
        Array bytes of the envelopes received from the site.
    bytes_learning : int
        Array bytes received before, for learning a bottleneck.
    key_id : str
        Of the keyed transform; empty without one.
    refused, detail : str
        Reason code and sentence when the release was not used.
    """

    site: str
    subjects: int = 0
    studies: int = 0
    seconds: float = 0.0
    bytes_up: int = 0
    bytes_learning: int = 0
    key_id: str = ""
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
    hub_loss : float or None
        Mean training loss where the hub trained the head on released features.
    metrics : dict of str to MetricValue
        Pooled validation metrics after the round; empty when the round was not evaluated, or is with the next one.
    """

    number: int = Field(ge=1)
    seconds: float
    skipped: str = ""
    sites: tuple[SiteRound, ...]
    hub_loss: float | None = None
    metrics: dict[str, MetricValue] = Field(default_factory=dict)


class History(ResultModel):
    """All finished rounds, in order.

    Attributes
    ----------
    rounds : tuple of RoundRecord
    releases : tuple of SiteRelease
        The sites' features, where a run shares them.
    resumed : int
        How often the run went on after it was interrupted; each time a round may have been computed twice.
    """

    rounds: tuple[RoundRecord, ...] = ()
    releases: tuple[SiteRelease, ...] = ()
    resumed: int = Field(default=0, ge=0)

    def until(self, number: int) -> "History":
        """Return the rounds up to and including `number`."""
        kept = tuple(record for record in self.rounds if record.number <= number)
        return History(rounds=kept, releases=self.releases, resumed=self.resumed)

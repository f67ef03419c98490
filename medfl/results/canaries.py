"""What the canaries of a run say about its claimed epsilon."""

from pydantic import Field

from medfl.results.metrics import ResultModel


class CanaryCheck(ResultModel):
    """One site's canaries against the claim for that site.

    Attributes
    ----------
    site : str
    canaries, steps : int
        How many were in the run or could have been, and over how many private steps.
    claimed, delta : float
        What the account says, for adding or removing one subject.
    lower_bound : float
        With 95 % confidence the true epsilon is not below; 0 says nothing.
    ceiling : float
        What so many canaries could have shown at most.
    assumption : str
        What has to hold beside fair coins.
    flagged : bool
        The claimed privacy curve is contradicted, or the bound is above the claim. False is "not contradicted", never
        "confirmed".
    words : str
        One sentence.
    """

    site: str
    canaries: int = Field(ge=1)
    steps: int = Field(ge=0)
    claimed: float
    delta: float
    lower_bound: float = Field(ge=0)
    ceiling: float = Field(ge=0)
    assumption: str
    flagged: bool
    words: str

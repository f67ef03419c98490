"""Finished metrics with their intervals."""

from pydantic import BaseModel, ConfigDict, Field


class ResultModel(BaseModel):
    """Base of every stored value: frozen, closed, infinities written as words."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class MetricValue(ResultModel):
    """One metric.

    Attributes
    ----------
    value : float or None
        Point value; None when it is undefined or suppressed, with the reason in `note`.
    ci_low, ci_high : float or None
        95 % interval, resampled by subject.
    n : int
        Number of subjects behind the value.
    error_bound : float or None
        Largest possible distance between `value` and the exact one; None when the value is exact.
    note : str
        Convention or reason, in one short sentence.
    """

    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int = Field(ge=0)
    error_bound: float | None = None
    note: str = ""


class RunMetrics(ResultModel):
    """Everything `metrics.json` holds.

    Attributes
    ----------
    split : str
        The part of the data the metrics describe, usually "test".
    pooled : dict of str to MetricValue
        Metrics over all sites together, finished from additive sums.
    sites : dict of str to dict of str to MetricValue
        The same per site; a site under the minimum of subjects holds none.
    suppressed : dict of str to str
        Sites without metrics, and why.
    """

    split: str
    pooled: dict[str, MetricValue]
    sites: dict[str, dict[str, MetricValue]]
    suppressed: dict[str, str] = Field(default_factory=dict)

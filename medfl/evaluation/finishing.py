"""From added sums to one metric with its interval."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from medfl.evaluation.intervals import interval, ratio_of_totals
from medfl.evaluation.measures import MeasureBlock, merge
from medfl.results.metrics import MetricValue

_SMALLEST_SHARE = 0.01
Sites = Sequence[Mapping[str, MeasureBlock]]


def suppression_note(n_sites: int, n_sent: int) -> str:
    """Say how many sites a metric leaves out.

    Parameters
    ----------
    n_sites, n_sent : int
        Sites asked, and sites that sent the block.
    """
    if n_sent == 0:
        return "suppressed at every site: fewer subjects than the minimum"
    return (
        "" if n_sent == n_sites else f"{n_sites - n_sent} of {n_sites} sites left out: fewer subjects than the minimum"
    )


def join_notes(*notes: str) -> str:
    """Join the notes that are not empty.

    Parameters
    ----------
    *notes : str
    """
    return "; ".join(note for note in notes if note)


def ratio_metric(
    sites: Sites, key: str, *, seed: int, upper: float = 1.0, none_note: str = "nothing to measure", note: str = ""
) -> MetricValue:
    """Finish a block of (sum, weight): the mean over studies, resampled by subject.

    Parameters
    ----------
    sites : sequence of mapping of str to MeasureBlock
        One mapping per site.
    key : str
        The block's name.
    seed : int
        Of the interval.
    upper : float
        Largest possible value; the interval is clipped to [0, upper].
    none_note : str
        Reason to give where the weight is 0.
    note : str
        Convention to print.
    """
    blocks = [site[key] for site in sites if key in site]
    left_out = suppression_note(len(sites), len(blocks))
    if not blocks:
        return MetricValue(value=None, n=0, note=left_out)
    pooled = merge(blocks)
    total, weight = pooled.totals
    if weight <= 0:
        return MetricValue(value=None, n=pooled.n_subjects, note=join_notes(none_note, left_out))
    bound = float(pooled.error_bounds[0] / weight)
    limits = interval(partial(ratio_of_totals, pooled=pooled.totals), blocks, seed=seed)
    return metric_value(
        float(total / weight), limits, n=pooled.n_subjects, bound=bound, upper=upper, notes=(note, left_out)
    )


def rate_metric(sites: Sites, key: str, *, none_note: str) -> MetricValue:
    """Finish a block of (studies in a category, studies) into a rate with the Jeffreys interval.

    Every subject counts as one trial: studies of a subject are taken as fully correlated.

    Parameters
    ----------
    sites : sequence of mapping of str to MeasureBlock
        One mapping per site.
    key : str
        The block's name.
    none_note : str
        Reason to give where there is no study.
    """
    blocks = [site[key] for site in sites if key in site]
    left_out = suppression_note(len(sites), len(blocks))
    if not blocks:
        return MetricValue(value=None, n=0, note=left_out)
    pooled = merge(blocks)
    hits, studies = pooled.totals
    if studies <= 0:
        return MetricValue(value=None, n=pooled.n_subjects, note=join_notes(none_note, left_out))
    rate = float(hits / studies)
    return metric_value(rate, jeffreys_interval(rate, pooled.n_subjects), n=pooled.n_subjects, notes=(left_out,))


def jeffreys_interval(rate: float, trials: float) -> tuple[float, float]:
    """95 % Jeffreys interval of a proportion (Brown, Cai, DasGupta 2001).

    Parameters
    ----------
    rate : float
        In [0, 1].
    trials : float
        Effective number of independent trials, > 0; need not be whole.

    Returns
    -------
    (float, float)
        The end is 0 or 1 where the rate is.
    """
    low, high = stats.beta.ppf([0.025, 0.975], rate * trials + 0.5, (1.0 - rate) * trials + 0.5)
    return (0.0 if rate <= 0 else float(low)), (1.0 if rate >= 1 else float(high))


def totals_metric(
    sites: Sites,
    key: str,
    metric: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    *,
    seed: int,
    rising: NDArray[np.float64],
    note: str = "",
) -> MetricValue:
    """Finish any metric in [0, 1] of non-negative totals.

    Draws below 1 % of a total are lifted to it, so that the metric stays defined with very few subjects.

    Parameters
    ----------
    sites : sequence of mapping of str to MeasureBlock
        One mapping per site.
    key : str
        The block's name.
    metric : callable
        Maps totals (draws, k) to values (draws,); NaN where undefined.
    seed : int
        Of the interval.
    rising : ndarray of shape (k,)
        +1 where the metric never falls with the total, -1 where it never rises: the corners of the error bound.
    note : str
        Convention to print.
    """
    blocks = [site[key] for site in sites if key in site]
    left_out = suppression_note(len(sites), len(blocks))
    if not blocks:
        return MetricValue(value=None, n=0, note=left_out)
    pooled = merge(blocks)
    shift = pooled.error_bounds * rising
    corners = np.maximum(np.stack([pooled.totals, pooled.totals - shift, pooled.totals + shift]), 0.0)
    value, low, high = metric(corners)
    if not np.isfinite(value):
        return MetricValue(value=None, n=pooled.n_subjects, note=join_notes("nothing to measure", left_out))
    bound = float(max(value - low, high - value)) if np.isfinite([low, high]).all() else 1.0
    floor = _SMALLEST_SHARE * pooled.totals
    limits = interval(lambda draws: metric(np.maximum(draws, floor)), blocks, seed=seed)
    return metric_value(float(value), limits, n=pooled.n_subjects, bound=bound, upper=1.0, notes=(note, left_out))


def metric_value(
    value: float,
    limits: tuple[float, float] | None,
    *,
    n: int,
    bound: float = 0.0,
    lower: float = 0.0,
    upper: float = 1.0,
    notes: Sequence[str] = (),
) -> MetricValue:
    """Put a metric together: widen the interval by the error bound, clip it to the possible range.

    Parameters
    ----------
    value : float
    limits : (float, float) or None
        Interval before widening.
    n : int
        Subjects.
    bound : float
        Largest distance to the exact value; 0 if `value` is exact.
    lower, upper : float
        Possible range.
    notes : sequence of str
    """
    clipped = float(np.clip(value, lower, upper))
    if limits is None:
        return MetricValue(value=clipped, n=n, error_bound=bound or None, note=join_notes("no interval", *notes))
    low, high = np.clip([min(limits[0], value) - bound, max(limits[1], value) + bound], lower, upper)
    return MetricValue(
        value=clipped, ci_low=float(low), ci_high=float(high), n=n, error_bound=bound or None, note=join_notes(*notes)
    )


def class_mean(values: Sequence[MetricValue]) -> MetricValue:
    """Average a metric over the classes where it is defined.

    The interval is the average of the classes' intervals: exact if the classes rise and fall together, else too wide.

    Parameters
    ----------
    values : sequence of MetricValue
        One per class.
    """
    defined = [entry for entry in values if entry.value is not None]
    if not defined:
        return MetricValue(value=None, n=0, note="undefined for every class")
    note = "" if len(defined) == len(values) else f"mean of {len(defined)} of {len(values)} classes"
    return MetricValue(
        value=float(np.mean([entry.value for entry in defined if entry.value is not None])),
        ci_low=_mean_or_none([entry.ci_low for entry in defined]),
        ci_high=_mean_or_none([entry.ci_high for entry in defined]),
        n=max(entry.n for entry in defined),
        error_bound=float(np.mean([entry.error_bound or 0.0 for entry in defined])) or None,
        note=join_notes("mean over classes", note),
    )


def _mean_or_none(numbers: Sequence[float | None]) -> float | None:
    """Mean, or None if a number is missing."""
    present = [number for number in numbers if number is not None]
    return float(np.mean(present)) if len(present) == len(numbers) else None

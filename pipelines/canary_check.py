"""What a finished run's canaries say about its claimed epsilon."""

import numpy as np

from medfl.attacks.one_run_audit import one_run_bound, one_run_claim_test
from medfl.attacks.privacy_audit import verdict
from medfl.config.settings import Config
from medfl.config.training_privacy import DpSgd
from medfl.privacy.privacy_curve import privacy_curve
from medfl.privacy.sampled_gaussian import Adjacency, epsilon_of
from medfl.results.canaries import CanaryCheck
from medfl.results.store import RunStore
from pipelines.private_training import planned_steps

_PAIRS = 40
_BEYOND = 1.2  # of the claim, that the curve is looked at


def check_canaries(config: Config, store: RunStore, sites: tuple[str, ...]) -> tuple[CanaryCheck, ...]:
    """Return one check for every site that kept canaries; none where the run had none.

    The test of the whole claimed curve decides, together with the bound at delta; both look at the noised sums that the
    hub could have seen step by step (white box).

    Parameters
    ----------
    config : Config
    store : RunStore
    sites : tuple of str
    """
    if not isinstance(config.privacy, DpSgd) or not config.privacy.canaries:
        return ()
    found = []
    for site in sites:
        arrays = store.read_canaries(site)
        if arrays is not None and int(arrays["steps"]):
            found.append(_check(config, config.privacy, site, arrays))
    return tuple(found)


def _check(config: Config, settings: DpSgd, site: str, arrays: dict[str, np.ndarray]) -> CanaryCheck:
    steps, included, scores = int(arrays["steps"]), arrays["included"].astype(bool), arrays["scores"]
    plan = planned_steps(config)
    phases = [plan.phase(1)] if steps < plan.per_round else [plan.phase(steps // plan.per_round)]
    claimed = epsilon_of(phases, settings.delta, Adjacency.ADD_OR_REMOVE)
    bound = one_run_bound(scores, included, delta=settings.delta, cut=0.0)
    curve = np.linspace(0.0, _BEYOND * claimed, _PAIRS)
    whole = one_run_claim_test(scores, included, epsilons=curve, deltas=privacy_curve(phases, curve), cut=0.0)
    found = verdict(bound, claimed)
    return CanaryCheck(
        site=site,
        canaries=len(scores),
        steps=steps,
        claimed=claimed,
        delta=settings.delta,
        lower_bound=bound.epsilon,
        ceiling=bound.ceiling,
        assumption=bound.assumption,
        flagged=found.flagged or whole.flagged,
        words=f"{found.words} Over the whole curve: {whole.words}",
    )

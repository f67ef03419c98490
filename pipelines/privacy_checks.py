"""What must hold before a run computes anything: differential privacy of training, and the sites' ledgers."""

import math
from collections import Counter
from collections.abc import Mapping

from medfl.config.privacy import BottleneckStage
from medfl.config.settings import Config
from medfl.config.training_privacy import NoTrainingPrivacy
from medfl.errors import ConfigError, DataError, PrivacyError
from medfl.governance.ledger_events import Budget
from medfl.privacy.accounting import check_delta
from medfl.privacy.composition import DpEvent, NonPrivate, composed_epsilon
from medfl.privacy.dp_guard import statistics_findings
from medfl.privacy.sampled_gaussian import Adjacency
from pipelines.feature_events import features_event, sums_event
from pipelines.site_program import PipelineProgram
from pipelines.training_events import round_event


def check_privacy(config: Config, programs: Mapping[str, PipelineProgram]) -> None:
    """Check that settings, subjects, network and ledgers allow the run.

    Parameters
    ----------
    config : Config
    programs : mapping of str to PipelineProgram
        Site -> its program; one where only one site can be seen.

    Raises
    ------
    ConfigError
        If delta is too large for a site's subjects, the noise cannot be found, a ledger lacks the account, or the plan
        asks for more than a site's budget.
    DataError
        If a subject is at two sites: its epsilon would be the sum of both.
    PrivacyError
        If the network keeps statistics of the data that would get no noise, or noise that they cannot bear.
    """
    if not isinstance(config.privacy, NoTrainingPrivacy):
        _check_training(config, programs)
    for site, program in programs.items():
        if program.books is not None:
            _check_budget(config, site, program.books.budget())


def _check_training(config: Config, programs: Mapping[str, PipelineProgram]) -> None:
    assert not isinstance(config.privacy, NoTrainingPrivacy)
    owners: dict[str, str] = {}
    for site, program in programs.items():
        subjects = {study.row.subject for study in program.studies["train"]}
        check_delta(config.privacy.delta, len(subjects))
        if any(owners.setdefault(subject, site) != site for subject in subjects):
            raise DataError(
                "With differential privacy every subject must be at one site, since the epsilons of two would add; "
                "found one that is at two. Join the sites or leave the subject out at one of them."
            )
    for program in programs.values():
        program.pipeline.network.train()
        findings = statistics_findings(program.pipeline.network)
        if findings:
            raise PrivacyError(f"Training with differential privacy cannot be claimed: {'; '.join(findings)}.")
    round_event(config, Adjacency.REPLACE)


def planned_events(config: Config, adjacency: Adjacency) -> Counter[DpEvent]:
    """Return everything that a site's ledger is going to book for the whole run, under this adjacency."""
    found: Counter[DpEvent] = Counter()
    if config.sharing == "weights" or config.head_at == "sites":
        found[round_event(config, adjacency)] += config.training.rounds
    if config.sharing == "weights":
        return found
    stage = config.protection.minimize
    if isinstance(stage, BottleneckStage):
        found[sums_event(config, adjacency)] += 1
        found[NonPrivate()] += len(stage.directions) > 1  # right answers of the candidates
    if config.head_at == "hub":
        found[features_event(config, adjacency)] += 1
        found[NonPrivate()] += 1  # labels or masks
    return +found


def _check_budget(config: Config, site: str, budget: Budget) -> None:
    """Compose all that is planned as the site's ledger would."""
    if math.isinf(budget.limit):
        return
    events = planned_events(config, Adjacency(budget.adjacency))
    planned = composed_epsilon(events, budget.delta, budget.adjacency)
    if planned > budget.limit:
        asked = "what has no proof, so epsilon is infinite" if math.isinf(planned) else f"epsilon {planned:.4g}"
        raise ConfigError(
            f"The plan must ask for no more than the ledger of {site} allows at all, {budget}; it asks for {asked} in "
            "those terms. Change privacy or protection, or the budget: 'medfl ledger budget'."
        )

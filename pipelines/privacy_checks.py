"""What must hold before a run with differential privacy of training computes anything."""

from collections.abc import Mapping

from medfl.config.settings import Config
from medfl.config.training_privacy import DpSgd, DpUpdates, NoTrainingPrivacy
from medfl.errors import ConfigError, DataError, PrivacyError
from medfl.governance.ledger_events import Budget
from medfl.privacy.accounting import check_delta
from medfl.privacy.composition import composed_epsilon
from medfl.privacy.dp_guard import statistics_findings
from medfl.privacy.sampled_gaussian import Adjacency
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
    budgets = {site: program.books.budget() for site, program in programs.items() if program.books is not None}
    if isinstance(config.privacy, NoTrainingPrivacy):
        return
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
    for site, budget in budgets.items():
        _check_budget(config, site, budget)


def _check_budget(config: Config, site: str, budget: Budget) -> None:
    """Compose all planned rounds as the site's ledger would."""
    if not isinstance(config.privacy, DpSgd | DpUpdates):
        return
    event = round_event(config, Adjacency(budget.adjacency))
    planned = composed_epsilon({event: config.training.rounds}, budget.delta, budget.adjacency)
    if planned > budget.limit:
        raise ConfigError(
            f"The plan must ask for no more than the ledger of {site} allows at all, {budget}; it asks for epsilon "
            f"{planned:.4g} in those terms. Lower privacy.epsilon, or raise the budget: 'medfl ledger budget'."
        )

"""What a finished run may claim about its subjects, in a few lines."""

import math

from rich.box import SIMPLE
from rich.table import Table

from app.cli.display import stdout_console
from medfl.config.settings import Config
from medfl.config.training_privacy import NoTrainingPrivacy
from medfl.results.store import RunStore
from pipelines.canary_check import check_canaries
from pipelines.simulate import Run


def print_guarantees(config: Config, run: Run) -> None:
    """Print every release with a finite epsilon, what the ledgers have booked, and what canaries show; else nothing."""
    store = RunStore(run.folder)
    balances = store.read_balances()
    private = [one for one in store.read_privacy().releases if math.isfinite(one.epsilon)]
    console = stdout_console()
    if private and not isinstance(config.privacy, NoTrainingPrivacy):
        table = Table(title="differential privacy, per subject", title_justify="left", box=SIMPLE)
        for name in ("site", "release", "epsilon", "delta", "adjacency", "against"):
            table.add_column(name)
        for one in private:
            cells = (f"{one.epsilon:.3g}", f"{one.delta:g}", one.adjacency, one.release_model)
            table.add_row(one.site, one.what, *cells)
        console.print(table)
    for balance in balances:
        spent, limit = ("infinite" if math.isinf(value) else f"{value:.3g}" for value in (balance.spent, balance.limit))
        console.print(
            f"ledger of {balance.site}: epsilon {spent} of {limit} spent on '{balance.data_set}' for "
            f"'{balance.purpose}', {balance.entries} releases",
            markup=False,
        )
    for check in check_canaries(config, store, tuple(run.prepared.programs)):
        sign = "CONTRADICTED" if check.flagged else "not contradicted"
        console.print(
            f"canaries of {check.site}: epsilon at least {check.lower_bound:.3g} (95 %), claimed {check.claimed:.3g}: "
            f"{sign}; {check.canaries} canaries can show at most {check.ceiling:.3g}",
            markup=False,
        )

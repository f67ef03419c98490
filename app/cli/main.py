"""The `medfl` command."""

import logging
import os
import sys
from typing import Annotated

import typer

import medfl
from app.cli.audit import audit_app, gate
from app.cli.dashboard import dashboard
from app.cli.data import data_app
from app.cli.exit_codes import FAILED, exit_code
from app.cli.export import export
from app.cli.hub import hub_app
from app.cli.key import key_app
from app.cli.ledger import ledger_app
from app.cli.log import log_app
from app.cli.plan import plan_app
from app.cli.run import compare, demo, predict, run
from app.cli.site import site_app
from medfl.errors import MedFLError

cli = typer.Typer(
    name="medfl",
    help="Federated learning for medical imaging that measures what leaks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cli.add_typer(data_app, name="data")
cli.add_typer(key_app, name="key")
cli.add_typer(audit_app, name="audit")
cli.add_typer(ledger_app, name="ledger")
cli.add_typer(plan_app, name="plan")
cli.add_typer(hub_app, name="hub")
cli.add_typer(site_app, name="site")
cli.add_typer(log_app, name="log")
cli.command()(demo)
cli.command()(run)
cli.command()(compare)
cli.command()(predict)
cli.command()(gate)
cli.command()(export)
cli.command()(dashboard)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medfl {medfl.__version__}")
        raise typer.Exit


@cli.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    del version
    if debug:
        os.environ["MEDFL_DEBUG"] = "1"
        logging.basicConfig(level=logging.INFO, force=True)
        for house in ("medfl", "pipelines", "app"):
            logging.getLogger(house).setLevel(logging.DEBUG)


def main() -> None:
    """Run the command line; errors become one or two sentences and an exit code."""
    if not logging.getLogger().handlers:  # else libraries make themselves heard on stderr
        logging.getLogger().addHandler(logging.NullHandler())
    _stay_offline()
    try:
        cli(standalone_mode=True)
    except MedFLError as error:
        if os.environ.get("MEDFL_DEBUG"):
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(exit_code(error))
    except Exception as error:
        if os.environ.get("MEDFL_DEBUG"):
            raise
        typer.echo(
            f"error: something unexpected happened ({type(error).__name__}). Run again with 'medfl --debug ...' to see "
            "where; check the output for patient data before you share it.",
            err=True,
        )
        sys.exit(FAILED)


def _stay_offline() -> None:
    """Switch off the network calls that Flower makes on its own."""
    for name in ("FLWR_DISABLE_UPDATE_CHECK", "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

"""`medfl plan rehearse`: what this site's share of a plan would give away, measured before anything leaves."""

import json
import os
import time
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import typer


def rehearse_command(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="File from 'medfl plan create'.")],
    site: Annotated[Path, typer.Option("--site", metavar="STATE", help="Folder of the site.")],
    by: Annotated[str, typer.Option("--by", help="Name of who asks for it; it goes into report and audit log.")],
    budget: Annotated[Literal["quick", "standard", "full"], typer.Option(help="How hard the attacks try.")] = "quick",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Run a plan on this site's data alone, attack what it would send, and write a signed report; nothing leaves."""
    from app.cli.display import LiveDisplay
    from app.cli.display_audits import print_verdicts
    from app.site.rehearsing import gate_objections, rehearse
    from app.site.settings import load_settings
    from medfl.governance.plan import read_plan
    from pipelines.rehearsal import LIMITS

    settings = load_settings(site)
    os.environ["MEDFL_CACHE"] = str(settings.cache)
    began = time.monotonic()

    def say(line: str) -> None:
        typer.echo(f"{time.monotonic() - began:5.0f} s  {line}", err=True)

    with LiveDisplay(quiet=True) as display:
        made = rehearse(plan, site, by=by, budget=budget, observer=display, say=say)
    found = gate_objections(read_plan(plan), settings, date.today())
    if as_json:
        verdicts = {verdict.question: verdict.status for verdict in made.report.verdicts}
        facts = {"run": str(made.run), "verdicts": verdicts, "gate": settings.policy.gate, "open": not found}
        typer.echo(json.dumps(facts | {"reasons": list(found), "limits": LIMITS}))
        return
    print_verdicts(made.report)
    typer.echo(f"\nReport: {made.run / 'audit'}\n{LIMITS}")
    if settings.policy.gate:
        typer.echo("The site's gate lets this plan through." if not found else "The site's gate is shut:")
        for reason in found:
            typer.echo(f"- {reason}")

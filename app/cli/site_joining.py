"""`medfl site enroll|run`: join a hub, and be there for it."""

import json
from pathlib import Path
from typing import Annotated

import typer

State = Annotated[Path, typer.Argument(metavar="STATE", help="The site's folder.")]


def enroll_command(
    state: State,
    answer: Annotated[Path, typer.Argument(metavar="ANSWER", help="File from the hub's operator.")],
    fingerprint: Annotated[
        str, typer.Option(help="The hub's fingerprint, from its operator by telephone or letter, not from the file.")
    ],
    by: Annotated[str, typer.Option("--by", help="Name of who compared it; it goes into the audit log.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Take the hub's answer, after comparing its fingerprint with what the operator says."""
    from app.site.enrolling import enroll

    found = enroll(state, answer, fingerprint=fingerprint, by=by)
    if as_json:
        typer.echo(json.dumps({"hub": found.hub, "address": found.address, "fingerprint": found.fingerprint}))
        return
    typer.echo(f"Enrolled at the hub '{found.hub}', {found.address}. Start with: medfl site run {state}")


def run_command(state: State) -> None:
    """Run the site until Ctrl+C or SIGTERM: answer what is approved, refuse everything else."""
    from app.site.starting import start_site

    start_site(state, say=lambda line: typer.echo(line, err=True))

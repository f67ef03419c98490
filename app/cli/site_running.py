"""`medfl site status|pause|resume|health`: a site that is at work."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from app.cli.exit_codes import FAILED

State = Annotated[Path, typer.Argument(metavar="STATE", help="The site's folder.")]
By = Annotated[str, typer.Option("--by", help="Name of who does it; it goes into the audit log.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def pause_command(state: State, by: By, as_json: Json = False) -> None:
    """Stop at once: what is in work is ended, and every message is refused until 'medfl site resume'."""
    from app.site.pause import pause

    is_new = pause(state, by=by, now=datetime.now(UTC))
    if as_json:
        typer.echo(json.dumps({"paused": True, "new": is_new}))
        return
    typer.echo("Paused. The hub gets a refusal." if is_new else "Paused already; nothing changed.")


def resume_command(state: State, by: By, as_json: Json = False) -> None:
    """Answer approved plans again after a pause."""
    from app.site.pause import resume

    is_new = resume(state, by=by)
    if as_json:
        typer.echo(json.dumps({"paused": False, "new": is_new}))
        return
    typer.echo("The site answers again." if is_new else "The site was not paused; nothing changed.")


def health_command(state: State, as_json: Json = False) -> None:
    """Say quickly whether the site's programs run: exit code 0 or 1, for a container's health check."""
    from app.site.health import health

    found = health(state)
    if as_json:
        typer.echo(json.dumps({"healthy": found.is_healthy, "reason": found.reason}))
    else:
        typer.echo("healthy" if found.is_healthy else f"error: {found.reason}", err=not found.is_healthy)
    if not found.is_healthy:
        raise typer.Exit(FAILED)


def status_command(state: State, as_json: Json = False) -> None:
    """Say whether the site runs, for which hub, what is approved, what has left, what is wrong."""
    from app.cli.display_site import status_facts, status_lines
    from app.site.status import site_state

    found = site_state(state, datetime.now(UTC).date())
    if as_json:
        typer.echo(json.dumps(status_facts(found)))
        return
    for line in status_lines(found):
        typer.echo(line)

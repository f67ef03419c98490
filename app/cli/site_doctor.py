"""`medfl site doctor|support-bundle`: what is wrong at a site, how to fix it, what to show somebody who helps."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from app.cli.exit_codes import FAILED

_MARKS = {"ok": "ok      ", "warning": "warning ", "problem": "PROBLEM ", "skipped": "skipped "}


def doctor_command(
    state: Annotated[Path, typer.Argument(metavar="STATE", help="The site's folder.")],
    offline: Annotated[bool, typer.Option("--offline", help="Ask nothing of another machine.")] = False,
    no_step: Annotated[bool, typer.Option("--no-step", help="Try no training step.")] = False,
    forbidden: Annotated[
        list[str] | None,
        typer.Option("--forbidden", metavar="HOST:PORT", help="Must not be reachable from here; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Check settings, secrets, hub, machine, data and plans; exit code 1 where something is wrong."""
    from app.site.doctor.examine import examine

    found = []
    for one in examine(
        state, datetime.now(UTC), is_offline=offline, with_step=not no_step, forbidden=tuple(forbidden or ())
    ):
        found.append(one)
        if not as_json:
            typer.echo(f"{_MARKS[one.status]}{one.check}: {one.found}")
            if one.fix:
                typer.echo(f"        {one.fix}")
    is_ok = all(one.status != "problem" for one in found)
    if as_json:
        typer.echo(json.dumps({"ok": is_ok, "findings": [asdict(one) for one in found]}))
    if not is_ok:
        raise typer.Exit(FAILED)


def support_bundle_command(
    state: Annotated[Path, typer.Argument(metavar="STATE", help="The site's folder.")],
    out: Annotated[Path, typer.Option("--out", help="New zip file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Collect what somebody who helps may see: no patient, no key, no path, no name. Asks nobody."""
    from app.site.support_bundle import write_support_bundle

    names = write_support_bundle(state, out, datetime.now(UTC))
    if as_json:
        typer.echo(json.dumps({"bundle": str(out), "members": list(names)}))
        return
    typer.echo(f"Wrote {out}: {', '.join(names)}. Look at it before you send it.")

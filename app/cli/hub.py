"""`medfl hub`: coordinate a federation."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

hub_app = typer.Typer(help="Coordinate a federation: take sites in, run plans.", no_args_is_help=True)

Hub = Annotated[Path, typer.Argument(metavar="HUB", help="The hub's folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@hub_app.command("init")
def init_command(
    hub: Annotated[Path, typer.Argument(metavar="HUB", help="New or empty folder.")],
    name: Annotated[str, typer.Option(help="Of the hub.")],
    host: Annotated[str, typer.Option(help="Name or address that sites connect to.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="The only open one.")] = 8443,
    other_hosts: Annotated[list[str] | None, typer.Option("--also", help="One more name or address of it.")] = None,
    as_json: Json = False,
) -> None:
    """Make a hub: its folder, its private authority and its server's certificate."""
    from app.hub.init import init_hub

    made, fingerprint = init_hub(
        hub, name=name, host=host, port=port, now=datetime.now(UTC), other_hosts=tuple(other_hosts or ())
    )
    if as_json:
        typer.echo(json.dumps({"hub": str(made.state), "address": made.address, "fingerprint": fingerprint}))
        return
    typer.echo(f"Made the hub '{made.name}' in {hub}; sites will connect to {made.address}.")
    typer.echo(f"Fingerprint, to be told to every site by telephone or letter:\n{fingerprint}")
    typer.echo(f"Start it with: medfl hub start {hub}")


@hub_app.command("enroll")
def enroll_command(
    hub: Hub,
    request: Annotated[Path, typer.Argument(metavar="REQUEST", help="The site's enrolment-request.json.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write the answer to the site.")],
    as_json: Json = False,
) -> None:
    """Take a site in: it may connect, and gets one file with the address and the certificate of the authority."""
    from app.hub.enrolling import enroll

    made = enroll(hub, request, out, datetime.now(UTC))
    if as_json:
        facts = {"site": made.answer.site, "new": made.is_new, "answer": str(out)}
        typer.echo(json.dumps(facts | {"fingerprint": made.answer.fingerprint}))
        return
    typer.echo(f"The site '{made.answer.site}' is {'now' if made.is_new else 'already'} enrolled. Send it {out}.")
    typer.echo(f"Tell its administrator the fingerprint another way:\n{made.answer.fingerprint}")


@hub_app.command("unenroll")
def unenroll_command(
    hub: Hub, site: Annotated[str, typer.Argument(metavar="SITE", help="Name of the site.")], as_json: Json = False
) -> None:
    """Shut a site out; a running hub ends its connection within seconds."""
    from app.hub.enrolling import unenroll

    unenroll(hub, site)
    typer.echo(json.dumps({"site": site, "enrolled": False}) if as_json else f"The site '{site}' is shut out.")


@hub_app.command("start")
def start_command(hub: Hub) -> None:
    """Run the hub until Ctrl+C, SIGTERM or 'medfl hub stop'; interrupted runs go on."""
    from app.hub.start import start_hub

    start_hub(hub, say=lambda line: typer.echo(line, err=True))


@hub_app.command("stop")
def stop_command(hub: Hub, as_json: Json = False) -> None:
    """End a running hub; its runs go on when it is started again."""
    from app.hub.stop import stop_hub

    was_running = stop_hub(hub)
    if as_json:
        typer.echo(json.dumps({"running": False, "was_running": was_running}))
        return
    typer.echo("The hub has stopped." if was_running else "The hub did not run.")


@hub_app.command("submit")
def submit_command(
    hub: Hub,
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="File from 'medfl plan create'.")],
    follow: Annotated[bool, typer.Option("--follow", help="Wait until the run ends; say every round.")] = False,
    as_json: Json = False,
) -> None:
    """Start the run of a plan at its sites; each takes part only if its administrator approved this very plan."""
    from app.cli.display_hub import round_line, run_facts
    from app.hub.following import follow as rounds_of
    from app.hub.submit import submit

    made = submit(hub, plan, datetime.now(UTC))
    if not as_json:
        typer.echo(f"Started {made.folder.name}; run folder {made.folder}")
    if follow:
        for record in rounds_of(hub, made.submission.plan_sha256):
            typer.echo(round_line(record, made.submission.rounds), err=True)
    if as_json:
        typer.echo(json.dumps(run_facts(made)))
    elif follow:
        typer.echo("Finished.")


@hub_app.command("cancel")
def cancel_command(
    hub: Hub,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Its name in 'medfl hub status'.")],
    as_json: Json = False,
) -> None:
    """End one run: no site is asked again until its plan is submitted again."""
    from app.cli.display_hub import run_facts
    from app.hub.cancel import cancel

    found = cancel(hub, run, datetime.now(UTC))
    if as_json:
        typer.echo(json.dumps(run_facts(found)))
        return
    typer.echo(f"Cancelled {run} after round {found.round} of {found.submission.rounds}; what sites sent stays here.")


@hub_app.command("status")
def status_command(hub: Hub, as_json: Json = False) -> None:
    """Say whether the hub is at work, which sites are connected and how far its runs are."""
    from app.cli.display_hub import status_facts, status_lines
    from app.hub.status import hub_state

    found = hub_state(hub)
    if as_json:
        typer.echo(json.dumps(status_facts(found)))
        return
    for line in status_lines(found):
        typer.echo(line)


@hub_app.command("renew")
def renew_command(hub: Hub, as_json: Json = False) -> None:
    """Give the hub's server a new certificate by the same authority; sites need nothing new."""
    from app.hub.init import renew

    ends = renew(hub, datetime.now(UTC))
    if as_json:
        typer.echo(json.dumps({"ends": ends.isoformat()}))
        return
    typer.echo(f"The new certificate is good until {ends:%Y-%m-%d}. A running hub shows it after a restart.")

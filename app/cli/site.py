"""`medfl site`: set up and run a hospital's side."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from app.cli.site_doctor import doctor_command, support_bundle_command
from app.cli.site_joining import enroll_command, run_command
from app.cli.site_running import health_command, pause_command, resume_command, status_command

site_app = typer.Typer(help="Set up and run a hospital's side.", no_args_is_help=True)

State = Annotated[Path, typer.Argument(metavar="STATE", help="The site's folder.")]
By = Annotated[str, typer.Option("--by", help="Name of who does it; it goes into the audit log.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@site_app.command("init")
def init_command(
    state: Annotated[Path, typer.Argument(metavar="STATE", help="New or empty folder.")],
    name: Annotated[str, typer.Option(help="Of the site, as plans will name it.")],
    manifest: Annotated[Path, typer.Option(help="Manifest of the site's data, from 'medfl data import'.")],
    by: By,
    hub: Annotated[str, typer.Option(help="HOST:PORT of the hub, where it is known already.")] = "",
    as_json: Json = False,
) -> None:
    """Make a site: its folder, its settings and its key pair; the private key never leaves this machine."""
    from app.site.init import init_site

    made = init_site(state, name=name, manifest=manifest, hub=hub, by=by, now=datetime.now(UTC))
    if as_json:
        typer.echo(json.dumps({"state": str(made.state), "public_key": made.public_key, "request": str(made.request)}))
        return
    typer.echo(f"Made the site '{name}' in {state}.")
    typer.echo(f"Look at {state / 'site.yaml'}: it says what this hospital allows.")
    typer.echo(f"Send {made.request} to the hub's operator; nothing in it is secret.")


@site_app.command("withdraw")
def withdraw_command(
    state: State,
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="Pseudonym, as in the site's manifest.")],
    by: By,
    ahead: Annotated[
        bool, typer.Option("--ahead", help="Also where nothing knows the pseudonym yet; it may never be imported.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Never use a subject's data again here; lists the runs and models that it was part of."""
    from app.site.withdrawing import LIMITS, withdraw

    found = withdraw(subject, state, by=by, now=datetime.now(UTC), is_expected=not ahead)
    runs = [
        {"run": run.name, "sha256": run.plan, "releases": list(run.releases), "in_training": run.in_training}
        for run in found.affected.runs
    ]
    if as_json:
        facts = {"new": found.is_new, "studies": found.studies, "digest": found.digest, "runs": runs}
        typer.echo(json.dumps(facts | {"unknown_runs": list(found.affected.unknown), "limits": LIMITS}))
        return
    typer.echo("Excluded from now on." if found.is_new else "Excluded already.")
    typer.echo(f"{found.studies} studies in the manifest are no longer used; {found.cleared} prepared copies deleted.")
    for run in found.affected.runs:
        part = "trained on" if run.in_training else "judged by"
        typer.echo(f"Affected: run {run.name}: its models were {part} this subject; {len(run.releases)} releases left.")
    for name in found.affected.unknown:
        typer.echo(f"Perhaps affected: run {name} kept no list of its subjects.")
    typer.echo(LIMITS)


@site_app.command("purge")
def purge_command(
    state: State,
    by: By,
    plan: Annotated[str, typer.Argument(metavar="[PLANHASH]", help="Hash of the plan, or its first 12 digits.")] = "",
    expired: Annotated[
        bool, typer.Option("--expired", help="Every plan whose time of retention (policy.retention_days) has ended.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Delete what runs of a plan left here after its approval ended; approvals, ledger and audit log are kept."""
    from app.site.purge import purge, purge_expired

    if bool(plan) == expired:
        raise typer.BadParameter("name one plan by its hash, or give --expired.", param_hint="PLANHASH")
    now = datetime.now(UTC)
    done = purge_expired(state, by=by, now=now) if expired else (purge(state, plan, by=by, now=now),)
    if as_json:
        typer.echo(json.dumps({"purged": [asdict(one) for one in done]}))
        return
    for one in done:
        typer.echo(f"{one.plan_sha256[:12]} {one.plan}: {one.files} files deleted, {one.nbytes:,} bytes.")
        if one.is_shared:
            typer.echo("Its run folder stays: a plan with the same settings is still approved.")
    if not done:
        typer.echo("Nothing has outlived its retention.")


site_app.command("enroll")(enroll_command)
site_app.command("run")(run_command)
site_app.command("doctor")(doctor_command)
site_app.command("support-bundle")(support_bundle_command)
site_app.command("status")(status_command)
site_app.command("pause")(pause_command)
site_app.command("resume")(resume_command)
site_app.command("health")(health_command)

"""`medfl plan`: propose a run to hospitals, read what it would do, approve it, take the approval back."""

import json
import shlex
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.plan_rehearsing import rehearse_command

if TYPE_CHECKING:
    from app.site.approving import Viewed

plan_app = typer.Typer(help="Propose a run to hospitals; read, approve or revoke one.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(metavar="PLAN", help="File from 'medfl plan create'.")]
Site = Annotated[Path, typer.Option("--site", metavar="STATE", help="Folder of the site, from 'medfl site init'.")]
By = Annotated[str, typer.Option("--by", help="Name of who decides; it goes into the audit log.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day.")]


@plan_app.command("create")
def create_command(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file with the settings of the run.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write the plan.")],
    protocol: Annotated[str, typer.Option(help="Study protocol or ethics vote.")],
    legal_basis: Annotated[str, typer.Option(help="For example consent, or a research exemption.")],
    purpose: Annotated[str, typer.Option(help="What the run is for.")],
    contact: Annotated[str, typer.Option(help="Who answers questions.")],
    expires: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="Last day that a site may take part.")],
    sites: Annotated[str, typer.Option(help="Comma-separated names of the hospitals.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Replace one setting, e.g. training.rounds=3.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a plan: everything a run will do at a hospital, in one file with one hash."""
    from medfl.config.reading import load_config
    from medfl.errors import ConfigError
    from medfl.governance.plan import write_plan
    from pipelines.site_plan import Reasons, propose

    if out.exists():
        raise ConfigError(f"--out must be a new file; {out.name} exists.")
    reasons = Reasons(protocol, legal_basis, purpose, contact, expires.date())
    named = tuple(name.strip() for name in sites.split(",") if name.strip())
    plan = propose(load_config(config, tuple(settings or ())), reasons, named)
    try:
        write_plan(plan, out)
    except OSError as error:
        raise ConfigError(f"--out must be writable; it is not ({error.strerror}).") from error
    if as_json:
        typer.echo(json.dumps({"plan": str(out), "sha256": plan.sha256()}))
        return
    typer.echo(
        f"Wrote {out}\nsha256 {plan.sha256()}\nRead it as a hospital will: medfl plan show {shlex.quote(str(out))}"
    )


@plan_app.command("show")
def show_command(
    plan: File,
    site: Annotated[
        Path | None, typer.Option("--site", metavar="STATE", help="Folder of the site; also checks its policy.")
    ] = None,
    manifest: Annotated[Path | None, typer.Option(help="Count this manifest's subjects and studies.")] = None,
    arrays: Annotated[bool, typer.Option("--arrays", help="List every array, not only the first ones.")] = False,
    as_json: Json = False,
) -> None:
    """Say in plain words what a plan would do: what runs, on which data, what leaves, how it is protected."""
    from app.cli.display_plan import plan_lines
    from app.site.approving import view
    from pipelines.plan_summary import summary_of

    viewed = view(plan, date.today(), state=site, manifest=manifest)
    summary = summary_of(viewed.plan, viewed.config, viewed.egress, viewed.counts)
    summary |= _of_site(viewed)
    summary["approve"] = _command(plan, site, summary["sha256"])
    if as_json:
        typer.echo(json.dumps(summary, allow_nan=False))
        return
    for line in plan_lines(summary, whole=arrays):
        typer.echo(line)


@plan_app.command("approve")
def approve_command(
    plan: File,
    site: Site,
    by: By,
    sha256: Annotated[str, typer.Option(help="Hash of the plan that was read, as 'medfl plan show' prints it.")],
    expires: Day = None,
    as_json: Json = False,
) -> None:
    """Let this site take part in a run; nothing runs that nobody approved."""
    from app.site.approving import approve

    ends = None if expires is None else expires.date()
    found = approve(plan, site, by=by, sha256=sha256, now=datetime.now(UTC), expires=ends)
    if as_json:
        facts = {"plan_sha256": found.plan_sha256, "bundle_sha256": found.bundle_sha256}
        typer.echo(json.dumps(facts | {"approved_by": found.approved_by, "expires": found.expires.isoformat()}))
        return
    typer.echo(f"Approved '{found.plan.name}' until {found.expires}, by {found.approved_by}.")
    typer.echo(f"Take it back at any time: medfl plan revoke {found.plan_sha256[:12]} --site {site} --by NAME")


@plan_app.command("revoke")
def revoke_command(
    sha256: Annotated[str, typer.Argument(metavar="SHA256", help="Hash of the plan, or its first 12 digits.")],
    site: Site,
    by: By,
    as_json: Json = False,
) -> None:
    """Take an approval back; it counts from the next message on. What has left the site stays where it went."""
    from app.site.approving import revoke

    found = revoke(sha256, site, by=by, now=datetime.now(UTC))
    if as_json:
        typer.echo(json.dumps({"plan_sha256": found.plan_sha256, "revoked_by": found.revoked_by}))
        return
    typer.echo(f"Revoked '{found.plan.name}'. What left before stays where it went; see 'medfl log show'.")


@plan_app.command("list")
def list_command(site: Site, as_json: Json = False) -> None:
    """List every decision of a site."""
    from medfl.governance.approvals import Approvals

    today, facts = date.today(), []
    for one in Approvals(site).all():
        state = "revoked" if one.revoked_at else "expired" if today > one.expires else "approved"
        facts.append(
            {
                "plan": one.plan.name,
                "plan_sha256": one.plan_sha256,
                "state": state,
                "by": one.revoked_by or one.approved_by,
                "expires": one.expires.isoformat(),
            }
        )
    if as_json:
        typer.echo(json.dumps({"decisions": facts}))
        return
    for fact in facts:
        typer.echo(
            f"{fact['plan_sha256'][:12]}  {fact['state']:8}  until {fact['expires']}  {fact['plan']}, {fact['by']}"
        )
    if not facts:
        typer.echo("Nothing is approved; this site refuses every run.")


plan_app.command("rehearse")(rehearse_command)


def _of_site(viewed: "Viewed") -> dict[str, object]:
    if viewed.settings is None:
        return {"site": None, "objections": None}
    policy = viewed.settings.policy
    return {
        "site": viewed.settings.name,
        "objections": [{"code": one.code, "text": one.text} for one in viewed.objections],
        "margins": policy.audit.margins.model_dump(),
        "gate": policy.gate,
    }


def _command(plan: Path, site: Path | None, sha256: str) -> str:
    where = "STATE" if site is None else shlex.quote(str(site))
    return f"medfl plan approve {shlex.quote(str(plan))} --site {where} --by 'YOUR NAME' --sha256 {sha256}"

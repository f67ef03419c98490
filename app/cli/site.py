"""`medfl site`: set up and run a hospital's side."""

import json
from pathlib import Path
from typing import Annotated

import typer

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

    made = init_site(state, name=name, manifest=manifest, hub=hub, by=by)
    if as_json:
        typer.echo(json.dumps({"state": str(made.state), "public_key": made.public_key}))
        return
    typer.echo(f"Made the site '{name}' in {state}.")
    typer.echo(f"Look at {state / 'site.yaml'}: it says what this hospital allows.")
    typer.echo(f"Public key: {made.public_key}")

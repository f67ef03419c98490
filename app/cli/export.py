"""`medfl export`."""

import json
from pathlib import Path
from typing import Annotated

import typer


def export(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the bundle; new or empty.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Write a trained model as a MONAI Bundle. Research use only."""
    from pipelines.bundle import export_bundle

    bundle = export_bundle(run_folder, out)
    typer.echo(json.dumps({"bundle": str(bundle)}) if as_json else f"Bundle: {bundle}")

"""`medfl data`: import what a site has, check it, list and fetch public sets."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress as ProgressBar

if TYPE_CHECKING:
    from medfl.data.check import CheckReport
    from medfl.data.intake import ImportReport, Progress

_LINES_SHOWN = 5

data_app = typer.Typer(help="Import, check, list and fetch studies.", no_args_is_help=True)
import_app = typer.Typer(
    help="Turn a site's files into a manifest; unreadable ones are set aside.", no_args_is_help=True
)
data_app.add_typer(import_app, name="import")

Out = Annotated[Path, typer.Option(help="Folder for manifest.csv, quarantine.csv and pseudonym.key.")]
Site = Annotated[str, typer.Option(help="Name of the site of all studies.")]
Pattern = Annotated[
    str, typer.Option(help="Regular expression over the file name with a group (?P<subject>...), maybe (?P<visit>...).")
]
Copy = Annotated[bool, typer.Option("--copy", help="Write images again under pseudonyms instead of pointing at them.")]
Key = Annotated[Path | None, typer.Option(help="Pseudonym key file, to name the same person alike in several imports.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@import_app.command("nifti")
def import_nifti_command(
    images: Annotated[Path, typer.Argument(help="Folder of NIfTI images.")],
    out: Out,
    targets: Annotated[Path | None, typer.Option(help="Folder of masks with the same names.")] = None,
    subject_pattern: Pattern = "",
    site: Site = "",
    copy: Copy = False,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Import NIfTI volumes, with masks of the same names."""
    from medfl.data.importing import import_nifti

    with _progress("Reading images") as progress:
        report = import_nifti(
            images,
            out,
            targets=targets,
            subject_pattern=subject_pattern,
            site=site,
            copy=copy,
            key=_load_key(key),
            progress=progress,
        )
    _print_import(report, as_json)


@import_app.command("folder")
def import_folder_command(
    images: Annotated[
        Path, typer.Argument(help="Folder of pictures, one subfolder per class unless --index is given.")
    ],
    out: Out,
    index: Annotated[Path | None, typer.Option(help="CSV file that lists the pictures.")] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="field=COLUMN of the index, e.g. image=file; may be repeated.")
    ] = None,
    drop_if_set: Annotated[str, typer.Option(help="Leave out index rows with a value in this column.")] = "",
    targets: Annotated[Path | None, typer.Option(help="Folder of masks that the index names.")] = None,
    subject_pattern: Pattern = "",
    site: Site = "",
    copy: Copy = False,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Import PNG or JPEG pictures."""
    from medfl.data.importing import import_folder
    from medfl.data.index_table import parse_columns

    with _progress("Reading images") as progress:
        report = import_folder(
            images,
            out,
            index=index,
            columns=parse_columns(column, drop_if_set=drop_if_set) if column else None,
            targets=targets,
            subject_pattern=subject_pattern,
            site=site,
            copy=copy,
            key=_load_key(key),
            progress=progress,
        )
    _print_import(report, as_json)


@import_app.command("dicom")
def import_dicom_command(
    folder: Annotated[Path, typer.Argument(help="Folder of DICOM files, searched with its subfolders.")],
    out: Out,
    site: Site = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Convert DICOM series to NIfTI volumes under pseudonyms."""
    from medfl.data.importing import import_dicom

    with _progress("Reading series") as progress:
        report = import_dicom(folder, out, site=site, key=_load_key(key), progress=progress)
    _print_import(report, as_json)


@data_app.command("phantoms")
def phantoms_command(
    out: Annotated[Path, typer.Option(help="New or empty folder for images, masks and manifest.csv.")],
    site: Annotated[str, typer.Option(help="Name of the site that the made-up patients are at.")],
    subjects: Annotated[int, typer.Option(min=1, help="How many made-up patients.")] = 30,
    visits: Annotated[int, typer.Option(min=1, help="Studies of each.")] = 2,
    dimensions: Annotated[int, typer.Option(min=2, max=3, help="2 (PNG) or 3 (NIfTI).")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Another one for every site.")] = 0,
    as_json: Json = False,
) -> None:
    """Write a site of made-up patients, to try everything without anybody's data."""
    from medfl.data.manifest import write_manifest
    from medfl.data.phantoms import make_phantoms
    from medfl.errors import ConfigError

    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"--out must be a new or empty folder; {out.name} holds something.")
    made = make_phantoms(out, dimensions=dimensions, subjects=subjects, visits=visits, sites=1, seed=seed)
    rows = tuple(replace(row, site=site, split="") for row in made.rows)
    manifest = out / "manifest.csv"
    write_manifest(replace(made, rows=rows), manifest)
    if as_json:
        typer.echo(json.dumps({"manifest": str(manifest), "subjects": subjects, "studies": len(rows)}))
        return
    typer.echo(f"{len(rows)} studies of {subjects} made-up subjects: {manifest}")


@data_app.command("check")
def check_command(
    manifest: Annotated[Path, typer.Argument(help="Manifest to check.")],
    expect: Annotated[str, typer.Option(help="Values that masks may hold, e.g. 0,1,2.")] = "",
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings, too.")] = False,
    as_json: Json = False,
) -> None:
    """Read every file of a manifest; exit 1 if something is wrong."""
    from medfl.data.check import check_manifest, parse_values
    from medfl.data.manifest import read_manifest
    from medfl.imaging.bounded import BoundedReader

    rows = read_manifest(manifest)
    with _progress("Checking studies") as progress, BoundedReader() as reader:
        report = check_manifest(rows, reader, expected_values=parse_values(expect), progress=progress)
    typer.echo(report.to_json() if as_json else "\n".join(_check_lines(report)))
    if not report.is_ok or (strict and report.findings):
        raise typer.Exit(1)


@data_app.command("list")
def list_command(as_json: Json = False) -> None:
    """List public sets that can be fetched."""
    from medfl.data.catalog import list_sets

    sets = list_sets()
    if as_json:
        typer.echo(json.dumps({"sets": [{"name": known.name, "url": known.url, "md5": known.md5} for known in sets]}))
    else:
        typer.echo("\n".join(f"{known.name:24} {known.url}" for known in sets))


@data_app.command("fetch")
def fetch_command(
    name: Annotated[str, typer.Argument(help="A name from `medfl data list`.")],
    out: Annotated[Path, typer.Option(help="Folder to put the set in.")],
    base_url: Annotated[str | None, typer.Option(help="Mirror that holds the archive.")] = None,
    as_json: Json = False,
) -> None:
    """Download a public set, verify its checksum and unpack it."""
    from medfl.data.catalog import fetch

    folder = fetch(name, out, base_url=base_url, show_progress=sys.stderr.isatty())
    typer.echo(json.dumps({"folder": str(folder)}) if as_json else str(folder))


@contextmanager
def _progress(title: str) -> Iterator["Progress"]:
    """Draw a bar on stderr while a terminal is there to see it."""
    with ProgressBar(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _load_key(path: Path | None) -> bytes | None:
    from medfl.imaging.deidentify import load_pseudonym_key

    return None if path is None else load_pseudonym_key(path)


def _print_import(report: "ImportReport", as_json: bool) -> None:
    facts = report.to_dict()
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"{facts['studies']} studies of {facts['subjects']} subjects: {facts['manifest']}")
    if report.quarantined:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report.reasons().items())
        typer.echo(f"{len(report.quarantined)} files set aside ({reasons}): {facts['quarantine']}")
    for note in report.notes:
        typer.echo(note)


def _check_lines(report: "CheckReport") -> Iterator[str]:
    yield f"{report.studies} studies of {report.subjects} subjects"
    for site in report.sites:
        splits = f"train {site.train}, val {site.val}, test {site.test}, unassigned {site.unassigned}"
        yield f"  site {site.site or '(none)'}: {site.subjects} subjects ({splits}), {site.studies} studies"
    for grid in report.geometry:
        shapes = f"{'x'.join(map(str, grid.shape_min))} to {'x'.join(map(str, grid.shape_max))}"
        low, high = (", ".join(f"{mm:.3g}" for mm in side) for side in (grid.spacing_min_mm, grid.spacing_max_mm))
        yield f"  {grid.studies} images of {shapes}, spacing ({low}) to ({high}) mm, channels {grid.channels}"
    if report.classes:
        yield "  classes: " + ", ".join(f"{name} {count}" for name, count in report.classes)
    if report.mask_values:
        yield "  mask values: " + ", ".join(f"{value:g} in {count}" for value, count in report.mask_values)
    for finding in report.findings:
        shown = ", ".join(map(str, finding.lines[:_LINES_SHOWN])) + (
            " ..." if len(finding.lines) > _LINES_SHOWN else ""
        )
        yield f"{finding.level}: {finding.code}, line {shown}: {finding.sentence}"
    yield "ok" if report.is_ok else "not ok"

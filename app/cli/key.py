"""`medfl key`: make, show, hand over, rotate and revoke the keys of the keyed transform."""

import json
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from medfl.privacy.key_files import KeyInfo, KeyState

key_app = typer.Typer(help="Make, show, wrap, rotate and revoke keys.", no_args_is_help=True)

Key = Annotated[Path, typer.Argument(metavar="KEY", help="Key file.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
NotAfter = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day of use (UTC).")]
ImageCap = Annotated[int | None, typer.Option(min=1, help="Most images released under one key.")]


@key_app.command("create")
def create_command(
    path: Annotated[Path, typer.Argument(help="New file; only you can read it.")],
    kind: Annotated[
        Literal["federation", "site"], typer.Option(help="Shared by the federation, or of this site alone.")
    ] = "site",
    identity: Annotated[
        bool, typer.Option("--identity", help="Make the key pair that others wrap keys for, public part in PATH.pub.")
    ] = False,
    not_after: NotAfter = None,
    image_cap: ImageCap = None,
    as_json: Json = False,
) -> None:
    """Make a new key, or with --identity a key pair."""
    from medfl.privacy.key_files import KeyFile, describe
    from medfl.privacy.key_wrapping import Identity

    if identity:
        if not_after or image_cap:
            raise typer.BadParameter("--identity makes a key pair, which has no last day and no cap.")
        public = Identity.create(path).public_key()
        facts = {"private": str(path), "public": f"{path}.pub", "public_key": public}
        typer.echo(json.dumps(facts) if as_json else f"{public}\nGive {path}.pub away and keep {path} to yourself.")
        return
    KeyFile.create(path, kind, not_after=_day(not_after), image_cap=image_cap)
    _print(*describe(path), as_json)


@key_app.command("show")
def show_command(path: Key, as_json: Json = False) -> None:
    """Show what a key is and how much is used; never the key itself."""
    from medfl.privacy.key_files import describe

    _print(*describe(path), as_json)


@key_app.command("wrap")
def wrap_command(
    path: Key,
    to: Annotated[Path, typer.Option(help="Public key file of the recipient.")],
    out: Annotated[Path, typer.Option(help="New file to send; it is of use to the recipient alone.")],
    as_json: Json = False,
) -> None:
    """Wrap a key for one recipient."""
    from medfl.privacy.key_files import describe, write_private
    from medfl.privacy.key_wrapping import read_line, wrap_key_file

    write_private(out, wrap_key_file(path, read_line(to)).encode())
    info, _ = describe(path)
    facts = {"wrapped": str(out), "key_id": info.key_id}
    sentence = f"{out} holds key {info.key_id}. Tell the recipient this key id over another channel."
    typer.echo(json.dumps(facts) if as_json else sentence)


@key_app.command("unwrap")
def unwrap_command(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Wrapped key that was sent to you.")],
    identity: Annotated[Path, typer.Option(help="Your private key, from `medfl key create --identity`.")],
    out: Annotated[Path, typer.Option(help="New key file; only you can read it.")],
    as_json: Json = False,
) -> None:
    """Take a key that was wrapped for you into use."""
    from medfl.privacy.key_files import describe
    from medfl.privacy.key_wrapping import Identity, read_line, unwrap_key_file

    unwrap_key_file(read_line(path), Identity.load(identity), out)
    _print(*describe(out), as_json)
    if not as_json:
        typer.echo("A wrapped key does not say who sent it: compare the key id with the sender before you use it.")


@key_app.command("rotate")
def rotate_command(
    path: Key,
    out: Annotated[Path, typer.Option(help="New key file; only you can read it.")],
    revoke_old: Annotated[bool, typer.Option("--revoke-old", help="Destroy the old key.")] = False,
    not_after: NotAfter = None,
    image_cap: ImageCap = None,
    as_json: Json = False,
) -> None:
    """Make the key of the next epoch."""
    from medfl.privacy.key_files import describe, rotate

    rotate(path, out, not_after=_day(not_after), image_cap=image_cap, revoke_old=revoke_old)
    _print(*describe(out), as_json)


@key_app.command("revoke")
def revoke_command(
    path: Key,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Refuse every further use of a key and destroy it here; nothing that was released is recalled."""
    from medfl.privacy.key_files import describe, revoke

    if not yes:
        typer.confirm(f"Destroy the key {path}? It cannot be undone.", abort=True, err=True)
    revoke(path)
    _print(*describe(path), as_json)


def _day(moment: datetime | None) -> date | None:
    return None if moment is None else moment.date()


def _print(info: "KeyInfo", state: "KeyState", as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({**vars(info), **vars(state)}, default=date.isoformat))
        return
    typer.echo(f"key {info.key_id}: {info.kind}, epoch {info.epoch}, made on {info.created}")
    typer.echo(f"  last day of use: {info.not_after or 'none'}")
    cap = "none" if info.image_cap is None else f"{info.image_cap} under each key derived from it"
    typer.echo(f"  cap on released images: {cap}")
    for key_id, images in state.released.items():
        typer.echo(f"  released under {key_id}: {images}")
    if state.revoked_on is not None:
        typer.echo(f"  revoked on {state.revoked_on}; what was released before stays out there")

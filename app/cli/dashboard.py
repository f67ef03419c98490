"""`medfl dashboard`."""

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from medfl.errors import ConfigError

if TYPE_CHECKING:
    from app.dashboard.settings import Role


def dashboard(
    runs: Annotated[Path, typer.Argument(metavar="RUNS", help="A run folder, or a folder of run folders.")],
    site: Annotated[
        Path | None, typer.Option("--site", help="The site's state folder: ledger, flags, manifest.")
    ] = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port on this computer.")] = 8501,
    role: Annotated[
        str, typer.Option("--role", help="Role of whoever uses this computer; without one nothing can be written.")
    ] = "",
    trust_proxy: Annotated[
        bool, typer.Option("--trust-proxy", help="Take names and roles from a proxy's headers; see docs/dashboard.md.")
    ] = False,
    address: Annotated[
        str, typer.Option("--address", help="Address to listen at; another than loopback needs --trust-proxy.")
    ] = "127.0.0.1",
    host: Annotated[str, typer.Option("--host", help="Name under which browsers reach the proxy.")] = "",
) -> None:
    """Show runs in a browser: cases, this site, privacy, training. Research use only."""
    from app.dashboard.settings import DashboardSettings, Role

    roles = get_args(Role)
    if role and role not in roles:
        raise typer.BadParameter(f"must be one of {', '.join(roles)}.", param_hint="--role")
    if role and trust_proxy:
        raise typer.BadParameter("roles come from the proxy or from here, not from both.", param_hint="--role")
    if not _is_loopback(address) and not trust_proxy:
        raise typer.BadParameter(
            "must be a loopback address, for everybody who reaches the dashboard sees it; with --trust-proxy it may be "
            "another.",
            param_hint="--address",
        )
    for name, place in (("RUNS", runs), ("--site", site)):
        if place is not None and not place.is_dir():
            raise ConfigError(f"{name} must be a folder; it is not.")
    settings = DashboardSettings(
        runs=runs.resolve(),
        site=None if site is None else site.resolve(),
        trust_proxy=trust_proxy,
        local_role=cast("Role", role) if role else None,
    )
    try:
        from app.dashboard.serving import serve
    except ImportError as error:
        raise ConfigError("The dashboard needs: pip install 'medfl[dashboard]'") from error
    typer.echo(f"Dashboard: http://{_shown(address)}:{port} (stop with Ctrl+C)", err=True)
    serve(settings, port=port, address=address, host=host)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _shown(address: str) -> str:
    return f"[{address}]" if ":" in address else address

"""The dashboard's server: Streamlit, told to keep to itself."""

import os
import pkgutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import streamlit
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from app.dashboard import screens
from app.dashboard.security import Hardened
from app.dashboard.settings import DashboardSettings
from app.dashboard.theme import THEME

LOOPBACK = "127.0.0.1"
MAIN = Path(__file__).with_name("main.py")


def options(*, port: int, address: str = LOOPBACK, host: str = "") -> dict[str, Any]:
    """Return Streamlit's settings: nothing is reported, nothing is fetched, errors stay on this side.

    Parameters
    ----------
    port : int
        0 takes a free one.
    address : str
        To listen at.
    host : str
        Name under which browsers reach the dashboard through a proxy; "" without one.
    """
    allowed = ["localhost", LOOPBACK, "[::1]", *([host] if host else [])]
    return {
        "server.headless": True,
        "server.address": address,
        "server.port": port,
        "server.fileWatcherType": "none",
        "server.runOnSave": False,
        "server.allowedHosts": allowed,
        "server.enableCORS": True,
        "server.enableXsrfProtection": True,
        "server.enableStaticServing": False,
        "server.enableAgentApi": False,
        "server.maxUploadSize": 1,
        "server.disconnectedSessionTTL": 60,
        "browser.gatherUsageStats": False,
        "browser.serverAddress": host or "localhost",
        "client.showErrorDetails": "none",
        "client.showErrorLinks": False,
        "client.toolbarMode": "minimal",
        "client.disableDataExport": True,
        "logger.hideWelcomeMessage": True,
        "global.developmentMode": False,
        **THEME,
    }


def application(settings: DashboardSettings) -> streamlit.App:
    """Return the application; `/health` answers when the server does."""
    os.environ.update(settings.environment())
    page = (Path(streamlit.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
    return streamlit.App(MAIN, routes=[Route("/health", _health)], middleware=[Middleware(Hardened, page=page)])


def serve(settings: DashboardSettings, *, port: int, address: str = LOOPBACK, host: str = "") -> None:
    """Run the server until it is interrupted; the first visitor does not wait for imports."""
    for module in pkgutil.iter_modules(screens.__path__):
        import_module(f"{screens.__name__}.{module.name}")
    chosen: Mapping[str, Any] = options(port=port, address=address, host=host)
    application(settings).run(config=chosen)


async def _health(request: Request) -> PlainTextResponse:
    """Say that the server is there."""
    del request
    return PlainTextResponse("ok")

"""Runs the hub's door: `python -m app.hub.serve_proxy SETTINGS.json`."""

import ssl
import sys
from pathlib import Path

import uvicorn
from pydantic import BaseModel, ConfigDict

import medfl
from app.hub.proxy import HttpUpstream, proxy

_MOST_AT_ONCE = 300
_KEEP_ALIVE_S = 30


class ProxySettings(BaseModel):
    """What the door has to know.

    Attributes
    ----------
    listen : str
    port : int
    certificate, private_key : Path
        Of the server.
    ca : Path
        Of the authority that the SuperLink's certificate is from.
    superlink : int
        Port on loopback.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: str
    port: int
    certificate: Path
    private_key: Path
    ca: Path
    superlink: int


def main(path: Path) -> None:
    """Serve until a signal comes."""
    settings = ProxySettings.model_validate_json(path.read_bytes())
    inside = ssl.create_default_context(cafile=str(settings.ca))
    inside.minimum_version = ssl.TLSVersion.TLSv1_2
    application = proxy(HttpUpstream(f"https://localhost:{settings.superlink}", inside), version=medfl.__version__)
    config = uvicorn.Config(
        application,
        host=settings.listen,
        port=settings.port,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.private_key,
        ssl_ciphers="ECDHE+AESGCM:ECDHE+CHACHA20",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_AT_ONCE,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=1,
    )
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

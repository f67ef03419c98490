"""`hub.yaml`: what a hub is called, where sites reach it, and where everything lies in its folder."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from app.supervision.settings_file import STATE, read_settings_file, settings_in
from medfl.errors import ConfigError
from medfl.governance.enrolment import HubName

FILE = "hub.yaml"

Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,252})?$")]


class HubSettings(BaseModel):
    """All settings of a hub.

    Attributes
    ----------
    state : Path
        The hub's folder; not in the file.
    name : str
    host : str
        Name or address that sites connect to.
    port : int
        The only one that is open.
    listen : str
        Address of this machine to listen on; "0.0.0.0" is every one.
    other_hosts : tuple of str
        More names and addresses for the certificate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True)

    schema_: Literal["medfl/hub/1"] = Field(default="medfl/hub/1", alias="schema")
    state: Path
    name: HubName
    host: Host
    port: int = Field(default=8443, ge=1, le=65535)
    listen: Host = "0.0.0.0"
    other_hosts: tuple[Host, ...] = ()

    @property
    def address(self) -> str:
        """HOST:PORT for sites."""
        return f"{self.host}:{self.port}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """Everything that the server's certificate is for; loopback is how the hub's own programs talk."""
        return (self.host, *self.other_hosts, "localhost", "127.0.0.1")

    @property
    def ca(self) -> Path:
        """Folder of the hub's authority."""
        return self.state / "ca"

    @property
    def certificate(self) -> Path:
        """Of the server."""
        return self.state / "tls" / "server.crt"

    @property
    def private_key(self) -> Path:
        """Of the server."""
        return self.state / "tls" / "server.key"

    @property
    def secret(self) -> Path:
        """What the SuperLink and its executor share."""
        return self.state / "secrets" / "superexec"

    @property
    def signing_key(self) -> Path:
        """What the hub signs reports with; sites get its public half."""
        return self.state / "keys" / "signing_key"

    @property
    def sites(self) -> Path:
        """Folder of the sites that were taken in, one file each."""
        return self.state / "sites"

    @property
    def submitted(self) -> Path:
        """Folder of the runs that were asked for, one file each."""
        return self.state / "submitted"

    @property
    def runs(self) -> Path:
        """Run folders."""
        return self.state / "runs"

    @property
    def logs(self) -> Path:
        """What the programs print."""
        return self.state / "logs"

    @property
    def flower_home(self) -> Path:
        """Flower's own folder."""
        return self.state / "flwr"


def load_hub(state: Path) -> HubSettings:
    """Read the settings of the hub whose folder this is.

    Parameters
    ----------
    state : Path

    Raises
    ------
    ConfigError
        If there is no such hub, or a setting has a mistake or an unknown name.
    """
    return make_hub(state, settings_in(read_settings_file(state / FILE, "hub"), FILE))


def make_hub(state: Path, values: dict[str, object]) -> HubSettings:
    """Return settings from plain values; see `load_hub`."""
    try:
        return HubSettings.model_validate({**values, STATE: state.resolve()})
    except ValidationError as error:
        places = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ConfigError(f"{FILE} must follow medfl/hub/1: {places}.") from error

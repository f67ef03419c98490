"""`hub.yaml`: what a hub is called, where sites reach it, and where everything lies in its folder."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from medfl.errors import ConfigError
from medfl.governance.enrolment import HubName

FILE = "hub.yaml"
_LONGEST_FILE = 64 * 1024

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
    try:
        with (state / FILE).open("rb") as file:
            content = file.read(_LONGEST_FILE + 1)
        values = yaml.safe_load(content.decode()) if len(content) <= _LONGEST_FILE else None
    except OSError as error:
        raise ConfigError(
            f"A hub's folder must hold {FILE}; it cannot be read ({error.strerror}). Make one with 'medfl hub init'."
        ) from error
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{FILE} must be YAML text; it is not.") from error
    if not isinstance(values, dict) or "state" in values:
        raise ConfigError(f"{FILE} must hold settings as 'name: value', and not 'state'.")
    return make_hub(state, values)


def make_hub(state: Path, values: dict[str, object]) -> HubSettings:
    """Return settings from plain values; see `load_hub`."""
    try:
        return HubSettings.model_validate({**values, "state": state.resolve()})
    except (ValidationError, TypeError) as error:
        if not isinstance(error, ValidationError):
            raise ConfigError(f"{FILE} must hold names as text.") from error
        places = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ConfigError(f"{FILE} must follow medfl/hub/1: {places}.") from error

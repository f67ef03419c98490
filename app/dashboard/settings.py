"""How one dashboard was started; handed from the command to the page through the environment."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from medfl.errors import ConfigError

Role = Literal["clinician", "administrator", "privacy officer"]
VARIABLE = "MEDFL_DASHBOARD"


class DashboardSettings(BaseModel):
    """What was given on the command line.

    Attributes
    ----------
    runs : Path
        A run folder, or a folder of run folders.
    site : Path or None
        The site's state folder: ledger, flags, manifest, accession numbers.
    trust_proxy : bool
        Whether names and roles come from the headers of a proxy.
    local_role : str or None
        The role of whoever sits at this computer; never together with a proxy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    runs: Path
    site: Path | None = None
    trust_proxy: bool = False
    local_role: Role | None = None

    def environment(self) -> dict[str, str]:
        """Return the variable that `from_environment` reads."""
        return {VARIABLE: self.model_dump_json()}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "DashboardSettings":
        """Read the settings.

        Raises
        ------
        ConfigError
            If the page was not started by `medfl dashboard`.
        """
        try:
            return cls.model_validate_json(environment.get(VARIABLE, ""))
        except ValidationError as error:
            raise ConfigError("The dashboard must be started with: medfl dashboard RUNS") from error

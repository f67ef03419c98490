"""Everything a run will do at a hospital, as one file with one hash; what an administrator reads and approves."""

import json
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from medfl.errors import ConfigError
from medfl.results.atomic import write_bytes
from medfl.results.canonical import canonical_json, sha256

SCHEMA = "medfl/site-plan/1"
_LONGEST_FILE = 1024 * 1024
_LONGEST_SETTINGS = 256 * 1024

Line = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f]+$")
]
PlanName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
SiteName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Plan(BaseModel):
    """A run as it is proposed to hospitals.

    Attributes
    ----------
    name : str
        Of the run; the one in its settings.
    medfl_version : str
        Version that hub and sites must have installed; the plan carries no code.
    protocol, legal_basis, purpose, contact : str
        Study protocol or ethics vote, legal basis, what the run is for, and who answers questions; one line each.
    expires : date
        Last day on which a site may take part.
    sites : tuple of str
        Names of the hospitals that take part.
    settings : str
        All settings as YAML text, exactly what the run configuration carries.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    schema_: Literal["medfl/site-plan/1"] = Field(default="medfl/site-plan/1", alias="schema")
    name: PlanName
    medfl_version: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z.+!-]{1,40}$")]
    protocol: Line
    legal_basis: Line
    purpose: Line
    contact: Line
    expires: date
    sites: Annotated[tuple[SiteName, ...], Field(min_length=1, max_length=200)]
    settings: Annotated[str, Field(min_length=1, max_length=_LONGEST_SETTINGS)]

    @model_validator(mode="after")
    def _says_it_all(self) -> Self:
        if len(set(self.sites)) != len(self.sites):
            raise ValueError("sites must name every hospital once")
        if "${" in self.settings:
            raise ValueError("settings must be resolved; '${NAME}' would read the environment of the site")
        return self

    def canonical(self) -> bytes:
        """Return the plan as RFC 8785 canonical JSON; equal bytes mean equal plans."""
        return canonical_json(self.model_dump(mode="json", by_alias=True))

    def sha256(self) -> str:
        """Return the SHA-256 of the canonical JSON: what an administrator approves."""
        return sha256(self.model_dump(mode="json", by_alias=True))


def read_plan(path: Path) -> Plan:
    """Read a plan.

    Raises
    ------
    ConfigError
        If the file cannot be read or breaks the schema; every mistake is named.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(f"The plan {path.name} must be a readable file: {error.strerror}.") from error
    if len(content) > _LONGEST_FILE:
        raise ConfigError(f"The plan {path.name} must be at most 1 MiB; it is larger. Ask the hub for the right file.")
    try:
        return Plan.model_validate(json.loads(content.decode(), object_pairs_hook=_without_repeats))
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'plan'}: {one['msg']}" for one in error.errors())
        raise ConfigError(f"The plan {path.name} must follow {SCHEMA}: {found}.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"The plan {path.name} must be JSON with every key once; it is not.") from error


def write_plan(plan: Plan, path: Path) -> None:
    """Write a plan, readable and atomically; the layout of the file does not change its hash."""
    text = json.dumps(plan.model_dump(mode="json", by_alias=True), indent=2, ensure_ascii=False)
    write_bytes(path, f"{text}\n".encode())


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuse a key that stands twice: two readers could take two plans from one file."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found

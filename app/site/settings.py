"""`site.yaml`: what a hospital decides, from a file, the environment and secret files; unknown names are refused."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.supervision.settings_file import STATE, read_settings_file, settings_in
from medfl.errors import ConfigError
from medfl.governance.plan import SiteName
from medfl.governance.site_policy import SitePolicy

FILE = "site.yaml"
PREFIX = "MEDFL_SITE_"
_DELIMITER = "__"


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Address = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,252})?:[0-9]{1,5}$")]
Account = Annotated[str, StringConstraints(min_length=1, max_length=120)]


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SiteData(_Closed):
    """The site's studies.

    Attributes
    ----------
    manifest : Path
        Written by `medfl data import`.
    account : str
        Lasting name of these patients' data in the privacy ledger, the same in every run.
    purpose : str
        Of the account.
    cache : Path or None
        Where prepared images are kept; None is the folder ``cache`` of the state.
    """

    manifest: AbsolutePath
    account: Account = "site"
    purpose: Account = "research"
    cache: AbsolutePath | None = None


class Worker(_Closed):
    """The process that computes.

    Attributes
    ----------
    user : int
        Account number that it changes to where `medfl site run` is root; 0 keeps the account.
    memory_bytes : int
        Most memory; 0 is no limit.
    deadline_s : float
        Longest time for one message, whatever a plan says.
    """

    user: int = Field(default=0, ge=0, lt=2**32)
    memory_bytes: int = Field(default=0, ge=0)
    deadline_s: float = Field(default=3600, gt=0, le=604_800)


class SiteSettings(BaseSettings):
    """All settings of one site.

    A variable ``MEDFL_SITE_NAME`` beats a secret file, and that beats `site.yaml`; parts are joined by ``__``, as in
    ``MEDFL_SITE_POLICY__MINIMUM_SUBJECTS=10``. A secret file has the name of such a variable in small letters and lies
    in ``secrets``.

    Attributes
    ----------
    state : Path
        The site's folder; not in the file.
    name : str
        The site, as plans name it.
    hub : str
        HOST:PORT; what the hub's enrolment answer says where it is empty.
    proxy : SecretStr
        URL of the hospital's web proxy, with its password if it has one; empty for none.
    data : SiteData
    worker : Worker
    policy : SitePolicy
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        env_prefix=PREFIX,
        env_nested_delimiter=_DELIMITER,
        case_sensitive=False,
        secrets_dir=None,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    schema_: Literal["medfl/site/1"] = Field(default="medfl/site/1", alias="schema")
    state: Path
    name: SiteName
    hub: Address | Literal[""] = ""
    proxy: SecretStr = SecretStr("")
    data: SiteData
    worker: Worker = Worker()
    policy: SitePolicy = SitePolicy()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources, the strongest first: environment, secret files, the file."""
        del settings_cls, dotenv_settings
        return env_settings, file_secret_settings, init_settings

    @property
    def cache(self) -> Path:
        """Where prepared images are kept."""
        return self.data.cache or self.state / "cache"

    @property
    def private_key(self) -> Path:
        """The site's own key, which never leaves it."""
        return self.state / "keys" / "site_key"

    @property
    def audit_log(self) -> Path:
        """The site's audit log."""
        return self.state / "audit.jsonl"

    @property
    def ledger(self) -> Path:
        """The site's privacy ledger; may be missing."""
        return self.state / "ledger" / "ledger.db"

    @property
    def secrets(self) -> Path:
        """Folder of secret files."""
        return self.state / "secrets"


def load_settings(state: Path) -> SiteSettings:
    """Read the settings of the site whose folder this is.

    Parameters
    ----------
    state : Path

    Raises
    ------
    ConfigError
        If there is no such site, or a file or variable has a mistake or an unknown name; every one is named, values
        are not.
    """
    return parse_settings(read_settings_file(state / FILE, "site"), state)


def parse_settings(content: bytes, state: Path) -> SiteSettings:
    """Read the settings of a site from the text of its file; see `load_settings`."""
    values, secrets = settings_in(content, FILE), state / "secrets"
    unknown = [f"the variable {name}" for name in os.environ if name.startswith(PREFIX) and not _is_known(name)]
    unknown += [f"the file secrets/{path.name}" for path in _secret_files(secrets) if not _is_known(path.name.upper())]
    if unknown:
        raise ConfigError(f"Every setting of a site must be a known one; unknown: {', '.join(sorted(unknown))}.")
    try:
        return SiteSettings(_secrets_dir=secrets if secrets.is_dir() else None, state=state.resolve(), **values)
    except ValidationError as error:
        places = "; ".join(f"{'.'.join(map(str, one['loc']))}: {_said(one['msg'])}" for one in error.errors())
        raise ConfigError(
            f"{FILE}, the secret files and {PREFIX}... variables must follow medfl/site/1: {places}."
        ) from error
    except ValueError as error:  # a variable that must be JSON and is not
        raise ConfigError(f"{PREFIX}... variables must hold values that can be read; one cannot.") from error


def _said(message: str) -> str:
    return "is not a known setting" if message.startswith("Extra inputs") else message.removeprefix("Value error, ")


def _secret_files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{PREFIX.lower()}*")) if folder.is_dir() else []


def _is_known(variable: str) -> bool:
    """Tell whether a variable names a setting, part by part."""
    model: type[BaseModel] | None = SiteSettings
    for part in variable.removeprefix(PREFIX).lower().split(_DELIMITER):
        if model is None:
            return False
        names = {field.alias or name: field for name, field in model.model_fields.items()}
        if part not in names or (model is SiteSettings and part == STATE):
            return False
        annotation = names[part].annotation
        model = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    return True

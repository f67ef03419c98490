"""Who holds which key: the keyed transform's and the one of a site's noise."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from medfl.errors import ConfigError, KeyFileError
from medfl.privacy.key_files import KeyFile
from medfl.privacy.keys import ContextKey, KeyContext, MasterKey
from medfl.privacy.keystream import Keystream
from medfl.results.store import RunStore, file_stem

FEDERATION = "federation"
_NOISE = "noise"


class Custody(Protocol):
    """Where a site finds its keys; no key is ever handed to the hub."""

    def transform_key(self, site: str, context: KeyContext) -> ContextKey:
        """Return the key of a keyed transform; `context.scope` says whose it is."""
        ...

    def charge(self, site: str, key: ContextKey, scope: str, images: int) -> None:
        """Count images released under a key, before they leave."""
        ...

    def noise(self, site: str, label: str) -> Keystream:
        """Return the site's own noise for one release; the same label gives the same noise."""
        ...

    def epoch(self, site: str, scope: str) -> int:
        """Return the epoch of the key in use."""
        ...


class MemoryCustody:
    """Keys that are made on first use and forgotten with the process: for comparisons and tests."""

    def __init__(self) -> None:
        self._keys: dict[str, MasterKey] = {}

    def transform_key(self, site: str, context: KeyContext) -> ContextKey:
        """Return the key of a keyed transform."""
        return self._key(_owner(site, context.scope)).derive(context)

    def charge(self, site: str, key: ContextKey, scope: str, images: int) -> None:
        """Count nothing: the key dies with the process."""

    def noise(self, site: str, label: str) -> Keystream:
        """Return the site's own noise."""
        return _noise_stream(self._key(_owner(site, "site")), site, label)

    def epoch(self, site: str, scope: str) -> int:
        """Return 1: there is no earlier key."""
        return 1

    def _key(self, name: str) -> MasterKey:
        if name not in self._keys:
            self._keys[name] = MasterKey.generate()
        return self._keys[name]


class FolderCustody:
    """Key files in one folder, `federation.key` and `SITE.key`.

    Parameters
    ----------
    folder : Path
    create : bool
        Make keys that are missing: right for a simulation, where one process plays all sites. A real site sets it to
        False for the federation's key, which its custodian wraps for it.
    image_cap : int or None
        Most images under one key, for keys that are made here.
    """

    def __init__(self, folder: Path, *, create: bool, image_cap: int | None = None) -> None:
        self.folder = folder
        self.create = create
        self.image_cap = image_cap

    def transform_key(self, site: str, context: KeyContext) -> ContextKey:
        """Return the key of a keyed transform."""
        return self._file(_owner(site, context.scope)).key.derive(context)

    def charge(self, site: str, key: ContextKey, scope: str, images: int) -> None:
        """Count images against the key's cap; nothing is counted where they are too many."""
        self._file(_owner(site, scope)).charge(key.key_id, images)

    def noise(self, site: str, label: str) -> Keystream:
        """Return the site's own noise."""
        return _noise_stream(self._file(_owner(site, "site")).key, site, label)

    def epoch(self, site: str, scope: str) -> int:
        """Return the epoch of the key in use."""
        return self._file(_owner(site, scope)).epoch

    def _file(self, name: str) -> KeyFile:
        path = self.folder / f"{file_stem(name)}.key"
        if not path.exists() and not self.create:
            raise KeyFileError(
                f"The key '{name}' must be in the site's folder of keys; it is not. Make it with 'medfl key create', "
                "or unwrap the one that its custodian sent with 'medfl key unwrap'."
            )
        if not path.exists():
            self._make(path, FEDERATION if name == FEDERATION else "site")
        return KeyFile.load(path, datetime.now(UTC).date())

    def _make(self, path: Path, kind: str) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            KeyFile.create(path, kind, image_cap=self.image_cap)
        except KeyFileError:
            if not path.exists():  # else another simulated site was faster
                raise


def custody_beside(store: RunStore, *, create: bool, image_cap: int | None = None) -> Custody:
    """Return the keys of a simulation, in a folder beside the run folder and never in it.

    Parameters
    ----------
    store : RunStore
    create : bool
        Make keys that are missing; never once something was released under them.
    image_cap : int or None
    """
    folder = store.folder.resolve()
    return FolderCustody(folder.with_name(f"{folder.name}.keys"), create=create, image_cap=image_cap)


def _owner(site: str, scope: str) -> str:
    if site == FEDERATION:
        raise ConfigError(f"A site must not be called '{FEDERATION}': that is the name of the key all sites share.")
    return FEDERATION if scope == FEDERATION else site


def _noise_stream(key: MasterKey, site: str, label: str) -> Keystream:
    context = KeyContext(
        tenant="", site=site, purpose=_NOISE, model="", layer="", shape=(), settings=label, scope="site", epoch=0
    )
    return key.derive(context).stream(_NOISE)

"""Public data sets, downloaded with a checksum by MONAI; addresses and checksums are MONAI's own."""

import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

from monai.apps.datasets import DecathlonDataset, MedNISTDataset
from monai.apps.utils import HashCheckError, download_url, extractall

from medfl.errors import ConfigError, DataError, NetworkError

_ARCHIVES = (".tar.gz", ".tar", ".zip")
_STALL_S = 60.0


@dataclass(frozen=True)
class PublicSet:
    """One downloadable set.

    Attributes
    ----------
    name : str
        What to ask `fetch` for.
    url : str
        Address of a ``.tar``, ``.tar.gz`` or ``.zip`` archive.
    md5 : str
        Checksum of the archive, 32 hex digits.
    """

    name: str
    url: str
    md5: str


def list_sets() -> tuple[PublicSet, ...]:
    """Return the sets that MONAI knows: the Medical Segmentation Decathlon and MedNIST."""
    decathlon = (PublicSet(task, url, DecathlonDataset.md5[task]) for task, url in DecathlonDataset.resource.items())
    return (*decathlon, PublicSet("MedNIST", MedNISTDataset.resource, MedNISTDataset.md5))


def fetch(
    name: str,
    out: Path,
    *,
    base_url: str | None = None,
    sets: Mapping[str, PublicSet] | None = None,
    show_progress: bool = False,
) -> Path:
    """Download a set, verify its checksum and unpack it to ``out/name``; all of it or nothing.

    Parameters
    ----------
    name : str
        One of `list_sets` (or of `sets`).
    out : Path
        Folder to put the set in. A set that is already there is not downloaded again.
    base_url : str, optional
        Mirror that holds the archive under its own file name.
    sets : mapping from str to PublicSet, optional
        Sets to choose from instead of `list_sets`.
    show_progress : bool
        Let MONAI draw a progress bar on stderr.

    Returns
    -------
    Path
        ``out/name``.

    Raises
    ------
    ConfigError
        If the name is unknown.
    NetworkError
        If the download fails or the checksum differs.
    DataError
        If the archive cannot be unpacked.
    """
    chosen = _choose(name, {known.name: known for known in list_sets()} if sets is None else sets, base_url)
    target = out / name
    if target.exists():
        return target
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=out) as folder:
        archive = Path(folder) / _archive_name(chosen.url)
        _download(chosen, archive, show_progress)
        _unpack(archive, Path(folder) / "content")
        archive.unlink()
        content = Path(folder) / "content"
        tops = list(content.iterdir())
        shutil.move(tops[0] if len(tops) == 1 and tops[0].is_dir() else content, target)
    return target


def _choose(name: str, sets: Mapping[str, PublicSet], base_url: str | None) -> PublicSet:
    if name not in sets:
        raise ConfigError(f"Choose one of {', '.join(sorted(sets))}; see `medfl data list`.")
    chosen = sets[name]
    if base_url is None:
        return chosen
    return replace(chosen, url=f"{base_url.rstrip('/')}/{_archive_name(chosen.url)}")


def _archive_name(url: str) -> str:
    name = Path(urlsplit(url).path).name
    if not name.endswith(_ARCHIVES):
        raise ConfigError(f"The address of a set must end in one of {', '.join(_ARCHIVES)}.")
    return name


def _download(chosen: PublicSet, archive: Path, show_progress: bool) -> None:
    try:
        with _stall_limit(_STALL_S):
            download_url(chosen.url, archive, chosen.md5, "md5", progress=show_progress)
    except HashCheckError as error:
        raise NetworkError(
            f"The archive of {chosen.name} must have MD5 {chosen.md5}, what came has another; nothing was kept. "
            "Try again; if it happens again, the mirror or the connection changes the file."
        ) from error
    except (OSError, RuntimeError) as error:
        reason = error.reason if isinstance(error, URLError) else type(error).__name__
        raise NetworkError(
            f"{chosen.name} could not be downloaded from {urlsplit(chosen.url).hostname}: {reason}; nothing was kept. "
            "Check the connection and the proxy settings, or name a mirror with --base-url."
        ) from error
    if not archive.is_file():  # MONAI passes over some permission errors in silence
        raise NetworkError(f"{chosen.name} could not be stored. Check that the folder can be written.")


def _unpack(archive: Path, content: Path) -> None:
    content.mkdir()
    try:
        extractall(archive, content, has_base=False)
    except Exception as error:  # the archive is untrusted until here, and each format has its own exceptions
        raise DataError(
            f"The archive must be a readable {archive.suffix} without links: {type(error).__name__}."
        ) from error


@contextmanager
def _stall_limit(seconds: float) -> Iterator[None]:
    """Give up on a connection that is silent for `seconds`; MONAI's downloader has no limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)

"""The run folder: this module alone knows the file names in it."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from medfl.errors import RunFolderError
from medfl.results.atomic import locked, write_bytes, write_text
from medfl.results.history import History
from medfl.results.metrics import RunMetrics
from medfl.results.privacy import Balance, PrivacyRecord

Arrays = Mapping[str, NDArray[Any]]
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Checkpoint:
    """Where a run can go on.

    Attributes
    ----------
    round : int
        Last finished round; 0 before the first.
    arrays : mapping of str to ndarray
        Global model, state of the strategy and of simulated sites, told apart by their prefix.
    """

    round: int
    arrays: dict[str, NDArray[Any]]


class RunStore:
    """Reads and writes one run folder; every write is atomic.

    Parameters
    ----------
    folder : Path
        The run folder. It is created by the first write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def released(self) -> Path:
        """Folder of what really left each site."""
        return self._made("released")

    @property
    def ledgers(self) -> Path:
        """Folder of the ledgers of a run that was given none; it need not exist."""
        return self.folder / "ledger"

    def predictions_of(self, site: str) -> Path:
        """Folder of one site's predictions; stays at the site."""
        return self._made(f"predictions/{file_stem(site)}")

    def write_cases(self, site: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write one site's cases, and `cases.csv` anew from the cases of all sites in this folder.

        Simulated sites in several processes may write at the same time.

        Parameters
        ----------
        site : str
        header : sequence of str
            Equal for every site of a run.
        rows : sequence of sequence of str
        """
        parts = self._made("cases")
        with locked(parts):
            write_text(parts / f"{file_stem(site)}.csv", _csv([header, *rows]))
            tables = [_table(path) for path in sorted(parts.glob("*.csv"))]
            write_text(self.folder / "cases.csv", _csv([header, *(row for table in tables for row in table[1:])]))

    def read_cases(self) -> list[dict[str, str]]:
        """Read `cases.csv`: one mapping from column to text for every study."""
        return list(csv.DictReader(io.StringIO(self._text("cases.csv"), newline="")))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes that ask for this run folder waiting; a kill lets go."""
        with locked(self._made(".")):
            yield

    def is_started(self) -> bool:
        """Tell whether a run has left its settings here."""
        return (self.folder / "config.yaml").exists()

    def is_finished(self) -> bool:
        """Tell whether a run has left its final metrics here."""
        return (self.folder / "metrics.json").exists()

    def write_stopped(self, reason: str) -> None:
        """Say why a hub's run ended early; empty takes it back. A run that was killed says nothing."""
        if reason:
            write_text(self._made(".") / "stopped.txt", reason)
        else:
            (self.folder / "stopped.txt").unlink(missing_ok=True)

    def read_stopped(self) -> str:
        """Return why a hub's run ended early; empty where it did not, or was killed."""
        path = self.folder / "stopped.txt"
        return path.read_text(encoding="utf-8").strip() if path.is_file() else ""

    def write_settings(self, config_yaml: str, plan: Mapping[str, Any]) -> None:
        """Write the resolved settings and the plan."""
        write_text(self._made(".") / "plan.json", json.dumps(plan, indent=2) + "\n")
        write_text(self.folder / "config.yaml", config_yaml)

    def read_settings(self) -> tuple[str, dict[str, Any]]:
        """Return the text of `config.yaml` and the plan."""
        try:
            plan = json.loads(self._text("plan.json"))
        except ValueError as error:
            raise RunFolderError("plan.json must hold JSON; it does not.") from error
        if not isinstance(plan, dict):
            raise RunFolderError(f"plan.json must hold an object, found {type(plan).__name__}.")
        return self._text("config.yaml"), plan

    def has_history(self) -> bool:
        """Tell whether a run has left a history here."""
        return (self.folder / "history.json").exists()

    def write_history(self, history: History) -> None:
        """Write `history.json` and the training curves."""
        self._write_model("history.json", history)

    def read_history(self) -> History:
        """Read `history.json`."""
        return self._read_model("history.json", History)

    def write_curves(self, svg: str) -> None:
        """Write the training curves."""
        write_text(self._made(".") / "curves.svg", svg)

    def write_metrics(self, metrics: RunMetrics) -> None:
        """Write `metrics.json`."""
        self._write_model("metrics.json", metrics)

    def read_metrics(self) -> RunMetrics:
        """Read `metrics.json`."""
        return self._read_model("metrics.json", RunMetrics)

    def write_privacy(self, record: PrivacyRecord) -> None:
        """Write `privacy.json`."""
        self._write_model("privacy.json", record)

    def read_privacy(self) -> PrivacyRecord:
        """Read `privacy.json`."""
        return self._read_model("privacy.json", PrivacyRecord)

    def write_model(self, arrays: Arrays, card: str) -> None:
        """Write the global model and its card."""
        write_bytes(self._made(".") / "model.safetensors", _packed(arrays, {}))
        write_text(self.folder / "model_card.md", card)

    def read_model(self) -> dict[str, NDArray[Any]]:
        """Read the global model."""
        return _unpacked(self.folder / "model.safetensors")[0]

    def write_minimization(self, arrays: Arrays) -> None:
        """Write what a bottleneck keeps, which is public; whoever protects further studies needs it."""
        write_bytes(self._made(".") / "minimization.safetensors", _packed(arrays, {}))

    def read_minimization(self) -> dict[str, NDArray[Any]] | None:
        """Read what a bottleneck keeps; None where the run has none."""
        path = self.folder / "minimization.safetensors"
        return _unpacked(path)[0] if path.exists() else None

    def write_personal(self, site: str, arrays: Arrays) -> None:
        """Write the model that one site made its own; stays at the site."""
        write_bytes(self._made("personal") / f"{file_stem(site)}.safetensors", _packed(arrays, {}))

    def read_personal(self, site: str) -> dict[str, NDArray[Any]]:
        """Read the model that one site made its own."""
        return _unpacked(self.folder / "personal" / f"{file_stem(site)}.safetensors")[0]

    def write_balance(self, balance: Balance) -> None:
        """Write what one site's ledger says; stays at the site."""
        write_text(self._made("balances") / f"{file_stem(balance.site)}.json", balance.model_dump_json(indent=2) + "\n")

    def read_balances(self) -> tuple[Balance, ...]:
        """Read what the sites' ledgers said at the end of the run; none where nothing was booked."""
        paths = sorted((self.folder / "balances").glob("*.json"))
        return tuple(self._read_model(f"balances/{path.name}", Balance) for path in paths)

    def write_canaries(self, site: str, arrays: Arrays) -> None:
        """Write which canaries were in one site's training and how likely they look; stays at the site."""
        write_bytes(self._made("canaries") / f"{file_stem(site)}.safetensors", _packed(arrays, {}))

    def read_canaries(self, site: str) -> dict[str, NDArray[Any]] | None:
        """Read one site's canaries; None where it has none."""
        path = self.folder / "canaries" / f"{file_stem(site)}.safetensors"
        return _unpacked(path)[0] if path.exists() else None

    def read_model_card(self) -> str:
        """Return the text of `model_card.md`."""
        return self._text("model_card.md")

    def write_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write where the run can go on, as one file."""
        write_bytes(
            self._made(".") / "checkpoint.safetensors", _packed(checkpoint.arrays, {"round": str(checkpoint.round)})
        )

    def read_checkpoint(self) -> Checkpoint | None:
        """Read where the run can go on; None when no round was finished."""
        path = self.folder / "checkpoint.safetensors"
        if not path.exists():
            return None
        arrays, metadata = _unpacked(path)
        if not metadata.get("round", "").isdecimal():
            raise RunFolderError("checkpoint.safetensors must name its round; run again without --resume.")
        return Checkpoint(round=int(metadata["round"]), arrays=arrays)

    def write_release(self, site: str, name: str, arrays: Arrays, membership: tuple[str, ...]) -> None:
        """Keep what really left a site, with the list of subjects behind it.

        Parameters
        ----------
        site, name : str
            For example "site-1" and "round-003".
        arrays : mapping of str to ndarray
        membership : tuple of str
            Pseudonyms of the subjects behind the release.
        """
        folder = self._made(f"released/{file_stem(site)}")
        write_bytes(folder / f"{name}.safetensors", _packed(arrays, {"subjects": json.dumps(list(membership))}))

    def read_release(self, site: str, name: str) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]] | None:
        """Return what left a site and the subjects behind it; None where nothing of that name was kept."""
        path = self.folder / "released" / file_stem(site) / f"{name}.safetensors"
        if not path.exists():
            return None
        arrays, metadata = _unpacked(path)
        try:
            subjects = json.loads(metadata.get("subjects", ""))
        except ValueError as error:
            raise RunFolderError(f"{path.name} must list the subjects behind it; it does not.") from error
        return arrays, tuple(map(str, subjects))

    def releases(self) -> tuple[Path, ...]:
        """Return every file of what left a site, in order."""
        return tuple(sorted((self.folder / "released").rglob("*.safetensors")))

    def _made(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _write_model(self, name: str, value: BaseModel) -> None:
        write_text(self._made(".") / name, value.model_dump_json(indent=2) + "\n")

    def _read_model(self, name: str, kind: type[Model]) -> Model:
        try:
            return kind.model_validate_json(self._text(name))
        except ValidationError as error:
            raise RunFolderError(f"{name} must follow the schema of {kind.__name__}: {error}") from error

    def _text(self, name: str) -> str:
        try:
            return (self.folder / name).read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise RunFolderError(
                f"{name} must exist in the run folder; it is missing. Was the run started, and is this its folder?"
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise RunFolderError(f"{name} must be a readable text file; it is not.") from error


def file_stem(name: str) -> str:
    """Return a name that is safe as one part of a path.

    Raises
    ------
    RunFolderError
        If it is empty, starts with a dot or holds a separator.
    """
    if not name or name.startswith(".") or any(mark in name for mark in "/\\\0"):
        raise RunFolderError("Names of sites and studies become file names: no '/', no '\\', no dot in front.")
    return name


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _table(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))


def _packed(arrays: Arrays, metadata: dict[str, str]) -> bytes:
    return save({name: np.asarray(array, order="C") for name, array in arrays.items()}, metadata)


def _unpacked(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise RunFolderError(f"{path.name} must be a readable safetensors file; it is not.") from error

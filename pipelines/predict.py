"""A trained model on new studies."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medfl.config.reading import parse_config
from medfl.config.settings import Config
from medfl.data.manifest import read_manifest
from medfl.errors import ConfigError, DataError, ImageReadError, KeyFileError
from medfl.federation.program import Arrays
from medfl.imaging.bounded import BoundedReader
from medfl.imaging.volume import Volume
from medfl.results.store import RunStore, file_stem
from pipelines.build import build_pipeline, choose_device
from pipelines.case_table import write_table
from pipelines.custody import FolderCustody, custody_beside
from pipelines.minimization import Minimization
from pipelines.pipeline import Case, Pipeline
from pipelines.split_inference import InferenceHub, InferenceSite
from pipelines.weights import load_arrays

Ask = Callable[[Tensor], tuple[Tensor, Tensor]]
_SUFFIXES = (".nii", ".nii.gz", ".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Predicted:
    """What became of the studies.

    Attributes
    ----------
    table : Path
        predictions.csv.
    done : int
    refused : tuple of (str, str)
        Study and sentence.
    """

    table: Path
    done: int
    refused: tuple[tuple[str, str], ...]


def predict(
    run: Path,
    studies: Path,
    out: Path,
    *,
    site: str = "",
    keys: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Predicted:
    """Predict every study of a manifest, a folder or one file.

    Parameters
    ----------
    run : Path
        A finished run folder.
    studies : Path
        manifest.csv, a folder of images, or one image.
    out : Path
        Folder for masks and predictions.csv; created.
    site : str
        Use the model that this site made its own, or its keys where features are shared; empty uses the global one.
    keys : Path or None
        The site's folder of keys, where features are shared; None takes the simulation's, beside the run folder.
    progress : callable or None
        Called with (done, total).

    Returns
    -------
    Predicted

    Raises
    ------
    DataError
        If there is no study.
    KeyFileError
        If features are shared and a key is missing, or may not be used.
    RunFolderError
        If the run has no model.
    ConfigError
        If the model needs a site's own layers and no site is named.
    """
    store = RunStore(run)
    config = parse_config(store.read_settings()[0], source="config.yaml")
    device = choose_device(config)
    pipeline = build_pipeline(config, device)
    if config.federation.strategy.kind == "fedbn" and not site:
        raise ConfigError("A FedBN run has no model that is whole without a site's own layers. Name one with --site.")
    personal = bool(site) and config.sharing == "weights"
    model = store.read_personal(site) if personal else store.read_model()
    found = _studies(studies)
    ask = _asker(config, store, pipeline, model, site, keys)
    out.mkdir(parents=True, exist_ok=True)
    cases: list[Case] = []
    refused: list[tuple[str, str]] = []
    with BoundedReader() as reader:
        for number, (name, path) in enumerate(found, start=1):
            try:
                cases.append(_one(pipeline, name, reader.read(path), out, ask))
            except ImageReadError as error:
                refused.append((name, str(error)))
            if progress is not None:
                progress(number, len(found))
    table = out / "predictions.csv"
    if cases:
        write_table(table, cases)
    return Predicted(table, len(cases), tuple(refused))


def _asker(
    config: Config, store: RunStore, pipeline: Pipeline[Any], model: Arrays, site: str, keys: Path | None
) -> Ask:
    """Return how one prepared image becomes probabilities: here, or by split inference."""
    if config.sharing == "features":
        return _split(config, store, pipeline, model, site, keys)
    load_arrays(pipeline.network.shared_state(), {name: torch.from_numpy(array) for name, array in model.items()})

    def here(image: Tensor) -> tuple[Tensor, Tensor]:
        if pipeline.encoder is not None:
            with torch.inference_mode():
                image = pipeline.encoder.eval()(image[None].to(pipeline.device))[0]
        ((probabilities, spread),) = pipeline.predict([image], config.evaluation.uncertainty_passes)
        return probabilities, spread

    return here


def _split(
    config: Config, store: RunStore, pipeline: Pipeline[Any], model: Arrays, site: str, keys: Path | None
) -> Ask:
    """Set up both sides of split inference; only sealed bytes pass between them."""
    custody = custody_beside(store, create=False) if keys is None else FolderCustody(keys, create=False)
    if keys is None and not site:
        site = next(iter(store.read_metrics().sites), "site")
    if not site:
        raise ConfigError("Split inference needs to know whose keys are used. Name the site with --site.")
    minimized = Minimization.from_arrays(store.read_minimization() or {})
    hub = InferenceHub(pipeline, model)
    asking = InferenceSite(pipeline, config, minimized=minimized, custody=custody, site=site, hub_key=hub.public_key)
    used = {record.key_id for record in store.read_history().releases if site in ("", record.site)}
    if used and asking.key_id not in used:
        raise KeyFileError(
            "The key must be the one that this run's features were released under; it has another key id "
            f"({asking.key_id or 'none'} instead of {', '.join(sorted(used)) or 'none'})."
        )
    pipeline.cut_at(asking.shape, seed=config.seed)

    def over_the_cut(image: Tensor) -> tuple[Tensor, Tensor]:
        question = asking.ask(image)
        return asking.read(hub.answer(question, asking.shape), question)

    return over_the_cut


def _one(pipeline: Pipeline[Any], name: str, volume: Volume, out: Path, ask: Ask) -> Case:
    probabilities, spread = ask(pipeline.preparation.image(volume))
    path = pipeline.write_prediction(probabilities, volume, out / name)
    case: Case = {"study": name, "prediction": "" if path is None else path.name}
    return case | pipeline.summary(probabilities, spread, volume)


def _studies(place: Path) -> list[tuple[str, Path]]:
    if not place.exists():
        raise DataError("STUDIES must be a manifest, a folder of images or one image; nothing is there.")
    if place.suffix == ".csv":
        manifest = read_manifest(place)
        return [(file_stem(row.study), manifest.image_path(row)) for row in manifest.rows]
    files = sorted(place.rglob("*")) if place.is_dir() else [place]
    images = [file for file in files if file.name.lower().endswith(_SUFFIXES)]
    if not images:
        raise DataError(f"STUDIES must hold at least one image ({', '.join(_SUFFIXES)}); found none.")
    names = [file.name.split(".")[0] for file in images]
    if len(set(names)) != len(names):
        names = ["_".join(file.relative_to(place).parts).replace(".", "_") for file in images]
    if len(set(names)) != len(names):
        names = [f"{number:04d}_{name}" for number, name in enumerate(names, start=1)]
    return list(zip(names, images, strict=True))

"""Prepared studies of one site, read once and cached."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from medfl.data.manifest import Manifest, StudyRow
from medfl.data.preparation import Preparation
from medfl.errors import ImageReadError
from medfl.imaging.read import read_image
from medfl.imaging.volume import Volume
from medfl.results.atomic import write_bytes

_ENCODER_BATCH = 8
Progress = Callable[[int, int], None]
"""Called with (done, total)."""


@dataclass(frozen=True, eq=False)
class PreparedStudy:
    """One study as the network takes it.

    Attributes
    ----------
    row : StudyRow
    image : Tensor of shape (C, *spatial), float32
        Or (F,), the features of a frozen encoder.
    target : Tensor
        (*spatial), uint8 class indices, or a scalar int64.
    spacing_mm : tuple of float
        Of the prepared image.
    """

    row: StudyRow
    image: Tensor
    target: Tensor
    spacing_mm: tuple[float, ...]


@dataclass(frozen=True)
class Refusal:
    """A study that could not be prepared, with the reason code and a sentence."""

    study: str
    reason: str
    detail: str


def prepare_study(row: StudyRow, manifest: Manifest, preparation: Preparation) -> PreparedStudy:
    """Read and prepare one study.

    Raises
    ------
    ImageReadError
        If its image or target cannot be used.
    """
    volume = read_image(manifest.image_path(row))
    image = preparation.image(volume)
    if preparation.label_values:
        target = preparation.label(row.target)
    elif not row.has_mask:
        raise ImageReadError("no_target", "a study needs a mask to train on or to be judged by; it has none")
    else:
        reference = read_image(manifest.target_path(row))
        if reference.spatial_shape != volume.spatial_shape:
            raise ImageReadError(
                "mask_shape",
                f"the mask must have the image's shape {volume.spatial_shape}, found {reference.spatial_shape}",
            )
        target = preparation.mask(reference)
    return PreparedStudy(row, image, target, _spacing(volume, image))


def prepare_all(
    manifest: Manifest,
    preparation: Preparation,
    *,
    cache: Path | None = None,
    encoder: nn.Module | None = None,
    progress: Progress | None = None,
) -> tuple[list[PreparedStudy], list[Refusal]]:
    """Prepare every study of a manifest, from the cache where nothing changed.

    Parameters
    ----------
    manifest : Manifest
    preparation : Preparation
    cache : Path or None
        Folder of the cache. Its key covers studies, labels, preparation, encoder and size and time of every file, but
        neither sites nor splits: the same studies divided otherwise are found again.
    encoder : Module or None
        Frozen network whose features replace the image.
    progress : callable or None

    Returns
    -------
    studies : list of PreparedStudy
        In the order of the manifest.
    refusals : list of Refusal
        Studies left out.
    """
    if not manifest.rows:
        return [], []
    path = None if cache is None else cache / f"{_cache_key(manifest, preparation, encoder)}.safetensors"
    if path is not None and path.exists():
        cached = _read_cache(path, manifest)
        if cached is not None:
            return cached
    studies, refusals = [], []
    encoded = 0
    for number, row in enumerate(manifest.rows, start=1):
        try:
            studies.append(prepare_study(row, manifest, preparation))
        except ImageReadError as error:
            refusals.append(Refusal(row.study, error.reason, str(error)))
        if encoder is not None and (number % _ENCODER_BATCH == 0 or number == len(manifest.rows)):
            _encode(studies, range(encoded, len(studies)), encoder)
            encoded = len(studies)
        if progress is not None:
            progress(number, len(manifest.rows))
    if path is not None:
        _write_cache(path, studies, refusals)
    return studies, refusals


def _spacing(volume: Volume, image: Tensor) -> tuple[float, ...]:
    shapes = zip(volume.spacing_mm, volume.spatial_shape, image.shape[1:], strict=True)
    return tuple(spacing * before / after for spacing, before, after in shapes)


@torch.inference_mode()
def _encode(studies: list[PreparedStudy], pending: range, encoder: nn.Module) -> None:
    """Replace images by their features, in place."""
    if not pending:
        return
    device = next(encoder.parameters()).device
    images = torch.stack([studies[index].image for index in pending]).to(device)
    for index, features in zip(pending, encoder.eval()(images).cpu(), strict=True):
        study = studies[index]
        studies[index] = PreparedStudy(study.row, features.clone(), study.target, study.spacing_mm)


def _cache_key(manifest: Manifest, preparation: Preparation, encoder: nn.Module | None) -> str:
    digest = hashlib.sha256(preparation.digest().encode())
    for row in sorted(manifest.rows, key=lambda row: row.study):
        digest.update(f"{row.study} {'' if row.has_mask else row.target}\n".encode())
        for path in [manifest.image_path(row), *([manifest.target_path(row)] if row.has_mask else [])]:
            try:
                facts = path.stat()
                digest.update(f"{path} {facts.st_size} {facts.st_mtime_ns}\n".encode())
            except OSError:
                digest.update(f"{path} missing\n".encode())
    if encoder is not None:
        for name, tensor in encoder.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        digest.update(str(getattr(encoder, "layer", "")).encode())
    return digest.hexdigest()


def _write_cache(path: Path, studies: Sequence[PreparedStudy], refusals: Sequence[Refusal]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for study in studies:
        tensors[f"image/{study.row.study}"] = study.image.contiguous()
        tensors[f"target/{study.row.study}"] = study.target.contiguous()
    facts = {
        "spacing_mm": {study.row.study: study.spacing_mm for study in studies},
        "refusals": [[item.study, item.reason, item.detail] for item in refusals],
    }
    write_bytes(path, save(tensors, {"facts": json.dumps(facts)}))


def _read_cache(path: Path, manifest: Manifest) -> tuple[list[PreparedStudy], list[Refusal]] | None:
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            spacing: dict[str, list[float]] = facts["spacing_mm"]
            studies = [
                PreparedStudy(
                    row,
                    file.get_tensor(f"image/{row.study}"),
                    file.get_tensor(f"target/{row.study}"),
                    tuple(spacing[row.study]),
                )
                for row in manifest.rows
                if row.study in spacing
            ]
    except (SafetensorError, KeyError, ValueError, OSError):
        return None
    return studies, [Refusal(*item) for item in facts["refusals"]]

"""Reconstruction of images from released features, in an audit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medfl.attacks.image_reconstruction import ImageReconstruction, evaluate_image_reconstruction
from medfl.attacks.pairs import Features
from medfl.audit.material import ReleasedFeatures
from medfl.audit.pictures import Picture, picture_of
from medfl.data.study_row import StudyRow
from medfl.errors import AuditError
from medfl.imaging.read import read_image
from medfl.results.attack import AttackResult, Control
from medfl.results.report import Budget
from pipelines.audit_input import AttackInput, control
from pipelines.audit_material import AuditedRun
from pipelines.feature_program import FeatureProgram

_LONGEST_SIDE = 64
_MOST_STUDIES: Mapping[Budget, int] = {"quick": 1500, "standard": 3000, "full": 6000}
_EPOCHS: Mapping[Budget, int] = {"quick": 60, "standard": 150, "full": 300}


@dataclass(frozen=True, eq=False)
class RebuiltImages:
    """What came of it.

    Attributes
    ----------
    attacks : tuple of AttackResult
    headline : int
        Index of the attack that a verdict rests on.
    controls : tuple of Control
    picture : Picture
        The most similar reconstruction.
    """

    attacks: tuple[AttackResult, ...]
    headline: int
    controls: tuple[Control, ...]
    picture: Picture


def rebuilt_images(given: AttackInput, released: Features, kept: NDArray[np.bool_]) -> RebuiltImages:
    """Let an attacker with images of its own learn decoders, and judge them on strangers.

    Parameters
    ----------
    given : AttackInput
        With released features.
    released : ndarray of shape (m, ...)
        What the attacker sees of the studies kept.
    kept : ndarray of shape (n,), bool
        Studies of all released ones, in order.

    Raises
    ------
    TooFewSubjectsError
        If there are too few subjects to divide.
    AuditError
        If features and studies do not belong together.
    ImageReadError
        If an image cannot be read any more.
    """
    rows = [row for row, keep in zip(released_rows(given.run), kept, strict=True) if keep]
    material = given.one_class
    if material is None or [row.subject for row in rows] != list(material.subjects):
        raise AuditError("Images and released features must be of the same studies, in order; they are not.")
    drawn = _drawn(material, _MOST_STUDIES[given.budget], given.seed)
    given.progress(f"images of {len(drawn)} studies")
    images = small_images(given.run, [rows[index] for index in drawn])

    def attacked(features: Features) -> ImageReconstruction:
        return evaluate_image_reconstruction(
            features,
            images,
            material.subjects[drawn],
            seed=given.seed,
            gallery=given.policy.gallery,
            draws=given.draws,
            epochs=_EPOCHS[given.budget],
        )

    found = attacked(released[drawn])
    part = f", of {len(drawn)} studies drawn from {len(rows)}" if len(drawn) < len(rows) else ""
    noise = np.random.default_rng(given.seed).standard_normal(released[drawn].shape)
    return RebuiltImages(
        tuple(one.model_copy(update={"budget": one.budget + part}) for one in found.results),
        found.chosen,
        _controls(_chosen(attacked(_flat(material.clear[drawn]))), _chosen(attacked(_flat(noise)))),
        _picture(found),
    )


def released_rows(run: AuditedRun) -> list[StudyRow]:
    """Return the studies whose features left the sites for training, in the order of `released_features`."""
    return [
        study.row
        for program in run.prepared.programs.values()
        if isinstance(program, FeatureProgram)
        for study in program.allowed(program.clear("train"))
    ]


def small_images(run: AuditedRun, rows: Sequence[StudyRow]) -> NDArray[np.float32]:
    """Read images again as the frozen network saw them, but smaller and gray.

    Parameters
    ----------
    run : AuditedRun
    rows : sequence of StudyRow

    Returns
    -------
    ndarray of shape (m, H, W)
        Neither side over 64.

    Raises
    ------
    ImageReadError
        If one cannot be read any more.
    """
    whole = run.prepared.pipeline.preparation
    size = (_LONGEST_SIDE, _LONGEST_SIDE) if whole.size is None else whole.size
    smaller = replace(whole, size=tuple(min(_LONGEST_SIDE, extent) for extent in size))
    manifest = run.prepared.manifest
    return np.stack([smaller.image(read_image(manifest.image_path(row))).mean(dim=0).numpy() for row in rows])


def _drawn(material: ReleasedFeatures, most: int, seed: int) -> NDArray[np.int64]:
    """Return studies of subjects drawn at random, all studies of each, until there are enough."""
    people, numbers, counts = np.unique(material.subjects, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(people))
    taken = order[: max(1, int(np.searchsorted(np.cumsum(counts[order]), most, side="right")))]
    return np.flatnonzero(np.isin(numbers, taken))


def _flat(features: Features) -> Features:
    """Return (n, D): decoders of vectors tell as much about the experiment, for less time than those of maps."""
    return features.reshape(len(features), -1)


def _chosen(found: ImageReconstruction) -> AttackResult:
    return found.results[found.chosen]


def _controls(clear: AttackResult, noise: AttackResult) -> tuple[Control, ...]:
    return (
        control(
            "inversion",
            "positive",
            "images from clear features",
            clear,
            clear.ci_low > clear.chance,
            "an interval above guessing",
        ),
        control(
            "inversion",
            "null",
            "images from random features",
            noise,
            noise.ci_low <= noise.chance,
            "an interval that reaches down to guessing",
        ),
    )


def _picture(found: ImageReconstruction) -> Picture:
    shown = found.example
    return picture_of(
        "image from released features",
        f"{_chosen(found).name.capitalize()}: of all test subjects the reconstruction most similar to its original "
        f"(SSIM {shown.similarity:.2f}), and the attacker's own image that is nearest to it.",
        [
            ("reconstruction", shown.reconstruction),
            ("original", shown.original),
            ("nearest of the attacker's own", shown.nearest),
        ],
        found.data_range,
    )

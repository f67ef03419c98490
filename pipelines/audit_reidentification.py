"""Re-identification of released features, in an audit."""

import numpy as np

from medfl.attacks.division import divide, linkable_class
from medfl.attacks.linear_attackers import LdaAttacker
from medfl.attacks.pairs import Features
from medfl.attacks.reidentification import evaluate_reidentification
from medfl.audit.findings import Findings
from medfl.audit.material import ReleasedFeatures
from medfl.audit.reidentification_family import audit_reidentification
from medfl.errors import ImageReadError
from medfl.results.attack import Control
from pipelines.audit_input import AttackInput, control, without_features
from pipelines.audit_reconstruction import released_rows, small_images

_PIXELS = 32
_LEAST_TOLD = 0.6


def reidentification(given: AttackInput) -> Findings:
    """Tell whether two studies of one class are of one person."""
    everything, material = given.material, given.one_class
    if everything is None or material is None:
        return without_features("re-identification", given.run)
    found = audit_reidentification(
        material,
        divide(material.subjects, given.seed),
        given.policy,
        seed=given.seed,
        draws=given.draws,
        progress=given.progress,
    )
    given.progress("images")
    try:
        on_images = _on_images(given, everything, material)
    except ImageReadError:
        missing = (*found.outcome.not_tried, "the control on images, which cannot be read any more")
        return found.model_copy(update={"outcome": found.outcome.model_copy(update={"not_tried": missing})})
    controls = (*found.outcome.controls, on_images)
    return found.model_copy(update={"outcome": found.outcome.model_copy(update={"controls": controls})})


def _on_images(given: AttackInput, everything: ReleasedFeatures, material: ReleasedFeatures) -> Control:
    """Attack the images themselves, in a few pixels: what a release could tell at most, nearly."""
    kept = everything.labels == linkable_class(everything.subjects, everything.labels)
    rows = [row for row, keep in zip(released_rows(given.run), kept, strict=True) if keep]
    images = _few_pixels(small_images(given.run, rows))
    test = divide(material.subjects, given.seed).is_test
    (found,) = evaluate_reidentification(
        images[~test],
        material.subjects[~test],
        images[test],
        material.subjects[test],
        seed=given.seed,
        draws=given.draws,
        attackers=[LdaAttacker(given.seed)],
    )
    name = f"images of {images.shape[1]} pixels"
    passed = found.value >= _LEAST_TOLD and found.ci_low > 0.5
    return control("re-identification", "positive", name, found, passed, "0.6 or more, and an interval over 0.5")


def _few_pixels(images: Features) -> Features:
    """Average square blocks until neither side is over 32; every image gets mean 0 and standard deviation 1."""
    step = max(1, -(-max(images.shape[1:]) // _PIXELS))
    height, width = (extent // step for extent in images.shape[1:])
    blocks = images[:, : height * step, : width * step].reshape(len(images), height, step, width, step)
    flat = blocks.mean(axis=(2, 4)).reshape(len(images), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(flat.std(axis=1, keepdims=True), 1e-6))

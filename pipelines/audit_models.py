"""The network of an audited run, trained again and asked about the studies that it was fed with."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medfl.config.federation import Training
from medfl.data.batches import padded
from medfl.data.dataset import PreparedStudy
from medfl.data.preparation import IGNORED
from medfl.errors import AuditError
from medfl.federation.program import Arrays
from pipelines.audit_material import FEATURES, AuditedRun
from pipelines.build import build_pipeline
from pipelines.custody import custody_beside
from pipelines.feature_program import KEYS_PER_SITE, FeatureProgram, own_head
from pipelines.fit import Stretch, fit
from pipelines.pipeline import Pipeline
from pipelines.protection import SiteProtection
from pipelines.site_program import PipelineProgram
from pipelines.weights import as_arrays, load_arrays

_SPLITS = ("train", "test")
_LEAST = 1e-12

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Subjects:
    """A network, and the studies of subjects that it may have learned from.

    Attributes
    ----------
    pipeline : Pipeline
        Its network is set anew by every call.
    start : dict of str to ndarray
        The weights that training starts with.
    studies : tuple of PreparedStudy
        As the network is fed with them: protected where the run protects.
    apart : bool
        Whether every site has a head of its own.
    middle : bool
        Ask about the middle of each image alone, as large as the patches of training: one window instead of many.
    """

    pipeline: Pipeline[Any]
    start: Arrays
    studies: tuple[PreparedStudy, ...]
    apart: bool
    middle: bool = False

    @property
    def names(self) -> NDArray[np.str_]:
        """Subject of each study, shape (n,)."""
        return np.array([study.row.subject for study in self.studies])

    @property
    def learned(self) -> Bools:
        """Whether the run trained on each study's subject, shape (n,)."""
        return np.array([study.row.split == "train" for study in self.studies])

    def part(self, chosen: Bools) -> "Subjects":
        """Return the same with some of the studies."""
        return replace(self, studies=tuple(s for s, kept in zip(self.studies, chosen, strict=True) if kept))

    def train(self, chosen: Bools, training: Training, seed: list[int]) -> Arrays:
        """Train on the chosen studies in one place; with a head for each site, on each site's own.

        Parameters
        ----------
        chosen : ndarray of shape (n,), bool
        training : Training
        seed : list of int
            Decides order, crops, augmentation and dropout.
        """
        model: Arrays = {}
        for site, studies in self._groups(chosen):
            self._load(self.start)
            for number in range(1, training.rounds + 1):
                fit(
                    self.pipeline,
                    studies,
                    training,
                    Stretch(number, training.rounds, training.local_epochs, training.learning_rate),
                    device=self.pipeline.device,
                    rng=np.random.default_rng([*seed, number, *site.encode()]),
                )
            trained = as_arrays(self.pipeline.network.shared_state())
            model |= for_site(site, trained) if self.apart else trained
        return model

    def signals(self, model: Arrays) -> Floats:
        """Return what a model, or each site's own, gives the true answer of every study; see `true_answer`."""
        sites = np.array([study.row.site for study in self.studies])
        found = np.empty(len(sites))
        for site in np.unique(sites):
            self._load(own_head(model, str(site)))
            for index in np.flatnonzero(sites == site):
                study = self.studies[index]
                if self.middle and self.pipeline.patch is not None:
                    study = _middle(study, self.pipeline.patch)
                ((probabilities, _),) = self.pipeline.predict([study.image], 0)
                found[index] = true_answer(probabilities, study.target)
        return found

    def _groups(self, chosen: Bools) -> Iterator[tuple[str, list[PreparedStudy]]]:
        taken = [study for study, kept in zip(self.studies, chosen, strict=True) if kept]
        if not self.apart:
            yield "", taken
            return
        for site in sorted({study.row.site for study in self.studies}):
            yield site, [study for study in taken if study.row.site == site]

    def _load(self, model: Arrays) -> None:
        load_arrays(self.pipeline.network.shared_state(), {name: torch.from_numpy(a) for name, a in model.items()})


def for_site(site: str, model: Arrays) -> Arrays:
    """Return a model under the names that `own_head` finds for one site."""
    return {f"{KEYS_PER_SITE}{site}/{name}": array for name, array in model.items()}


def true_answer(probabilities: Tensor, target: Tensor) -> float:
    """Return what a prediction gives the true answer.

    Parameters
    ----------
    probabilities : Tensor of shape (K,) or (K, *spatial)
    target : Tensor
        A class, or classes (*spatial); voxels that do not count are `IGNORED`.

    Returns
    -------
    float
        In [1e-12, 1]: the probability of the class, or exp(-mean cross entropy) over the voxels that count; 1 where
        none does.
    """
    values = probabilities.detach().cpu().double().clamp(min=_LEAST, max=1.0)
    if target.ndim == 0:
        return float(values[int(target)])
    counted = target != IGNORED
    own = values.gather(0, target.long().masked_fill(~counted, 0)[None])[0][counted]
    return float(own.log().mean().exp()) if own.numel() else 1.0


def subjects_of(run: AuditedRun, *, middle: bool = False) -> Subjects:
    """Return the run's network and start, with its training and test studies as they are fed to it.

    Parameters
    ----------
    run : AuditedRun
    middle : bool
        See `Subjects`.

    Raises
    ------
    AuditError
        If features cannot be protected again in the way they were released.
    KeyFileError
        If a key that was used is not beside the run folder.
    """
    pipeline = build_pipeline(run.config, run.prepared.pipeline.device)
    studies = tuple(study for site, program in run.prepared.programs.items() for study in _fed(run, site, program))
    if run.config.sharing == "features":
        pipeline.cut_at(tuple(studies[0].image.shape), seed=run.config.seed)
    keyed = run.config.protection.keyed
    apart = keyed is not None and keyed.custody == "site"
    return Subjects(pipeline, as_arrays(pipeline.network.shared_state()), studies, apart, middle)


def _middle(study: PreparedStudy, patch: tuple[int, ...]) -> PreparedStudy:
    """Return the middle of an image, as large as a patch; what pads a smaller one does not count."""
    image, _ = padded(study.image, patch, float(study.image.min()))
    target, _ = padded(study.target, patch, IGNORED)
    starts = [(have - want) // 2 for have, want in zip(target.shape, patch, strict=True)]
    window = tuple(slice(start, start + want) for start, want in zip(starts, patch, strict=True))
    return replace(study, image=image[(slice(None), *window)], target=target[window])


def _fed(run: AuditedRun, site: str, program: PipelineProgram) -> list[PreparedStudy]:
    """Return one site's training and test studies as the model is fed with them, under the site's own keys."""
    if not isinstance(program, FeatureProgram):
        return [study for split in _SPLITS for study in program.studies[split]]
    custody = custody_beside(run.store, create=False)
    protection = SiteProtection(run.config, program.cut, run.minimized, custody, site)
    kept = run.store.read_release(site, FEATURES)
    ids = {record.key_id for record in run.store.read_history().releases if record.site == site}
    fed: list[PreparedStudy] = []
    for split in _SPLITS:
        studies = program.allowed(program.clear(split))
        images = protection.protect([study.image for study in studies], [study.row.study for study in studies])
        if kept is not None and split == "train" and not _same(images, kept[0]["features"]):
            raise AuditError("Protecting the training studies again must give what was released; it does not.")
        fed += [replace(study, image=image) for study, image in zip(studies, images, strict=True)]
    if protection.key_id not in ids:
        raise AuditError("Membership needs the key that the features were released under; another one was found.")
    return fed


def _same(images: Tensor, released: NDArray[np.float32]) -> bool:
    return images.shape == released.shape and bool(np.allclose(images.numpy(), released, atol=1e-3))

"""One hospital's side of a run that shares features."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from medfl.config.privacy import BottleneckStage, GaussianStage
from medfl.config.settings import Config
from medfl.data.dataset import PreparedStudy
from medfl.data.manifest import Manifest
from medfl.errors import ConfigError, FederationError, PrivacyError, ShapeError, TooFewSubjectsError
from medfl.federation.program import Arrays, EvaluateReply, Order, ReleaseReply, SiteMemory, TrainReply
from medfl.privacy.accounting import check_delta
from medfl.privacy.class_sums import ClassSums, class_sums, noised
from medfl.privacy.directions import fit_directions
from medfl.results.canonical import sha256
from medfl.results.store import RunStore
from pipelines.bookkeeping import SiteBooks
from pipelines.custody import Custody
from pipelines.feature_events import features_event, sums_event, unproven
from pipelines.minimization import Minimization, minimization
from pipelines.pipeline import Pipeline
from pipelines.protection import SiteProtection, cut_of, protection_digest
from pipelines.samples import Samples, sample_classes, study_samples
from pipelines.sealing import seal_release
from pipelines.site_program import PipelineProgram

CANDIDATE = "candidate/"
KEYS_PER_SITE = "site:"
_CHARGED = "charged"


def own_head(model: Arrays, site: str) -> Arrays:
    """Return the arrays of one site's own head; all arrays where every site has the same.

    Raises
    ------
    FederationError
        If there are heads for each site but none for this one.
    """
    if not any(name.startswith(KEYS_PER_SITE) for name in model):
        return model
    prefix = f"{KEYS_PER_SITE}{site}/"
    own = {name.removeprefix(prefix): array for name, array in model.items() if name.startswith(prefix)}
    if not own:
        raise FederationError("With a key for each site every site needs its own head; the hub has none for this site.")
    return own


class FeatureProgram(PipelineProgram):
    """Protects one site's features; nothing that trains or judges here ever sees clear ones.

    Parameters
    ----------
    site, pipeline, studies, manifest, config, store, device, books
        As in `PipelineProgram`; `studies` hold clear features of the pipeline's frozen encoder.
    custody : Custody
        Where this site finds its keys.
    """

    def __init__(
        self,
        site: str,
        pipeline: Pipeline[Any],
        studies: Sequence[PreparedStudy],
        *,
        manifest: Manifest,
        config: Config,
        store: RunStore | None,
        device: torch.device,
        custody: Custody,
        books: SiteBooks | None,
    ) -> None:
        super().__init__(
            site, pipeline, studies, manifest=manifest, config=config, store=store, device=device, books=books
        )
        if pipeline.encoder is None:
            raise ConfigError("Sharing features needs a frozen public backbone; this network has none.")
        self.cut = cut_of(pipeline.encoder, config.preprocessing.size)
        self.custody = custody
        self._clear = self.studies
        self._classes = sample_classes(config)
        self._protection: SiteProtection | None = None

    def sums(self, order: Order) -> EvaluateReply:
        """Sum up standardized features per class over training studies, or learn the directions here alone."""
        stage = self._bottleneck()
        if stage.learn == "site" and stage.site != self.site:
            return EvaluateReply({}, 0, 0, suppressed=f"{stage.site} learns the directions")
        minimum = self.config.evaluation.minimum_subjects
        # with noise nothing may depend on how many subjects a class has but the noised counts themselves
        samples = self._samples("train", join_below=0 if stage.epsilon is not None else minimum)
        try:
            with self.spending(0, "sums over features", partial(sums_event, self.config), "train"):
                sums = self._summed(stage, samples)
        except TooFewSubjectsError:
            return EvaluateReply({}, 0, 0, suppressed=f"a class has fewer than {minimum} subjects")
        if stage.learn == "site":
            found = fit_directions(sums, stage.directions[0], method=stage.method, components=stage.components)
            arrays, name = dict(minimization(sums, found, stage.saturate).to_arrays()), "directions"
        else:
            arrays, name = dict(sums.to_arrays()), "class-sums"
        self._write_release(name, arrays, "train")
        return EvaluateReply(arrays, len(set(samples.subjects)), len(self._clear["train"]))

    def choose(self, order: Order, memory: SiteMemory) -> EvaluateReply:
        """Count right answers per class and candidate on validation studies; for one set of candidates only."""
        stage = self._bottleneck()
        if len(stage.directions) < 2:
            raise ConfigError("Candidates are for a plan with several numbers of directions; this one has one.")
        _only_once(memory, "candidates", order.model)
        samples = self._samples("val", join_below=self.config.evaluation.minimum_subjects)
        labels, subjects = samples.labels, samples.subjects
        minimum = self.config.evaluation.minimum_subjects
        for label in range(self._classes):
            if 0 < len({subject for subject, own in zip(subjects, labels, strict=True) if own == label}) < minimum:
                return EvaluateReply({}, 0, 0, suppressed=f"a class has fewer than {minimum} subjects")
        if not len(labels):
            return EvaluateReply({}, 0, 0, suppressed="no validation studies")
        with self.spending(0, "right answers of candidates", unproven, "val"):
            arrays = self._right_answers(order, stage, samples)
        self._write_release("choice-of-directions", arrays, "val")
        return EvaluateReply(arrays, len(set(subjects)), len(self._clear["val"]))

    def release(self, order: Order, memory: SiteMemory) -> ReleaseReply:
        """Protect every feature; seal those of training studies for the hub where the plan lets it train the head.

        Raises
        ------
        PrivacyError
            If features were protected before in another way: every further set of directions would tell more.
        """
        started = time.perf_counter()
        _only_once(memory, "minimization", order.model)
        found = Minimization.from_arrays(order.model)
        memory.arrays.update({} if found is None else found.to_arrays())
        self._use(memory)
        protection, studies = self.protection, self.studies["train"]
        sealed: Arrays = {}
        if self.config.head_at == "hub":
            self._check_delta(studies)
            charged = f"{_CHARGED}/{protection.key_id}"
            if charged not in memory.arrays:
                self._book_features()
                protection.charge(len(studies))
                memory.arrays[charged] = np.array(len(studies))
            sealed = seal_release(
                studies,
                recipient=str(order.options.get("hub-key", "")),
                metadata=self._metadata(),
            )
            self._keep_features("features-train", studies)
        subjects = len({study.row.subject for study in studies}) if sealed else 0
        seconds = time.perf_counter() - started
        return ReleaseReply(sealed, subjects, len(studies) if sealed else 0, seconds, protection.key_id)

    def train(self, order: Order, memory: SiteMemory) -> TrainReply:
        """Train the head on the site's own protected features."""
        self._use(memory)
        return super().train(order, memory)

    def evaluate(self, order: Order, memory: SiteMemory) -> EvaluateReply:
        """Judge the head on the site's own protected features."""
        self._use(memory)
        return super().evaluate(self._own(order), memory)

    def finish(self, order: Order, memory: SiteMemory) -> EvaluateReply:
        """Judge the final head, keep cases and predictions at the site."""
        self._use(memory)
        return super().finish(self._own(order), memory)

    @property
    def protection(self) -> SiteProtection:
        """The site's protectors, with their key.

        Raises
        ------
        FederationError
            If the hub has not asked for a release yet.
        """
        if self._protection is None:
            raise FederationError("Features must be protected before they are used; the hub has not asked for it yet.")
        return self._protection

    def clear(self, split: str) -> list[PreparedStudy]:
        """Return studies with clear features, for measurements at the site; they never leave it."""
        return self._clear[split]

    def allowed(self, studies: Sequence[PreparedStudy]) -> list[PreparedStudy]:
        """Return at most as many studies of each subject as the noise was calibrated for."""
        noise = self.config.protection.noise
        if not isinstance(noise, GaussianStage):
            return list(studies)
        taken: dict[str, int] = {}
        kept = []
        for study in studies:
            taken[study.row.subject] = taken.get(study.row.subject, 0) + 1
            if taken[study.row.subject] <= noise.studies_per_subject:
                kept.append(study)
        return kept

    # --- inside ---------------------------------------------------------------------------------------------------

    def _bottleneck(self) -> BottleneckStage:
        stage = self.config.protection.minimize
        if not isinstance(stage, BottleneckStage):
            raise ConfigError("Sums of features are for a bottleneck; this plan has none. Nothing was released.")
        return stage

    def _check_delta(self, studies: Sequence[PreparedStudy]) -> None:
        noise = self.config.protection.noise
        if isinstance(noise, GaussianStage):
            check_delta(noise.delta, len({study.row.subject for study in studies}))

    def _summed(self, stage: BottleneckStage, samples: Samples) -> ClassSums:
        minimum = self.config.evaluation.minimum_subjects
        features, labels, subjects = samples.features, samples.labels, samples.subjects
        if stage.epsilon is None:
            return class_sums(features, labels, subjects, classes=self._classes, minimum_subjects=minimum)
        content = hashlib.sha256(features.tobytes() + labels.tobytes()).hexdigest()
        label = sha256({"sums": stage.model_dump(mode="json"), "subjects": subjects, "content": content})
        sums, _ = noised(
            features,
            labels,
            subjects,
            classes=self._classes,
            minimum_subjects=minimum,
            clip=stage.clip,
            epsilon=stage.epsilon,
            delta=stage.delta,
            source=self.custody.noise(self.site, label),
        )
        return sums

    def _book_features(self) -> None:
        """Book what is about to be sealed; asked for again, the same envelopes tell nothing more."""
        with self.spending(0, "protected features", partial(features_event, self.config), "train"):
            pass
        targets = "labels" if self.config.task.kind == "classification" else "masks"
        with self.spending(0, f"{targets} of the same studies", unproven, "train"):
            pass

    def _right_answers(self, order: Order, stage: BottleneckStage, samples: Samples) -> Arrays:
        features, labels = samples.features, samples.labels
        counts = np.bincount(labels, minlength=self._classes).astype(np.float64)
        right = np.zeros((len(stage.directions), self._classes))
        for row, k in enumerate(stage.directions):
            weights, bias = order.model[f"{CANDIDATE}{k}/weights"], order.model[f"{CANDIDATE}{k}/bias"]
            if weights.shape != (self._classes, self.cut.shape[0]) or bias.shape != (self._classes,):
                raise ShapeError("candidates must be one linear classifier per number of directions.")
            predicted = (features @ weights.T + bias).argmax(axis=1)
            right[row] = np.bincount(labels[predicted == labels], minlength=self._classes)
        return {"right": right, "counts": counts}

    def _own(self, order: Order) -> Order:
        return replace(order, model=own_head(order.model, self.site))

    def _use(self, memory: SiteMemory) -> None:
        """Protect all studies once, and again in the same way where a process starts anew; then use no others."""
        if self._protection is None:
            minimized = Minimization.from_arrays(memory.arrays)
            protection = SiteProtection(self.config, self.cut, minimized, self.custody, self.site)
            self.studies = {
                split: _protected(protection, self.allowed(studies)) for split, studies in self._clear.items()
            }
            self._protection = protection
            self._private = None
        self.pipeline.cut_at(self.protection.shape, seed=self.config.seed)

    def _samples(self, split: str, *, join_below: int) -> Samples:
        return study_samples(self.config, self.cut, self._clear[split], minimum_subjects=join_below)

    def _metadata(self) -> dict[str, str]:
        return {
            "encoder": self.cut.model,
            "protection": protection_digest(self.config, self.cut, self.protection.minimized),
            "kid": self.protection.key_id,
            "site": self.site,
        }

    def _keep_features(self, name: str, studies: Sequence[PreparedStudy]) -> None:
        if self.store is None or self.config.evaluation.keep_releases == "none" or not studies:
            return
        arrays = {
            "features": np.stack([study.image.numpy() for study in studies]),
            "targets": np.stack([study.target.numpy() for study in studies]),
        }
        self.store.write_release(self.site, name, arrays, tuple(study.row.subject for study in studies))


def _only_once(memory: SiteMemory, what: str, arrays: Arrays) -> None:
    """Remember what was asked; refuse anything else of the kind in the same run."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode() + arrays[name].tobytes())
    asked = np.frombuffer(digest.digest(), dtype=np.uint8).copy()
    before = memory.arrays.setdefault(f"asked/{what}", asked)
    if not np.array_equal(before, asked):
        raise PrivacyError(f"A hub may send one set of {what} in a run; it sent another. Nothing was released.")


def _protected(protection: SiteProtection, studies: Sequence[PreparedStudy]) -> list[PreparedStudy]:
    features = protection.protect([study.image for study in studies], [study.row.study for study in studies])
    return [replace(study, image=image) for study, image in zip(studies, features, strict=True)]


def make_program(
    site: str,
    pipeline: Pipeline[Any],
    studies: Sequence[PreparedStudy],
    *,
    manifest: Manifest,
    config: Config,
    store: RunStore | None,
    device: torch.device,
    custody: Custody,
    books: SiteBooks | None,
) -> PipelineProgram:
    """Return the program that the plan's way of sharing asks for."""
    if config.sharing == "features":
        return FeatureProgram(
            site,
            pipeline,
            studies,
            manifest=manifest,
            config=config,
            store=store,
            device=device,
            custody=custody,
            books=books,
        )
    return PipelineProgram(
        site, pipeline, studies, manifest=manifest, config=config, store=store, device=device, books=books
    )

"""One hospital's side of a run: a pipeline over the site's own studies."""

import secrets
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medfl.config.settings import Config
from medfl.config.training_privacy import DpSgd, DpUpdates, NoTrainingPrivacy
from medfl.data.dataset import PreparedStudy
from medfl.data.manifest import Manifest
from medfl.errors import ImageReadError, TooFewSubjectsError
from medfl.federation.program import Arrays, EvaluateReply, Order, SiteFacts, SiteMemory, TrainReply
from medfl.imaging.read import read_image
from medfl.privacy.canaries import CanaryOutcome, of_all_rounds
from medfl.privacy.keystream import KEY_BYTES, Keystream
from medfl.privacy.update_noise import noised_update
from medfl.results.store import RunStore, file_stem
from medfl.training.gradient_rules import ControlVariate, GradientRule, Proximal
from pipelines.bookkeeping import EventOf, SiteBooks
from pipelines.case_table import cell
from pipelines.fit import Stretch, fit
from pipelines.pipeline import Case, Pipeline
from pipelines.private_training import PrivateTraining
from pipelines.training_events import round_event, update_noise
from pipelines.weights import as_arrays, load_arrays, mixed

SPLITS = ("train", "val", "test")
_LOCAL = "local/"
_VARIATE = "variate/"
_CANARY = "canary/"
_SCORED = ("included", "scores", "steps")
_PERSONAL_RATE = 0.25
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


class PipelineProgram:
    """Trains and judges one site's studies.

    Parameters
    ----------
    site : str
    pipeline : Pipeline
        Its network may be shared by the programs of one process; every call sets all of its weights first.
    studies : sequence of PreparedStudy
        Of this site, all splits.
    manifest : Manifest
        Where predictions find the original image.
    config : Config
    store : RunStore or None
        The site's own run folder; None keeps nothing.
    device : device
    books : SiteBooks or None
        Where releases are booked before they are computed; None books nothing.
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
        books: SiteBooks | None,
    ) -> None:
        self.site = site
        self.pipeline = pipeline
        self.studies = {split: [s for s in studies if s.row.split == split] for split in SPLITS}
        self.manifest = manifest
        self.config = config
        self.store = store
        self.device = device
        self.books = books
        self._private: PrivateTraining | None = None
        self._start = {name: tensor.clone() for name, tensor in pipeline.network.shared_state().items()}

    def describe(self) -> SiteFacts:
        """Say how much data there is."""
        subjects = {split: len({s.row.subject for s in studies}) for split, studies in self.studies.items()}
        return SiteFacts(self.site, subjects, {split: len(studies) for split, studies in self.studies.items()})

    def train(self, order: Order, memory: SiteMemory) -> TrainReply:
        """Train for the configured number of local epochs, or the private steps of one round.

        With differential privacy neither loss nor seconds are told: both would be releases without noise.
        """
        started = time.perf_counter()
        if isinstance(self.config.privacy, DpSgd):
            self._private_training().prepare()
        with self.spending(order.round, "model weights of a round", partial(round_event, self.config), "train"):
            model, control, loss = self._trained(order, memory)
        self._keep(order.round, model, control)
        studies = self.studies["train"]
        subjects = len({study.row.subject for study in studies})
        is_private = not isinstance(self.config.privacy, NoTrainingPrivacy)
        seconds = None if is_private else time.perf_counter() - started
        return TrainReply(model, control, subjects, len(studies), None if is_private else loss, seconds)

    def evaluate(self, order: Order, memory: SiteMemory) -> EvaluateReply:
        """Judge the model on one split."""
        self._load(order, memory)
        return self._judge(order, keep_cases=False)

    def finish(self, order: Order, memory: SiteMemory) -> EvaluateReply:
        """Make the final model the site's own where that is asked for, judge it in full, keep what stays here."""
        epochs = self.config.federation.personalize_epochs
        model = self.final_model(order, memory, personalize_epochs=epochs)
        if self.store is not None and (order.options.get("local-names") or epochs):
            self.store.write_personal(self.site, model)
        canaries = {name: memory.arrays[_CANARY + name] for name in _SCORED if _CANARY + name in memory.arrays}
        if self.store is not None and canaries:
            self.store.write_canaries(self.site, canaries)
        if self.store is not None and self.books is not None:
            self.store.write_balance(self.books.balance(self.site))
        return self._judge(order, keep_cases=True)

    def final_model(self, order: Order, memory: SiteMemory, *, personalize_epochs: int) -> Arrays:
        """Return the whole model this site uses in the end; the network holds it, too.

        Parameters
        ----------
        order : Order
            With the final global model.
        memory : SiteMemory
            Where local layers are.
        personalize_epochs : int
            Epochs of further training here; 0 leaves the model as it is.
        """
        self._load(order, memory)
        if personalize_epochs and self.studies["train"]:
            self._personalize(order.rounds, personalize_epochs)
        return as_arrays(self.pipeline.network.shared_state())

    def load(self, model: Arrays) -> None:
        """Set every weight of the network to a whole model."""
        load_arrays(
            self.pipeline.network.shared_state(), {name: torch.from_numpy(array) for name, array in model.items()}
        )

    def spending(self, round: int, release: str, event_of: EventOf, split: str) -> AbstractContextManager[None]:
        """Book a release before it is computed; see `SiteBooks.spending`."""
        if self.books is None:
            return nullcontext()
        return self.books.spending(round, release, event_of, (study.row.subject for study in self.studies[split]))

    # --- inside ---------------------------------------------------------------------------------------------------

    def _trained(self, order: Order, memory: SiteMemory) -> tuple[Arrays, Arrays, float | None]:
        """Train; return the model, the control variates and the loss."""
        network, training, privacy = self.pipeline.network, self.config.training, self.config.privacy
        local = self._load(order, memory)
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        rules, variate = self._rules(order, memory, parameters)
        stretch = Stretch(order.round, order.rounds, training.local_epochs, training.learning_rate)
        loss = None
        if isinstance(privacy, DpSgd):
            coins = _canary_coins(memory) if privacy.canaries else None
            _remember_canaries(memory, self._private_training().fit(stretch, rules=rules, coins=coins))
        else:
            loss = self._fit(stretch, stream=order.round, rules=rules)
        model = {name: tensor.cpu().numpy().copy() for name, tensor in network.shared_state().items()}
        if isinstance(privacy, DpUpdates):
            noise = update_noise(self.config)
            source = Keystream(secrets.token_bytes(KEY_BYTES))
            model = noised_update(order.model, model, clip=privacy.clip, noise_multiplier=noise, source=source)
        for name in local:
            memory.arrays[_LOCAL + name] = model.pop(name)
        return model, {} if variate is None else self._next_control(variate, memory), loss

    def _private_training(self) -> PrivateTraining:
        if self._private is None:
            self._private = PrivateTraining(self.pipeline, self.studies["train"], self.config, self.device)
        return self._private

    def _load(self, order: Order, memory: SiteMemory) -> list[str]:
        """Set every weight of the network; return the names of those that stay at the site."""
        named = order.options.get("local-names", [])
        local = list(named) if isinstance(named, list) else []
        arrays: dict[str, Tensor] = {name: torch.from_numpy(array) for name, array in order.model.items()}
        for name in local:
            kept = memory.arrays.get(_LOCAL + name)
            arrays[name] = self._start[name] if kept is None else torch.from_numpy(kept)
        load_arrays(self.pipeline.network.shared_state(), arrays)
        return local

    def _rules(
        self, order: Order, memory: SiteMemory, parameters: Sequence[Tensor]
    ) -> tuple[list[GradientRule], ControlVariate | None]:
        rules: list[GradientRule] = []
        mu = order.options.get("proximal-mu", 0.0)
        if isinstance(mu, int | float) and mu > 0:
            rules.append(Proximal(float(mu), [parameter.detach() for parameter in parameters]))
        if not order.options.get("control-variates", False):
            return rules, None
        correction = []
        for name in self._parameter_names():
            own = memory.arrays.get(_VARIATE + name)
            shared = torch.from_numpy(order.control[name]).to(self.device)
            correction.append(shared if own is None else shared - torch.from_numpy(own).to(self.device))
        variate = ControlVariate(correction)
        return [*rules, variate], variate

    def _next_control(self, variate: ControlVariate, memory: SiteMemory) -> Arrays:
        own = {
            name: tensor.cpu().numpy()
            for name, tensor in zip(self._parameter_names(), variate.next_variate(), strict=True)
        }
        memory.arrays.update({_VARIATE + name: array for name, array in own.items()})
        return own

    def _parameter_names(self) -> list[str]:
        return [name for name, parameter in self.pipeline.network.named_parameters() if parameter.requires_grad]

    def _keep(self, number: int, model: Arrays, control: Arrays) -> None:
        arrays = model | {f"control/{key}": value for key, value in control.items()}
        self._write_release(self._round_name(number), arrays, "train")

    def _round_name(self, number: int) -> str:
        return f"round-{number:04d}" if self.config.evaluation.keep_releases == "all" else "last-round"

    def _write_release(self, name: str, arrays: Arrays, split: str) -> None:
        if self.store is not None and self.config.evaluation.keep_releases != "none":
            members = tuple(sorted({study.row.subject for study in self.studies[split]}))
            self.store.write_release(self.site, name, arrays, members)

    def _fit(self, stretch: Stretch, *, stream: int, rules: Sequence[GradientRule] = ()) -> float:
        """Train on the site's own studies; seed, stream and site decide every random number."""
        rng = np.random.default_rng([self.config.seed, stream, *self.site.encode()])
        return fit(
            self.pipeline,
            self.studies["train"],
            self.config.training,
            stretch,
            device=self.device,
            rng=rng,
            rules=rules,
        )

    def _personalize(self, rounds: int, epochs: int) -> None:
        """Train on the site's own studies, then keep the mix of before and after that validates best.

        Without validation studies the model stays as it was: nothing here could tell a better one.
        """
        validation = self.studies["val"]
        if not validation:
            return
        before = as_arrays(self.pipeline.network.shared_state())
        rate = self.config.training.learning_rate * _PERSONAL_RATE
        self._fit(Stretch(1, 1, epochs, rate), stream=rounds + 1)
        after = as_arrays(self.pipeline.network.shared_state())
        scored = []
        for share in _SHARES:
            self.load(mixed(before, after, share))
            judged = [self.pipeline.judge(study, self.pipeline.predict([study.image], 0)[0][0]) for study in validation]
            scored.append((self.pipeline.score(judged), -share))
        self.load(mixed(before, after, -max(scored)[1]))

    def _judge(self, order: Order, *, keep_cases: bool) -> EvaluateReply:
        split = str(order.options.get("split", "val"))
        studies = self.studies.get(split, [])
        settings = self.config.evaluation
        subjects = {study.row.subject for study in studies}
        judged, cases = [], []
        for study in studies:
            ((probabilities, spread),) = self.pipeline.predict(
                [study.image], settings.uncertainty_passes if keep_cases else 0
            )
            one = self.pipeline.judge(study, probabilities)
            judged.append(one)
            if keep_cases and self.store is not None:
                cases.append(self._case(study, one, probabilities, spread))
        if cases and self.store is not None:
            columns = list(cases[0])
            self.store.write_cases(self.site, columns, [[cell(case[name]) for name in columns] for case in cases])
        try:
            measures = self.pipeline.measures(
                [study.row.subject for study in studies], judged, minimum_subjects=settings.minimum_subjects
            )
        except TooFewSubjectsError:
            return EvaluateReply({}, 0, 0, suppressed=f"fewer than {settings.minimum_subjects} subjects")
        name = f"measures-{split}" if keep_cases else f"measures-{split}-{self._round_name(order.round)}"
        self._write_release(name, measures, split)
        return EvaluateReply(measures, len(subjects), len(studies))

    def _case(self, study: PreparedStudy, judged: Any, probabilities: Tensor, spread: Tensor) -> Case:
        row = study.row
        case: Case = {"site": self.site, "subject": row.subject, "study": row.study, "split": row.split}
        case |= self.pipeline.case(judged, probabilities, spread)
        case |= {"visit_date": row.visit_date, "sex": row.sex, "age": row.age, "scanner": row.scanner}
        if self.store is not None and self.config.evaluation.save_predictions:
            folder = self.store.predictions_of(self.site)
            try:
                image = read_image(self.manifest.image_path(row))
            except ImageReadError:
                image = None
            path = self.pipeline.write_prediction(probabilities, image, folder / file_stem(row.study))
            case["prediction"] = "" if path is None else f"predictions/{self.site}/{path.name}"
        return case


def _canary_coins(memory: SiteMemory) -> bytes:
    """Return the run's key for tossing canaries' coins; it is drawn in the first round and never leaves the site."""
    drawn = np.frombuffer(secrets.token_bytes(KEY_BYTES), dtype=np.uint8).copy()
    return memory.arrays.setdefault(_CANARY + "coins", drawn).tobytes()


def _remember_canaries(memory: SiteMemory, outcome: CanaryOutcome | None) -> None:
    """Add one round's scores to those of the rounds before."""
    if outcome is None:
        return
    before = [memory.arrays.get(_CANARY + name) for name in _SCORED]
    if all(array is not None for array in before):
        included, scores, steps = (np.asarray(array) for array in before)
        outcome = of_all_rounds([CanaryOutcome(included.astype(bool), scores, int(steps)), outcome])
    for name, array in zip(_SCORED, (outcome.included, outcome.scores, np.array(outcome.steps)), strict=True):
        memory.arrays[_CANARY + name] = array

"""What a federation is compared with: all data in one place, and each site alone; both without noise."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from medfl.config.settings import Config
from medfl.config.training_privacy import NoTrainingPrivacy
from medfl.errors import TooFewSubjectsError
from medfl.federation.program import Arrays, Order, SiteMemory
from medfl.results.metrics import RunMetrics
from pipelines.pipeline import Pipeline
from pipelines.simulate import Prepared
from pipelines.site_program import PipelineProgram


def train_pooled(config: Config, prepared: Prepared) -> Arrays:
    """Train one model on the training studies of all sites together, as many passes as the federation makes.

    Parameters
    ----------
    config : Config
    prepared : Prepared

    Returns
    -------
    dict of str to ndarray
        The trained model.
    """
    studies = [study for program in prepared.programs.values() for study in program.studies["train"]]
    return _train(config, prepared, "pooled", studies, passes=_passes(config))


def train_local(config: Config, prepared: Prepared, site: str, *, equal_steps: bool) -> Arrays:
    """Train a model on one site's training studies alone.

    Parameters
    ----------
    config : Config
    prepared : Prepared
    site : str
    equal_steps : bool
        Take as many optimizer steps as all sites of the federation together; else as many as the site takes in the
        federation.
    """
    program = prepared.programs[site]
    passes = _passes(config)
    if equal_steps:
        total = sum(len(other.studies["train"]) for other in prepared.programs.values())
        passes = round(passes * total / len(program.studies["train"]))
    return _train(config, prepared, f"local-{site}", program.studies["train"], passes=passes)


def judge(config: Config, prepared: Prepared, model_of: Mapping[str, Arrays], split: str = "test") -> RunMetrics:
    """Judge models on every site's own studies.

    Parameters
    ----------
    config : Config
    prepared : Prepared
    model_of : mapping of str to dict of str to ndarray
        Site -> the model to use there; the same for all, or each its own.
    split : str
    """
    measures, suppressed = {}, {}
    for site, program in prepared.programs.items():
        silent = PipelineProgram(
            site,
            prepared.pipeline,
            program.studies[split],
            manifest=prepared.manifest,
            config=config,
            store=None,
            device=program.device,
            books=None,
        )
        reply = silent.finish(Order(1, 1, model_of[site], {}, {"split": split}), SiteMemory())
        if reply.suppressed:
            suppressed[site] = reply.suppressed
        else:
            measures[site] = reply.measures
    finished = prepared.pipeline.finish(measures, seed=config.seed)
    return RunMetrics(split=split, pooled=finished.pooled, sites=finished.sites, suppressed=suppressed)


def judge_ensemble(config: Config, prepared: Prepared, models: Mapping[str, Arrays], split: str = "test") -> RunMetrics:
    """Judge the mean of the probabilities of several models on every site's own studies."""
    pipeline: Pipeline[Any] = prepared.pipeline
    measures, suppressed = {}, {}
    for site, program in prepared.programs.items():
        studies = program.studies[split]
        summed: list[torch.Tensor] = []
        for model in models.values():
            program.load(model)
            predicted = [pipeline.predict([study.image], 0)[0][0] for study in studies]
            summed = [a + b for a, b in zip(summed, predicted, strict=True)] if summed else predicted
        judged = [pipeline.judge(study, total / len(models)) for study, total in zip(studies, summed, strict=True)]
        try:
            measures[site] = pipeline.measures(
                [study.row.subject for study in studies],
                judged,
                minimum_subjects=config.evaluation.minimum_subjects,
            )
        except TooFewSubjectsError:
            suppressed[site] = f"fewer than {config.evaluation.minimum_subjects} subjects"
    finished = pipeline.finish(measures, seed=config.seed)
    return RunMetrics(split=split, pooled=finished.pooled, sites=finished.sites, suppressed=suppressed)


def _passes(config: Config) -> int:
    return config.training.rounds * config.training.local_epochs


def _train(config: Config, prepared: Prepared, name: str, studies: list[Any], *, passes: int) -> Arrays:
    training = config.training.model_copy(update={"rounds": 1, "local_epochs": passes})
    alone = config.model_copy(update={"training": training, "privacy": NoTrainingPrivacy()})
    program = PipelineProgram(
        name,
        prepared.pipeline,
        [replace(study, row=replace(study.row, split="train")) for study in studies],
        manifest=prepared.manifest,
        config=alone,
        store=None,
        device=next(iter(prepared.programs.values())).device,
        books=None,
    )
    return program.train(Order(1, 1, prepared.start, {}, {}), SiteMemory()).model

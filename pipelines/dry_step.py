"""One training step of a plan on a site's own data, to see that it works: `python -m pipelines.dry_step < QUESTION`.

A process of its own, without network, so that its memory can be measured and nothing of it stays. Nothing is sent or
kept but the cache of prepared images.
"""

import os
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class DryQuestion(BaseModel):
    """What to try.

    Attributes
    ----------
    settings : str
        Of the plan.
    site : str
    manifest : Path
    cache : Path
    without : tuple of str
        Subjects who withdrew.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: str
    site: str
    manifest: Path
    cache: Path
    without: tuple[str, ...] = ()


class DryAnswer(BaseModel):
    """What came of it.

    Attributes
    ----------
    error : str
        Kind of an error; empty where all went well. No text: that could name a patient's file.
    studies : int
        That the step was made with.
    seconds : float
        Reading, preparing and the step.
    peak_bytes : int
        Most memory of the process.
    reply_bytes : int
        Of the arrays that a round would send.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    error: str = ""
    studies: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0
    reply_bytes: int = 0


def dry_step(question: DryQuestion) -> DryAnswer:
    """Read one batch of training studies, train one step from the plan's first weights, and forget it.

    Parameters
    ----------
    question : DryQuestion
        Its settings share weights, without differential privacy.

    Raises
    ------
    MedFLError
        If the settings or the data cannot be used.
    """
    from medfl.config.reading import parse_config
    from medfl.data.dataset import prepare_all
    from medfl.errors import DataError
    from medfl.federation.program import Order, SiteMemory
    from pipelines.build import build_pipeline, build_strategy, choose_device
    from pipelines.site_program import PipelineProgram
    from pipelines.sources import load_site
    from pipelines.weights import as_arrays

    started = time.perf_counter()
    config = parse_config(question.settings, source="settings")
    manifest = load_site(question.manifest, question.site, config, without=frozenset(question.without))
    rows = manifest.where(split="train").rows[: config.training.batch_size]
    device = choose_device(config)
    pipeline = build_pipeline(config, device)
    studies, _ = prepare_all(
        replace(manifest, rows=rows), pipeline.preparation, cache=question.cache, encoder=pipeline.encoder
    )
    if not studies:
        raise DataError("A site needs at least one study to train on; none could be used.")
    program = PipelineProgram(
        question.site,
        pipeline,
        studies,
        manifest=manifest,
        config=config,
        store=None,
        device=device,
        books=None,
    )
    strategy = build_strategy(config, pipeline.network, sites=1)
    model = as_arrays(pipeline.network.shared_state())
    order = Order(1, 1, strategy.shared(model), strategy.control(model), strategy.instructions())
    reply = program.train(order, SiteMemory())
    return DryAnswer(
        studies=len(studies),
        seconds=time.perf_counter() - started,
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        reply_bytes=sum(array.nbytes for array in (*reply.model.values(), *reply.control.values())),
    )


def main() -> None:
    """Answer the question on standard input on what was standard output; nobody else prints there."""
    from medfl.federation.network_lock import lock_network

    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        lock_network()
        answer = dry_step(DryQuestion.model_validate_json(sys.stdin.buffer.read()))
    except Exception as error:
        answer = DryAnswer(error=type(error).__name__)
    with os.fdopen(answers, "w") as out:
        out.write(answer.model_dump_json())


if __name__ == "__main__":
    main()

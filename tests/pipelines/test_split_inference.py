"""Both sides of a prediction on protected features."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from medfl.config.reading import parse_config
from medfl.errors import EnvelopeError
from pipelines.build import build_pipeline
from pipelines.custody import MemoryCustody
from pipelines.split_inference import InferenceHub, InferenceSite, Question
from pipelines.weights import as_arrays

TEXT = """\
name: tiny
sharing: features
task: {kind: classification, dimensions: 2, classes: {a: ["0"], b: ["1"]}}
data: {source: {kind: phantoms, dimensions: 2}, sites: {kind: column}}
preprocessing: {size: [32, 32]}
network: {kind: efficientnet_lite0, hidden: 4}
training: {rounds: 1}
protection: {keyed: {kind: knt}}
"""
Sides = tuple[InferenceSite, InferenceHub]


@pytest.fixture(scope="module")
def sides() -> Sides:
    config = parse_config(TEXT)
    pipeline = build_pipeline(config, torch.device("cpu"))
    hub = InferenceHub(pipeline, as_arrays(pipeline.network.shared_state()))
    site = InferenceSite(
        pipeline, config, minimized=None, custody=MemoryCustody(), site="north", hub_key=hub.public_key
    )
    return site, hub


def picture(seed: int) -> torch.Tensor:
    return torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(seed))


def test_a_question_gets_probabilities(sides: Sides) -> None:
    site, hub = sides
    question = site.ask(picture(0))
    probabilities, spread = site.read(hub.answer(question, site.shape), question)
    assert float(probabilities.sum()) == pytest.approx(1, abs=1e-5)
    assert probabilities.shape == spread.shape == (2,)


def test_an_answer_to_another_question_is_refused(sides: Sides) -> None:
    site, hub = sides
    first, second = site.ask(picture(0)), site.ask(picture(1))
    with pytest.raises(EnvelopeError):
        site.read(hub.answer(second, site.shape), first)


@pytest.mark.parametrize(
    "change",
    [
        lambda question: replace(question, sealed=question.sealed[:-1] + bytes([question.sealed[-1] ^ 1])),
        lambda question: replace(question, wrapped=question.wrapped[:-3]),
        lambda question: replace(question, sealed=b""),
    ],
)
def test_a_changed_question_is_not_answered(sides: Sides, change: Callable[[Question], Question]) -> None:
    site, hub = sides
    with pytest.raises(EnvelopeError):
        hub.answer(change(site.ask(picture(0))), site.shape)


def test_features_of_another_shape_are_not_answered(sides: Sides) -> None:
    site, hub = sides
    with pytest.raises(EnvelopeError, match="shape"):
        hub.answer(site.ask(picture(0)), (7,))


def test_the_hub_never_sees_the_clear_features(sides: Sides) -> None:
    site, _ = sides
    assert picture(0).numpy().tobytes() not in site.ask(picture(0)).sealed

"""What a bottleneck is learned from."""

import numpy as np
import pytest
import torch

from medfl.config.reading import parse_config
from medfl.config.settings import Config
from medfl.data.dataset import PreparedStudy
from medfl.data.manifest import StudyRow
from medfl.data.preparation import IGNORED
from medfl.privacy.standardization import Standardization
from pipelines.protection import Cut
from pipelines.samples import sample_classes, study_samples

TEXT = """\
name: tiny
sharing: features
task: {kind: segmentation, dimensions: 2, classes: {a: 1}, patch: [16, 16]}
data: {source: {kind: phantoms, dimensions: 2}, sites: {kind: column}}
preprocessing: {size: [16, 16]}
network: {kind: efficientnet_lite0, layer: stride8, hidden: 4}
training: {rounds: 1}
"""
CUT = Cut((3, 2, 2), "m", Standardization(np.zeros(3), np.ones(3)))


@pytest.fixture
def config() -> Config:
    return parse_config(TEXT)


def study(subject: str, target: torch.Tensor) -> PreparedStudy:
    row = StudyRow(subject=subject, study=subject, site="s", image="", target="", split="train")
    return PreparedStudy(row, torch.arange(12.0).view(3, 2, 2), target.to(torch.uint8), (1.0, 1.0))


def test_a_position_has_the_classes_of_its_four_quarters(config: Config) -> None:
    target = torch.zeros(16, 16)
    target[:4, 4:8] = 1  # upper right quarter of the first tile
    samples = study_samples(config, CUT, [study("a", target)], minimum_subjects=1)
    assert sample_classes(config) == 16
    assert samples.labels.tolist() == [2, 0, 0, 0]
    np.testing.assert_allclose(samples.features[0], [0, 4, 8], rtol=1e-5)


def test_positions_with_ignored_pixels_are_left_out(config: Config) -> None:
    target = torch.zeros(16, 16)
    target[:4, :4] = IGNORED
    samples = study_samples(config, CUT, [study("a", target)], minimum_subjects=1)
    assert len(samples.labels) == len(samples.subjects) == 3


def test_what_too_few_subjects_have_is_told_as_an_undivided_tile(config: Config) -> None:
    odd = torch.zeros(16, 16)
    odd[:4, :4] = 1
    studies = [study("a", odd), *(study(name, torch.zeros(16, 16)) for name in "bcd")]
    found = study_samples(config, CUT, studies, minimum_subjects=1).labels
    assert sorted(set(found.tolist())) == [0, 1]
    joined = study_samples(config, CUT, studies, minimum_subjects=2).labels
    assert sorted(set(joined.tolist())) == [0, 15]


def test_many_classes_are_told_by_the_middle_of_a_tile() -> None:
    many = parse_config(TEXT.replace("{a: 1}", "{a: 1, b: 2, c: 3}"))
    assert sample_classes(many) == 4
    samples = study_samples(many, CUT, [study("a", torch.full((16, 16), 3.0))], minimum_subjects=1)
    assert samples.labels.tolist() == [3, 3, 3, 3]


def test_no_studies_are_no_samples(config: Config) -> None:
    samples = study_samples(config, CUT, [], minimum_subjects=3)
    assert samples.features.shape == (0, 3)
    assert samples.subjects == []

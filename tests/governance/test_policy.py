from pathlib import Path

import pytest

from medfl.errors import ConfigError
from medfl.governance.policy import AuditPolicy, limit_of, question_of, read_policy


def test_without_a_file_the_default_margins_hold() -> None:
    assert read_policy(None) == AuditPolicy()


@pytest.mark.parametrize(
    "text",
    ["margin: {}", "margins: {verification_auc: 0.4}", "margins: {x: 1}", "[1", "allowed: {linkability: [anonymous]}"],
)
def test_unknown_names_and_impossible_limits_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="policy must"):
        read_policy(path)


def test_two_policies_differ_in_their_digest_exactly_when_they_differ() -> None:
    assert AuditPolicy().digest() == AuditPolicy().digest()
    assert AuditPolicy(gallery=50).digest() != AuditPolicy().digest()


def test_every_headline_metric_has_a_question_and_a_limit() -> None:
    assert question_of("re-identification", "rank_1") == "singling out"
    assert question_of("re-identification", "eer") is None
    assert limit_of(AuditPolicy(), "attributes", "auc", 0.7) == pytest.approx(0.75)
    with pytest.raises(ConfigError, match="no margin"):
        limit_of(AuditPolicy(), "re-identification", "eer", 0.5)

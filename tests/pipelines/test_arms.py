"""Protections side by side."""

from pathlib import Path

import pytest

from app.cli.display_arms import arms_figure
from medfl.config.privacy import GaussianStage, PlainNoiseStage
from medfl.config.reading import parse_config
from medfl.config.settings import Config
from medfl.errors import AuditError, ConfigError
from medfl.results.arms import ArmResult, ArmTable, Utility
from pipelines.arms import ARMS, HEAD_ONLY, with_arm
from pipelines.compare_arms import PREDICTIONS_ONLY, WantedArms, comparable, compare_arms
from tests.audit.reports import attack

TEXT = """\
name: tiny_arms
sharing: features
task: {kind: classification, dimensions: 2, classes: {normal: [normal], lesion: [lesion]}}
data:
  source: {kind: phantoms, dimensions: 2, subjects: 60, visits: 3, sites: 2}
  sites: {kind: column}
  split: {train: 0.5, validation: 0.2, test: 0.3}
preprocessing: {size: [32, 32]}
network: {kind: efficientnet_lite0, hidden: 8}
training: {rounds: 1, batch_size: 16, learning_rate: 0.01}
evaluation: {minimum_subjects: 3, every: 0}
protection:
  minimize: {kind: bottleneck, directions: [2], components: 16}
  keyed: {kind: knt, rounds: 1}
"""


@pytest.fixture
def config() -> Config:
    return parse_config(TEXT)


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm != "permutation"])
def test_an_arm_is_the_protection_it_is_called_by(config: Config, arm: str) -> None:
    assert with_arm(config, arm).protection.arm == arm


def test_an_arm_keeps_the_settings_the_configuration_has(config: Config) -> None:
    changed = with_arm(config, "bottleneck+knt").protection
    assert changed == config.protection
    noised = with_arm(config, "gaussian", epsilon=3.0).protection
    assert isinstance(noised.noise, GaussianStage)
    assert noised.noise.epsilon == 3.0
    control = with_arm(config, "matched-noise", std=0.25).protection.noise
    assert isinstance(control, PlainNoiseStage)
    assert control.std == 0.25


def test_head_only_shares_weights_and_protects_nothing(config: Config) -> None:
    changed = with_arm(config, HEAD_ONLY)
    assert changed.sharing == "weights"
    assert changed.protection.arm == "none"


def test_arms_that_mean_nothing_are_refused(config: Config) -> None:
    with pytest.raises(ConfigError, match="--arms"):
        with_arm(config, "nonsense")
    with pytest.raises(ConfigError, match="positions of maps"):
        with_arm(config, "permutation")
    with pytest.raises(ConfigError, match="sharing: features"):
        with_arm(with_arm(config, HEAD_ONLY), "knt")
    with pytest.raises(ConfigError, match="--arms"):
        WantedArms(("nonsense",))
    assert "permutation" not in comparable(config)


def arm(
    name: str, found: float | None, utility: float = 0.9, seed: int = 0, epsilon: float = float("inf")
) -> ArmResult:
    naive, weaker = attack(0.99, knowledge="naive"), attack(0.98, validation=0.1)
    return ArmResult(
        arm=name,
        seed=seed,
        epsilon=epsilon,
        channels=2,
        utility=Utility(name="auroc", value=utility, ci_low=utility - 0.01, ci_high=utility + 0.01, n=40),
        attacks=() if found is None else (naive, weaker, attack(found)),
        bytes_up=1,
        seconds=1.0,
        milliseconds_per_study=1.0,
    )


def test_arms_are_drawn_by_the_retrained_attacker_and_averaged_over_seeds() -> None:
    rows = (arm("none", 0.8), arm("none", 0.6, 0.8, seed=1), arm("gaussian", 0.55, epsilon=2.0), arm(HEAD_ONLY, None))
    alt = arms_figure(ArmTable(config="x", rows=rows)).alt
    assert (
        "none: auroc 0.850 [0.790, 0.910], AUC of the re-trained attacker, re-identification 0.700 [0.580, 0.820]"
        in alt
    )
    assert "gaussian, epsilon 2: auroc 0.900" in alt
    assert "The margin is 0.55." in alt
    assert HEAD_ONLY not in alt
    with pytest.raises(AuditError, match="at least one arm"):
        arms_figure(ArmTable(config="x", rows=rows[3:]))


@pytest.mark.slow
def test_the_table_shows_utility_attackers_and_what_left(config: Config, tmp_path: Path) -> None:
    wanted = WantedArms(("none", "bottleneck+knt", "gaussian", HEAD_ONLY, PREDICTIONS_ONLY), epsilons=(2.0, 4.0))
    table = compare_arms(config, wanted, tmp_path)
    rows = {(row.arm, row.epsilon): row for row in table.rows}
    assert len(rows) == len(table.rows) == 6
    clear, kept = rows["none", float("inf")], rows["bottleneck+knt", float("inf")]
    assert (clear.channels, kept.channels) == (1280, 2)
    assert clear.bytes_up > 0
    assert kept.bytes_up > 2 * 1280**2 * 8  # what the bottleneck is learned from counts
    assert {attack.knowledge for attack in clear.attacks} == {"naive", "re-trained"}
    assert not rows[HEAD_ONLY, float("inf")].attacks
    assert rows[PREDICTIONS_ONLY, float("inf")].attacks
    # the attackers must succeed on clear features of phantoms, whose anatomy persists, else nothing here means anything
    assert max(attack.ci_low for attack in clear.attacks) > 0.6
    assert (tmp_path / "arms.json").exists()
    drawn = arms_figure(table).alt
    assert all(f"{name}: auroc" in drawn for name in ("none", "bottleneck+knt", PREDICTIONS_ONLY))
    assert HEAD_ONLY not in drawn
    again = compare_arms(config, wanted, tmp_path)
    assert [row.utility for row in again.rows] == [row.utility for row in table.rows]

import numpy as np
import pytest
import torch

from medfl.attacks.attributes import evaluate_attribute
from medfl.errors import ConfigError, ShapeError, TooFewSubjectsError
from medfl.results.attack import AttackResult, Control

Table = tuple[np.ndarray, np.ndarray, np.ndarray]


def people(
    n: int, signal: float, seed: int, *, images: int = 2, values: int = 2, channels: int = 10, prefix: str = "t"
) -> Table:
    """Features with a person's own part, noise, and `signal` along one channel per value."""
    generator = np.random.default_rng(seed)
    own = np.arange(n) % values
    features = generator.standard_normal((n, channels))
    features[np.arange(n), own] += signal
    features = np.repeat(features, images, axis=0) + 0.3 * generator.standard_normal((n * images, channels))
    return features, np.repeat([f"{prefix}{number}" for number in range(n)], images), np.repeat(own, images)


def attacked(
    signal: float, seed: int, *, n: int = 120, draws: int = 100, values: int = 2
) -> tuple[tuple[AttackResult, ...], tuple[Control, ...]]:
    known = people(n, signal, seed, values=values, prefix="a")
    return evaluate_attribute(
        *known, *people(n, signal, seed + 1000, values=values), name="sex", seed=seed, draws=draws
    )


def test_an_attribute_in_the_features_is_read_by_both_attackers() -> None:
    results, controls = attacked(2.0, 0)
    assert [one.name for one in results] == ["linear probe", "mlp"]
    for one in results:
        assert one.ci_low > 0.8
        assert one.ci_low <= one.value <= one.ci_high
        assert (one.subjects, one.positives, one.negatives, one.attacker_subjects) == (120, 60, 60, 120)
        assert one.validation is not None
        assert one.validation > 0.8
        assert one.further[0].value == pytest.approx(one.value - 0.5)
    assert [(one.kind, one.metric) for one in controls] == [("null", "auc"), ("null", "auc")]


def test_nothing_is_read_where_nothing_is() -> None:
    found = [attacked(0.0, seed, n=60, draws=60) for seed in range(6)]
    for number in range(2):
        values = [results[number].value for results, _ in found]
        assert abs(float(np.mean(values)) - 0.5) < 0.1
        assert sum(results[number].ci_low <= 0.5 <= results[number].ci_high for results, _ in found) >= 4


def test_shuffled_values_pass_in_most_runs_even_where_the_signal_is_strong() -> None:
    controls = [one for seed in range(4) for one in attacked(3.0, seed, n=60, draws=60)[1]]
    assert sum(one.passed is True for one in controls) >= len(controls) - 2
    assert abs(float(np.mean([one.value for one in controls])) - 0.5) < 0.06


def test_what_the_class_label_tells_is_the_chance_level() -> None:
    known, strangers = people(120, 0.0, 1, prefix="a"), people(120, 0.0, 2)
    flips = [np.repeat(np.random.default_rng(seed).random(120) < 0.15, 2) for seed in (3, 4)]
    labels = [np.where(flip, 1 - part[2], part[2]) for part, flip in zip((known, strangers), flips, strict=True)]
    for part, own in zip((known, strangers), labels, strict=True):
        part[0][:, 5] += 4.0 * own  # the features hold the diagnosis and nothing else of the attribute
    results, _ = evaluate_attribute(*known, *strangers, name="sex", labels=(labels[0], labels[1]), seed=0, draws=200)
    for one in results:
        assert one.baseline == "class label alone"
        assert 0.7 < one.chance < 0.95
        assert one.value > 0.7
        (excess,) = one.further
        assert excess.name == "excess_over_baseline"
        assert excess.ci_low is not None
        assert excess.ci_low < 0.03  # far above guessing, yet no more than the label tells


def test_metadata_alone_are_a_confounder_that_only_informs() -> None:
    known, strangers = people(80, 0.0, 1, prefix="a"), people(80, 0.0, 2)
    generator = np.random.default_rng(0)
    ages = [part[2][:, None] * 3.0 + generator.standard_normal((160, 1)) for part in (known, strangers)]
    results, controls = evaluate_attribute(
        *known, *strangers, name="sex", metadata=(ages[0], ages[1]), seed=0, draws=50
    )
    confounder = controls[-1]
    assert (confounder.kind, confounder.passed) == ("confounder", None)
    assert confounder.value > 0.9 > max(one.value for one in results)


def test_of_several_values_the_easiest_is_chosen_by_the_attackers_own_subjects() -> None:
    known, strangers = people(90, 0.5, 1, values=3, prefix="a"), people(90, 0.5, 2, values=3)
    for features, _, values in (known, strangers):
        features[values == 2, 7] += 4.0
    results, _ = evaluate_attribute(*known, *strangers, name="site", seed=0, draws=50)
    for one in results:
        assert one.setting == "site: 2 against rest"
        assert (one.positives, one.negatives) == (30, 60)
        assert len(one.further) == 4
        assert one.value == max(measure.value or 0.0 for measure in one.further)


def test_views_that_differ_within_a_subject_are_scored_once_per_view() -> None:
    known, strangers = people(40, 0.0, 1, prefix="a"), people(40, 0.0, 2)
    views = np.tile([0, 1], 40)
    for part in (known, strangers):
        part[0][:, 3] += 4.0 * views
    results, _ = evaluate_attribute(
        known[0], known[1], views, strangers[0], strangers[1], views, name="v", seed=0, draws=50
    )
    for one in results:
        assert (one.subjects, one.positives, one.negatives) == (40, 40, 40)
        assert one.value > 0.95


def test_an_attribute_that_only_single_positions_of_maps_show_is_read() -> None:
    parts = [people(80, 0.0, seed, channels=48, prefix=prefix) for seed, prefix in ((1, "a"), (2, "t"))]
    maps = [features.reshape(-1, 3, 4, 4).copy() for features, _, _ in parts]
    for features, (_, _, values) in zip(maps, parts, strict=True):
        features[:, 0, 0, 0] += 3.0 * values
        features[:, 0, 3, 3] -= 3.0 * values
    results, _ = evaluate_attribute(maps[0], *parts[0][1:], maps[1], *parts[1][1:], name="sex", seed=0, draws=50)
    assert results[0].value > 0.85


def test_equal_seeds_give_equal_results_and_leave_torch_alone() -> None:
    before = torch.random.get_rng_state()
    first, again = attacked(1.0, 3, n=40, draws=20), attacked(1.0, 3, n=40, draws=20)
    assert torch.equal(before, torch.random.get_rng_state())
    assert [one.model_copy(update={"seconds": 0.0}) for one in first[0]] == [
        one.model_copy(update={"seconds": 0.0}) for one in again[0]
    ]
    assert first[1] == again[1]


def test_rare_values_shared_subjects_and_wrong_shapes_are_refused() -> None:
    known, strangers = people(40, 0.0, 1, prefix="a"), people(40, 0.0, 2)
    rare = np.where(np.isin(strangers[1], [f"t{number}" for number in range(9)]), 1, 0)
    with pytest.raises(TooFewSubjectsError, match="at least 10 subjects of the test"):
        evaluate_attribute(*known, *strangers[:2], rare, name="sex", seed=0)
    with pytest.raises(ConfigError, match="share no subject"):
        evaluate_attribute(*known, *known, name="sex", seed=0)
    with pytest.raises(ConfigError, match="two values"):
        evaluate_attribute(*known[:2], np.zeros(80), *strangers[:2], np.zeros(80), name="sex", seed=0)
    with pytest.raises(ShapeError):
        evaluate_attribute(*known, strangers[0][:, :4], *strangers[1:], name="sex", seed=0)

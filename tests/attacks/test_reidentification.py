import numpy as np
import pytest
import torch

from medfl.attacks.feature_views import pooled
from medfl.attacks.linear_attackers import CosineAttacker, EuclidAttacker, LdaAttacker
from medfl.attacks.network_attackers import PairClassifierAttacker, SiameseAttacker
from medfl.attacks.pairs import Attacker, held_out_pairs, verification_pairs
from medfl.attacks.reidentification import default_attackers, evaluate_reidentification, fitted_attacks
from medfl.attacks.score_fusion import FusionAttacker
from medfl.attacks.statistics import cluster_bootstrap_auc
from medfl.errors import ConfigError, ShapeError, TooFewSubjectsError
from medfl.results.attack import AttackResult, best_retrained

SEED = 3
NAIVE: list[Attacker] = [CosineAttacker(), EuclidAttacker()]
TRAINED: list[Attacker] = [
    LdaAttacker(SEED),
    PairClassifierAttacker(SEED),
    SiameseAttacker(SEED),
    FusionAttacker(SEED),
]
EVERYONE = pytest.mark.parametrize("attacker", NAIVE + TRAINED, ids=lambda attacker: attacker.name)
LEARNERS = pytest.mark.parametrize("attacker", TRAINED, ids=lambda attacker: attacker.name)


def persons(
    people: int, *, visits: int = 4, identity: float = 1.0, nuisance: float = 0.0, noise: float = 0.3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, 24): eight directions of identity, eight of nuisance that changes with every visit, and noise."""
    generator = np.random.default_rng(seed)
    turned = np.linalg.qr(np.random.default_rng(99).normal(size=(24, 24)))[0]  # the same world for everybody
    subjects = np.repeat([f"{seed}-{number}" for number in range(people)], visits)
    own = identity * np.repeat(generator.normal(size=(people, 8)), visits, axis=0)
    values = noise * generator.normal(size=(len(subjects), 24))
    values[:, :8] += own
    values[:, 8:16] += nuisance * generator.normal(size=(len(subjects), 8))
    return (values @ turned).astype(np.float32), subjects


def attacked(attacker: Attacker, known: tuple, strangers: tuple, **options) -> AttackResult:
    options = {"seed": SEED, "draws": 200, "impostors": 1500, "attackers": [attacker]} | options
    return evaluate_reidentification(*known, *strangers, **options)[0]


@EVERYONE
def test_every_attacker_succeeds_where_features_name_the_person(attacker: Attacker) -> None:
    found = attacked(attacker, persons(60), persons(30, seed=1))
    assert found.value > 0.95
    assert (found.validation or 0) > 0.95
    assert found.ci_low > 0.9


@EVERYONE
def test_every_attacker_fails_on_noise(attacker: Attacker) -> None:
    scorer = attacker.fit(*persons(50, identity=0))
    found = []
    for seed in range(1, 11):
        strangers, names = persons(60, identity=0, seed=seed)
        pairs = verification_pairs(names, np.random.default_rng(SEED), 1500)
        scores, first, second = scorer.of_pairs(strangers, pairs), names[pairs.first], names[pairs.second]
        found.append(cluster_bootstrap_auc(scores, first, second, 200, np.random.default_rng(SEED)))
    assert sum(one.low <= 0.5 <= one.high for one in found) >= 7  # each misses in one of twenty
    assert abs(np.mean([one.value for one in found]) - 0.5) < 0.018  # three standard errors
    assert all(one.high - one.low < 0.2 for one in found)


@EVERYONE
def test_every_attacker_fails_on_shuffled_subjects(attacker: Attacker) -> None:
    features, subjects = persons(30)
    strangers, names = persons(50, seed=1)
    generator = np.random.default_rng(5)
    found = attacked(attacker, (features, subjects), (strangers, generator.permutation(names)))
    assert found.ci_low <= 0.5 <= found.ci_high


@LEARNERS
def test_who_learns_from_shuffled_subjects_knows_nothing_of_its_own(attacker: Attacker) -> None:
    features, subjects = persons(50, noise=1.0)
    subjects = np.random.default_rng(7).permutation(subjects)
    found = attacked(attacker, (features, subjects), persons(20, seed=1))
    assert (found.validation or 1) < 0.65


@LEARNERS
def test_a_retrained_attacker_beats_cosine_where_nuisance_dominates(attacker: Attacker) -> None:
    known, strangers = persons(60, nuisance=6.0), persons(40, nuisance=6.0, seed=1)
    naive, trained = (attacked(one, known, strangers) for one in (CosineAttacker(), attacker))
    assert naive.value < 0.7
    assert trained.ci_low > naive.ci_high
    assert trained.value > 0.9


def test_lda_finds_identity_that_is_small_among_many_loud_features() -> None:
    generator = np.random.default_rng(2)

    def loud(people: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        features, subjects = persons(people, seed=seed)
        return np.concatenate([features, 1e3 * generator.normal(size=(len(features), 300))], axis=1), subjects

    assert attacked(LdaAttacker(SEED), loud(60, 0), loud(30, 1)).value > 0.6


@EVERYONE
@pytest.mark.parametrize("spatial", [(6, 6), (3, 4, 3)])
def test_maps_of_two_and_three_dimensions_are_attacked(attacker: Attacker, spatial: tuple[int, ...]) -> None:
    def maps(people: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        features, subjects = persons(people, seed=seed)
        local = np.random.default_rng(seed).normal(size=(*features.shape, *spatial)).astype(np.float32)
        return features.reshape(*features.shape, *(1 for _ in spatial)) + local, subjects

    assert attacked(attacker, maps(40, 0), maps(15, 1)).value > 0.85


def test_lda_finds_identity_that_lies_in_the_position_alone() -> None:
    def spots(people: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        features, subjects = persons(people, seed=seed)
        maps = features[:, None, :].reshape(len(features), 1, 4, 6)
        return maps - maps.mean(axis=(2, 3), keepdims=True), subjects

    known, strangers = spots(60, 0), spots(30, 1)
    assert attacked(CosineAttacker(), known, strangers).value < 0.8
    assert attacked(LdaAttacker(SEED), known, strangers).value > 0.95


@EVERYONE
def test_features_without_any_difference_give_exactly_one_half(attacker: Attacker) -> None:
    _, known = persons(12)
    _, strangers = persons(8, seed=1)
    found = attacked(attacker, (np.ones((len(known), 4)), known), (np.ones((len(strangers), 4)), strangers))
    assert (found.value, found.ci_low, found.ci_high) == (0.5, 0.5, 0.5)


@EVERYONE
def test_equal_seeds_give_equal_scores_whatever_torch_drew_before(attacker: Attacker) -> None:
    features, subjects = persons(20)
    strangers, _ = persons(6, seed=1)
    torch.manual_seed(1)
    one = attacker.fit(features, subjects)(strangers[::2], strangers[1::2])
    before = torch.get_rng_state()
    again = attacker.fit(features, subjects)(strangers[::2], strangers[1::2])
    assert one.shape == (12,)
    np.testing.assert_array_equal(one, again)
    assert torch.equal(before, torch.get_rng_state())


@EVERYONE
def test_a_score_does_not_depend_on_the_order_of_the_pair_nor_on_other_pairs(attacker: Attacker) -> None:
    scorer = attacker.fit(*persons(20))
    strangers, names = persons(10, seed=1)
    pairs = verification_pairs(names, np.random.default_rng(0), 50)
    scores = scorer.of_pairs(strangers, pairs)
    swapped = scorer(strangers[pairs.second[:7]], strangers[pairs.first[:7]])
    np.testing.assert_allclose(scores[:7], swapped, rtol=1e-4, atol=1e-5)


def test_matched_impostors_show_that_a_diagnosis_is_not_an_identity() -> None:
    generator = np.random.default_rng(0)
    diagnosis = np.repeat(generator.integers(0, 2, 90), 3)
    features = generator.normal(size=(270, 6)) + 3.0 * diagnosis[:, None]
    subjects = np.repeat(np.arange(90), 3)
    test = subjects >= 45
    results = evaluate_reidentification(
        features[~test],
        subjects[~test],
        features[test],
        subjects[test],
        seed=0,
        draws=200,
        impostors=1000,
        strata=diagnosis[test],
        attackers=[CosineAttacker()],
    )
    anybody, alike = results
    assert (anybody.impostors, alike.impostors) == ("random", "matched")
    assert anybody.ci_low > 0.6
    assert alike.ci_low <= 0.5 <= alike.ci_high


def test_results_count_what_is_behind_them() -> None:
    found = attacked(EuclidAttacker(), persons(20), persons(10, seed=1))
    counted = (found.subjects, found.attacker_subjects, found.positives, found.negatives)
    assert counted == (10, 20, 60, 720)
    assert (found.name, found.knowledge, found.metric) == ("euclid", "naive", "auc")


def result(name: str, value: float, validation: float, *, naive: bool = False) -> AttackResult:
    return AttackResult(
        name=name,
        knowledge="naive" if naive else "re-trained",
        value=value,
        ci_low=0.0,
        ci_high=1.0,
        subjects=2,
        positives=2,
        negatives=1,
        attacker_subjects=6,
        validation=validation,
        seconds=0.0,
    )


def test_the_best_attacker_is_chosen_on_the_attackers_own_subjects_never_on_the_test() -> None:
    results = [result("a", 0.9, 0.6), result("b", 0.6, 0.7), result("c", 0.8, 0.99, naive=True)]
    assert best_retrained(results).name == "b"
    with pytest.raises(ConfigError, match="re-trained attacker"):
        best_retrained(results[2:])
    with pytest.raises(ConfigError, match="matched"):
        best_retrained(results, impostors="matched")


def test_no_score_changes_with_the_names_of_test_subjects() -> None:
    known, (strangers, names) = persons(30, noise=1.0), persons(20, seed=1)
    shuffled = np.random.default_rng(4).permutation(names)
    attackers = [LdaAttacker(SEED), FusionAttacker(SEED)]
    one, other = (
        fitted_attacks(*known, strangers, own, seed=SEED, draws=50, attackers=attackers) for own in (names, shuffled)
    )
    for first, second in zip(one, other, strict=True):
        assert first.result.validation == second.result.validation
        np.testing.assert_array_equal(
            first.scorer(strangers[::2], strangers[1::2]), second.scorer(strangers[::2], strangers[1::2])
        )


def test_the_scorer_behind_a_result_is_fitted_on_all_subjects_of_the_attacker() -> None:
    known, (strangers, names) = persons(20), persons(10, noise=1.0, seed=1)
    (found,) = fitted_attacks(*known, strangers, names, seed=SEED, draws=50, attackers=[LdaAttacker(SEED)])
    again = LdaAttacker(SEED).fit(*known)
    np.testing.assert_array_equal(found.scorer(strangers[:9], strangers[9:18]), again(strangers[:9], strangers[9:18]))
    pairs = verification_pairs(names, np.random.default_rng(SEED), 20_000)
    assert found.result.value == again.area(strangers, pairs)


def test_naive_attackers_come_first_and_every_name_is_used_once() -> None:
    attackers = default_attackers(0)
    assert [one.knowledge for one in attackers] == ["naive"] * 2 + ["re-trained"] * 4
    assert len({one.name for one in attackers}) == 6


def test_held_out_subjects_are_strangers_to_the_rest() -> None:
    _, subjects = persons(9)
    held, pairs = held_out_pairs(subjects, np.random.default_rng(0))
    assert not set(subjects[held]) & set(subjects[~held])
    assert len(set(subjects[held])) == 2
    assert pairs.first.max() < held.sum()


def test_vectors_stay_as_they_are_and_maps_become_mean_and_spread() -> None:
    maps = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    expected = np.concatenate([maps.mean(axis=(2, 3)), maps.std(axis=(2, 3))], axis=1)
    np.testing.assert_allclose(pooled(maps), expected)
    np.testing.assert_array_equal(pooled(maps[:, :, 0, 0]), maps[:, :, 0, 0])


def test_a_test_subject_that_the_attacker_knows_is_refused() -> None:
    features, subjects = persons(10)
    strangers, names = persons(10, seed=1)
    names[0] = subjects[0]
    with pytest.raises(ConfigError, match="1 are in both") as caught:
        attacked(CosineAttacker(), (features, subjects), (strangers, names))
    assert "0-0" not in str(caught.value)


@pytest.mark.parametrize("damage", ["nan", "width", "count", "flat"])
def test_features_that_do_not_fit_are_refused(damage: str) -> None:
    features, subjects = persons(10)
    strangers, names = persons(10, seed=1)
    match damage:
        case "nan":
            strangers[3, 3] = np.nan
        case "width":
            strangers = strangers[:, :-1]
        case "count":
            names = names[1:]
        case _:
            features = strangers = strangers[:, 0]
    with pytest.raises(ShapeError):
        attacked(CosineAttacker(), (features, subjects), (strangers, names))


@LEARNERS
def test_too_few_linked_subjects_are_said_so(attacker: Attacker) -> None:
    with pytest.raises(TooFewSubjectsError, match="at least four subjects"):
        attacked(attacker, persons(5), persons(10, seed=1))
    assert attacked(attacker, persons(6), persons(10, seed=1)).attacker_subjects == 6

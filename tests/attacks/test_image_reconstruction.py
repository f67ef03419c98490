import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from medfl.attacks.division import divide
from medfl.attacks.image_decoders import (
    OwnImages,
    fit_convolutions,
    fit_linear,
    fit_network,
    principal_components,
)
from medfl.attacks.image_matching import correlation, named_first
from medfl.attacks.image_reconstruction import ImageReconstruction, evaluate_image_reconstruction
from medfl.errors import ConfigError, ShapeError, TooFewSubjectsError
from medfl.results.attack import AttackResult

PEOPLE, SIDE, FACTORS = 100, 16, 12
Floats = NDArray[np.float64]


def smooth(count: int, rng: np.random.Generator) -> Floats:
    coarse = torch.from_numpy(rng.normal(size=(count, 1, 4, 4)))
    return torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic")[:, 0].numpy()


def persons(seed: int = 0) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Return images, the factors that they are made from, and subjects with two images each."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(PEOPLE, FACTORS)).repeat(2, axis=0) + 0.3 * rng.normal(size=(2 * PEOPLE, FACTORS))
    images = 3 * smooth(1, rng) + np.tensordot(factors, smooth(FACTORS, rng), axes=1)
    images += 0.1 * rng.normal(size=images.shape)
    return images, factors, np.repeat(np.arange(PEOPLE), 2)


def rows(found: ImageReconstruction, metric: str) -> list[AttackResult]:
    return [one for one in found.results if one.metric == metric]


@pytest.mark.parametrize("kind", ["as they are", "bent"])
def test_features_that_hold_an_image_give_it_away(kind: str) -> None:
    images, factors, subjects = persons()
    released = factors if kind == "as they are" else factors + 0.9 * np.sin(1.5 * factors)
    found = evaluate_image_reconstruction(released, images, subjects, seed=0, gallery=20, draws=100)
    chosen = found.results[found.chosen]
    assert (chosen.metric, chosen.family, chosen.knowledge) == ("rank_1", "inversion", "re-trained")
    assert chosen.value > 0.8
    assert chosen.ci_low > 0.5
    assert chosen.chance == 1 / 20
    assert rows(found, "ssim_gain")[0].ci_low > 0.2
    assert found.example.similarity > 0.8
    assert chosen.subjects == 40
    assert chosen.attacker_subjects == 60


@pytest.mark.parametrize("seed", range(3))
def test_random_features_give_nothing_away(seed: int) -> None:
    images, factors, subjects = persons(seed)
    noise = np.random.default_rng(seed + 50).normal(size=factors.shape)
    found = evaluate_image_reconstruction(noise, images, subjects, seed=seed, gallery=20, draws=100)
    assert found.results[found.chosen].ci_low <= 1 / 20
    assert all(one.ci_low <= one.chance and one.value < 0.3 for one in rows(found, "rank_1"))
    assert all(one.value < 0.05 for one in rows(found, "ssim_gain"))


def test_one_number_of_twelve_names_hardly_anybody() -> None:
    images, factors, subjects = persons()
    whole, part = (
        evaluate_image_reconstruction(kept, images, subjects, seed=0, gallery=20, draws=100)
        for kept in (factors, factors[:, :1])
    )
    assert part.results[part.chosen].ci_high < 0.5 < whole.results[whole.chosen].ci_low


def test_maps_are_decoded_where_they_are() -> None:
    images, _, subjects = persons()
    pooled = images.reshape(len(images), 4, 4, 4, 4).mean(axis=(2, 4))
    maps = np.stack([pooled, np.sin(2 * pooled), np.cos(2 * pooled)], axis=1)
    found = evaluate_image_reconstruction(maps, images, subjects, seed=0, gallery=20, draws=100)
    assert [one.name for one in rows(found, "rank_1")] == [
        "linear decoder",
        "neural decoder",
        "convolutional decoder",
    ]
    assert all(one.ci_low > 0.05 for one in rows(found, "rank_1"))
    assert rows(found, "ssim_gain")[2].ci_low > 0.2


def test_the_decoder_is_chosen_without_the_test_subjects() -> None:
    images, factors, subjects = persons()
    found = evaluate_image_reconstruction(factors, images, subjects, seed=0, gallery=20, draws=50)
    is_test = np.isin(subjects, _tested(subjects))
    spoiled = images.copy()
    spoiled[is_test] = np.random.default_rng(1).permutation(images[is_test])
    again = evaluate_image_reconstruction(factors, spoiled, subjects, seed=0, gallery=20, draws=50)
    assert again.chosen == found.chosen
    assert [one.validation for one in again.results] == [one.validation for one in found.results]
    assert again.results[again.chosen].value < 0.3


def _tested(subjects: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(subjects[divide(subjects, 0).is_test])


def test_what_is_shown_beside_a_reconstruction_is_the_attacker_s_own() -> None:
    images, factors, subjects = persons()
    shown = evaluate_image_reconstruction(factors, images, subjects, seed=0, draws=10).example
    tested = np.isin(subjects, _tested(subjects))
    assert any(np.array_equal(shown.original, one) for one in images[tested])
    assert any(np.array_equal(shown.nearest, one) for one in images[~tested])


def test_equal_seeds_give_equal_results_and_leave_the_global_generator_alone() -> None:
    images, factors, subjects = persons()
    state = torch.get_rng_state()
    values = [
        [one.value for one in evaluate_image_reconstruction(factors, images, subjects, seed=s, draws=20).results]
        for s in (0, 0, 1)
    ]
    assert values[0] == values[1] != values[2]
    assert torch.equal(state, torch.get_rng_state())


def test_everybody_is_looked_for_once_in_a_gallery_of_one_size() -> None:
    rng = np.random.default_rng(0)
    originals, sizes = rng.normal(size=(11, 4, 4)), []
    compare = correlation(np.zeros((4, 4)))

    def counting(found: Floats, candidates: Floats) -> Floats:
        sizes.append((len(found), len(candidates)))
        return compare(found, candidates)

    assert (named_first(originals, originals, counting, 4, 0) == 1).all()
    assert sizes == [(4, 4), (4, 4), (3, 4)]
    alike = np.ones((11, 4, 4))
    assert named_first(alike, originals, compare, 4, 0) == pytest.approx(np.full(11, 0.25))


def test_components_are_those_of_the_rows() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(30, 5)) @ np.diag([5.0, 3, 1, 0, 0]) + 7
    for table in (values, np.hstack([values, np.zeros((30, 60))])):
        found = principal_components(table)
        assert len(found.spread) == 3
        np.testing.assert_allclose(found.rows(found.scores(table)), table, atol=1e-9)
        np.testing.assert_allclose(found.scores(table).std(axis=0), found.spread)
    assert principal_components(values, most=2).axes.shape == (5, 2)
    with pytest.raises(ShapeError, match="differ"):
        principal_components(np.ones((5, 3)))


def test_decoders_beat_the_mean_on_strangers() -> None:
    images, factors, _ = persons()
    own, held, new = (OwnImages(factors[part], images[part]) for part in (np.s_[:100], np.s_[100:140], np.s_[140:]))
    for fit in (fit_linear, fit_network):
        decode = fit(own, held, epochs=100, seed=0)
        error = ((decode(new.features) - new.images) ** 2).mean()
        assert error < 0.5 * ((own.images.mean(axis=0) - new.images) ** 2).mean()
    with pytest.raises(ShapeError, match="maps"):
        fit_convolutions(own, held, epochs=1, seed=0)


def test_arguments_that_do_not_fit_are_refused() -> None:
    images, factors, subjects = persons()
    with pytest.raises(ShapeError, match="the same in all arrays"):
        evaluate_image_reconstruction(factors[1:], images, subjects, seed=0)
    with pytest.raises(ShapeError, match=r"\(n, H, W\)"):
        evaluate_image_reconstruction(factors, images[:, None], subjects, seed=0)
    with pytest.raises(ConfigError, match="gallery"):
        evaluate_image_reconstruction(factors, images, subjects, seed=0, gallery=1)
    with pytest.raises(TooFewSubjectsError):
        evaluate_image_reconstruction(factors[:10], images[:10], subjects[:10], seed=0)

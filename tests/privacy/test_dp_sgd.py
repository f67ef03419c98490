import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from medfl.errors import ConfigError, PrivacyError
from medfl.networks.heads import vector_head
from medfl.privacy.canaries import GradientCanaries
from medfl.privacy.dp_sgd import NoiseReserve, PrivateStep, clip_and_sum, clipped_sum, private_gradients
from medfl.privacy.gaussian import SeededNoise
from medfl.privacy.keystream import Keystream
from medfl.privacy.subject_gradients import METHODS, SubjectBatch, trainable
from medfl.training.losses import classification_loss

BATCHED = ("outer products", "copies")


class Silence:
    def normals(self, count: int, /) -> NDArray[np.float64]:
        return np.zeros(count)


def network(features: int = 6, hidden: int = 4) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return vector_head(features=features, classes=2, dropout=0.0, hidden=hidden).train()


def bag(counts: list[int], seed: int, scale: float = 1.0) -> SubjectBatch:
    generator = torch.Generator().manual_seed(seed)
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.int64))
    image = scale * torch.randn(len(owner), 6, generator=generator)
    return SubjectBatch(image, torch.randint(0, 2, (len(owner),), generator=generator), owner)


def without(batch: SubjectBatch, subject: int) -> SubjectBatch:
    kept = batch.owner != subject
    owner = batch.owner[kept]
    return SubjectBatch(batch.image[kept], batch.target[kept], owner - (owner > subject).long())


def empty() -> SubjectBatch:
    return SubjectBatch(torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=2, max_size=6),
    st.floats(1e-3, 1e2),
    st.floats(1e-2, 1e4),
    st.integers(0, 99),
    st.sampled_from(BATCHED),
)
def test_one_subject_changes_the_sum_by_at_most_the_clip(
    counts: list[int], clip: float, scale: float, seed: int, method: str
) -> None:
    batch, head = bag(counts, seed, scale), network()
    whole = clipped_sum(head, classification_loss(), batch, clip=clip, method=method)
    for subject in range(batch.subjects):
        part = clipped_sum(head, classification_loss(), without(batch, subject), clip=clip, method=method)
        assert float((whole - part).norm()) <= clip


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=2, max_size=6), st.integers(0, 99), st.sampled_from(BATCHED))
def test_the_order_of_subjects_does_not_matter(counts: list[int], seed: int, method: str) -> None:
    batch, head = bag(counts, seed), network()
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(counts)))
    places = torch.cat([torch.nonzero(batch.owner == subject)[:, 0] for subject in order])
    again = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)[order])
    moved = SubjectBatch(batch.image[places], batch.target[places], again)
    one, two = (clipped_sum(head, classification_loss(), b, clip=0.1, method=method) for b in (batch, moved))
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("studies_at_once", [1, 3, 64])
def test_all_methods_and_portions_give_one_sum(method: str, studies_at_once: int) -> None:
    batch, head = bag([1, 3, 2, 1], 5), network()
    expected = clipped_sum(head, classification_loss(), batch, clip=0.2, method="loop")
    found = clipped_sum(head, classification_loss(), batch, clip=0.2, method=method, studies_at_once=studies_at_once)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_small_gradients_are_left_and_large_ones_shrunk_as_a_whole() -> None:
    head, batch = network(), bag([2], 3)
    values = torch.autograd.grad(classification_loss()(head(batch.image), batch.target), trainable(head))
    gradient = torch.cat([one.flatten() for one in values]).double()
    left = clipped_sum(head, classification_loss(), batch, clip=1e3, method="outer products")
    torch.testing.assert_close(left, gradient, rtol=1e-5, atol=1e-8)
    small = float(gradient.norm()) / 10
    shrunk = clipped_sum(head, classification_loss(), batch, clip=small, method="copies")
    torch.testing.assert_close(shrunk, gradient / 10, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("method", list(METHODS))
def test_nobody_drawn_gives_noise_alone_of_the_right_size(method: str) -> None:
    head = nn.Linear(6, 4000).train()
    step = PrivateStep(clip=0.5, noise_multiplier=3.0, expected_subjects=10.0)
    private_gradients(head, classification_loss(), empty(), step=step, source=SeededNoise(1), method=method)
    gradient = torch.cat([p.grad.flatten() for p in head.parameters() if p.grad is not None]).numpy()
    assert stats.kstest(gradient / (0.5 * 3.0 / 10.0), "norm").pvalue > 0.01


def test_the_denominator_is_fixed_however_many_are_drawn() -> None:
    head = network()
    step = PrivateStep(clip=1.0, noise_multiplier=1.0, expected_subjects=50.0)
    for counts in ([1], [1, 2, 1, 1]):
        batch = bag(counts, 2)
        private_gradients(head, classification_loss(), batch, step=step, source=Silence(), method="copies")
        total = clipped_sum(head, classification_loss(), batch, clip=1.0, method="copies")
        found = torch.cat([p.grad.flatten() for p in trainable(head) if p.grad is not None])
        torch.testing.assert_close(found, (total / 50).float())


def test_noise_is_added_once_to_the_sum_whatever_the_portions() -> None:
    head, batch = network(), bag([1] * 6, 4)
    step = PrivateStep(clip=1.0, noise_multiplier=2.0, expected_subjects=6.0)
    gradients = []
    for studies_at_once in (1, 64):
        private_gradients(
            head,
            classification_loss(),
            batch,
            step=step,
            source=SeededNoise(7),
            method="copies",
            studies_at_once=studies_at_once,
        )
        gradients.append(torch.cat([p.grad.flatten() for p in trainable(head) if p.grad is not None]))
    torch.testing.assert_close(*gradients)
    clean = clipped_sum(head, classification_loss(), batch, clip=1.0, method="loop")
    noise = torch.from_numpy(SeededNoise(7).normals(len(clean)))
    torch.testing.assert_close(gradients[0], ((clean + 2.0 * noise) / 6.0).float())


@pytest.mark.parametrize("method", list(METHODS))
def test_a_subject_without_a_finite_gradient_adds_nothing(method: str) -> None:
    head, batch = network(), bag([1, 2, 1], 8)
    image = batch.image.clone()
    image[1] = torch.nan
    spoiled = SubjectBatch(image, batch.target, batch.owner)
    found = clipped_sum(head, classification_loss(), spoiled, clip=1.0, method=method)
    expected = clipped_sum(head, classification_loss(), without(batch, 1), clip=1.0, method=method)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_training_with_little_noise_learns_and_frozen_parameters_stay() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(64, 6, generator=generator)
    batch = SubjectBatch(image, (image[:, 0] > 0).long(), torch.arange(64))
    head = network(hidden=0)
    frozen = nn.Linear(6, 6).requires_grad_(False)
    whole = nn.Sequential(frozen, head).train()
    with torch.no_grad():
        frozen.weight.copy_(torch.eye(6))
        frozen.bias.zero_()
    step = PrivateStep(clip=1.0, noise_multiplier=0.05, expected_subjects=64.0)
    source = Keystream(bytes(32))
    for _ in range(60):
        private_gradients(whole, classification_loss(), batch, step=step, source=source, method="outer products")
        with torch.no_grad():
            for p in trainable(whole):
                assert p.grad is not None
                p -= 2.0 * p.grad
    assert frozen.weight.grad is None
    right = (whole(image).argmax(dim=1) == batch.target).float().mean()
    assert float(right) > 0.95


def test_noise_drawn_ahead_is_the_same_noise_and_never_given_twice() -> None:
    ahead, plain = NoiseReserve(SeededNoise(3), block=10), SeededNoise(3)
    given = np.concatenate([ahead.normals(count) for count in (4, 4, 7, 0, 25, 3)])
    np.testing.assert_array_equal(given[:10], plain.normals(10))
    assert len(np.unique(given)) == 43


def test_canaries_are_clipped_with_the_others_and_see_what_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    head, batch, seen = network(), bag([1, 2], 6), []
    sizes = [p.numel() for p in trainable(head)]

    def among() -> GradientCanaries:
        coins, source = Keystream(bytes(32)), Keystream(bytes([1]) * 32)
        return GradientCanaries(20, sizes, clip=0.5, rate=1.0, coins=coins, source=source)

    observe = GradientCanaries.observe

    def keep(self: GradientCanaries, noised_sum: Tensor) -> None:
        seen.append(noised_sum.clone())
        observe(self, noised_sum)

    monkeypatch.setattr(GradientCanaries, "observe", keep)
    step, canaries = PrivateStep(clip=0.5, noise_multiplier=2.0, expected_subjects=7.0), among()
    private_gradients(
        head,
        classification_loss(),
        batch,
        step=step,
        source=SeededNoise(4),
        method="copies",
        canaries=canaries,
    )
    added = among().contribution(lambda gradients: clip_and_sum(gradients, 0.5))
    total = clipped_sum(head, classification_loss(), batch, clip=0.5, method="copies") + added
    expected = total + 2.0 * 0.5 * torch.from_numpy(SeededNoise(4).normals(len(total)))
    assert float(added.norm()) > 1
    torch.testing.assert_close(seen[0], expected)
    found = torch.cat([p.grad.flatten() for p in trainable(head) if p.grad is not None])
    torch.testing.assert_close(found, (expected / 7.0).float())
    assert canaries.outcome().steps == 1


def test_gradients_stay_as_they_were_where_there_is_nothing_to_train() -> None:
    head = network()
    step = PrivateStep(clip=1.0, noise_multiplier=1.0, expected_subjects=1.0)
    for broken in (head.eval(), network().requires_grad_(False)):
        with pytest.raises(PrivacyError, match="training mode"):
            private_gradients(broken, classification_loss(), empty(), step=step, source=Silence(), method="loop")
        assert all(p.grad is None for p in broken.parameters())


def test_numbers_that_protect_nothing_are_refused() -> None:
    good = {"clip": 1.0, "noise_multiplier": 1.0, "expected_subjects": 1.0}
    for name in good:
        for value in (0.0, -1.0, float("inf"), float("nan")):
            with pytest.raises(ConfigError, match=name):
                PrivateStep(**(good | {name: value}))
    with pytest.raises(ConfigError, match="method must be one of"):
        clipped_sum(network(), classification_loss(), empty(), clip=1.0, method="fast")


def test_the_type_of_the_parameters_is_kept() -> None:
    head = network().double()

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, target)

    batch = bag([1, 1], 0)
    step = PrivateStep(clip=1.0, noise_multiplier=1.0, expected_subjects=2.0)
    double = SubjectBatch(batch.image.double(), batch.target, batch.owner)
    private_gradients(head, loss, double, step=step, source=SeededNoise(0), method="outer products")
    assert all(p.grad is not None and p.grad.dtype == torch.float64 for p in head.parameters())

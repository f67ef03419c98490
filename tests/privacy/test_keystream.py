import copy
import hashlib
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from medfl.errors import KeyFileError, ShapeError
from medfl.privacy.keystream import Keystream

KEY = bytes(range(32))
TOP = 2**64 - 1


class GivenWords(Keystream):
    """A stream whose words the test chooses."""

    __slots__ = ("given",)

    def __init__(self, given: list[int]) -> None:
        super().__init__(KEY)
        self.given = list(given)

    def words(self, count: int) -> NDArray[np.uint64]:
        taken, self.given = self.given[:count], self.given[count:]
        return np.array(taken, dtype=np.uint64)


@pytest.mark.parametrize(
    ("key", "block", "expected"),
    [
        (
            bytes(32),
            0,
            "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
            "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
        ),
        (
            bytes(32),
            1,
            "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
            "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
        ),
        (
            bytes(31) + b"\x01",
            1,
            "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a"
            "8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0",
        ),
        (
            b"\x00\xff" + bytes(30),
            2,
            "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca"
            "13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096",
        ),
    ],
)
def test_words_are_the_chacha20_keystream_of_rfc_8439_appendix_a1(key: bytes, block: int, expected: str) -> None:
    stream = Keystream(key).words(8 * (block + 1)).astype("<u8").tobytes()
    assert stream[64 * block :].hex() == expected


def test_golden_numbers_hold_for_ever() -> None:
    assert Keystream(KEY).words(4).tolist() == [
        7645359380336737593,
        5281276197874154893,
        14729830432180286858,
        10530800043416210610,
    ]
    assert Keystream(KEY).permutation(10).tolist() == [6, 0, 8, 4, 1, 5, 9, 2, 7, 3]
    thousand = Keystream(KEY).permutation(1000).astype("<i8").tobytes()
    assert hashlib.sha256(thousand).hexdigest() == "5862b3615a39022f9eefeea8b080c30a11231e41b5dc4845fd9e7a1892dbde0e"
    bounds = np.array([2, 3, 5, 7, 2**63 - 1, 2**62 + 1])
    assert Keystream(KEY).integers(bounds, 6).tolist() == [1, 1, 3, 3, 3108434420605657900, 2630040860618591806]
    assert [value.hex() for value in Keystream(KEY).uniforms(3).tolist()] == [
        "0x1.a8671765f4afep-2",
        "0x1.252b72e1dc0eep-2",
        "0x1.98d5bd78dfb06p-1",
    ]
    assert Keystream(KEY).signs(12).tolist() == [1, 1, -1, -1, -1, 1, 1, 1, -1, 1, 1, 1]
    normals = [-0.23392474257298687, 1.0078225549061206, -1.615393791508517, -0.7710326497050519, -1.1601851882034966]
    np.testing.assert_allclose(Keystream(KEY).normals(5), normals, rtol=1e-12)


@given(st.lists(st.integers(0, 20), max_size=6))
def test_how_words_are_asked_for_changes_nothing(counts: list[int]) -> None:
    stream = Keystream(KEY)
    pieces = [stream.words(count) for count in counts]
    assert np.concatenate([*pieces, stream.words(1)]).tolist() == Keystream(KEY).words(sum(counts) + 1).tolist()


@given(st.binary(min_size=32, max_size=32), st.lists(st.integers(1, 2**63 - 1), max_size=30))
def test_integers_follow_their_definition_word_for_word(key: bytes, bounds: list[int]) -> None:
    stream, wanted = Keystream(key), [0] * len(bounds)
    open_ones = list(range(len(bounds)))
    while open_ones:
        words = [int(word) for word in stream.words(len(open_ones))]
        again = []
        for index, word in zip(open_ones, words, strict=True):
            if word < 2**64 // bounds[index] * bounds[index]:
                wanted[index] = word % bounds[index]
            else:
                again.append(index)
        open_ones = again
    other = Keystream(key)
    assert other.integers(np.array(bounds, dtype=np.int64), len(bounds)).tolist() == wanted
    assert other.words(1) == stream.words(1)


def test_a_word_in_the_last_incomplete_multiple_is_rejected() -> None:
    assert GivenWords([TOP - 1, TOP, 5, 4]).integers(3, 3).tolist() == [2, 1, 2]
    assert GivenWords([TOP, TOP - 1]).integers(1, 2).tolist() == [0, 0]
    assert GivenWords([TOP]).integers(2**62, 1).tolist() == [2**62 - 1]


def test_an_odd_bound_has_no_bias_where_plain_modulo_has_a_large_one() -> None:
    bound = 3 * 2**61  # the remainder of a word would fall below 2^62 with probability 3/4 instead of 2/3
    values = Keystream(KEY).integers(bound, 20_000)
    assert abs(float(np.mean(values < 2**62)) - 2 / 3) < 0.015
    assert values.min() >= 0
    assert values.max() < bound


@pytest.mark.parametrize("bound", [2, 3, 7, 10])
def test_integers_are_uniform(bound: int) -> None:
    counts = np.bincount(Keystream(KEY).integers(bound, 20_000), minlength=bound)
    assert counts.size == bound
    assert stats.chisquare(counts).pvalue > 1e-4


@given(st.binary(min_size=32, max_size=32), st.integers(0, 60))
def test_a_permutation_is_fisher_yates_on_these_integers(key: bytes, count: int) -> None:
    order, stream = list(range(count)), Keystream(key)
    for position in range(count - 1, 0, -1):
        (word,) = stream.words(1).tolist()  # a rejection has a probability below 2^-58
        partner = word % (position + 1)
        order[position], order[partner] = order[partner], order[position]
    assert Keystream(key).permutation(count).tolist() == order


def test_every_permutation_of_four_is_as_likely_as_any_other() -> None:
    stream = Keystream(KEY)
    seen = [tuple(stream.permutation(4).tolist()) for _ in range(4_800)]
    counts = [seen.count(order) for order in set(seen)]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-4


def test_a_permutation_of_a_whole_volume_holds_every_position_once() -> None:
    assert np.array_equal(np.sort(Keystream(KEY).permutation(65_536)), np.arange(65_536))


def test_uniforms_signs_and_normals_have_their_distributions() -> None:
    stream = Keystream(KEY)
    assert stats.kstest(stream.uniforms(20_000), "uniform").pvalue > 1e-4
    assert stats.kstest(stream.normals(20_001), "norm").pvalue > 1e-4
    signs = stream.signs(20_000)
    assert set(signs.tolist()) == {-1.0, 1.0}
    assert abs(float(signs.mean())) < 0.04
    pairs = stream.normals(20_000).reshape(-1, 2)
    assert abs(float(np.corrcoef(pairs.T)[0, 1])) < 0.04


def test_the_extreme_words_give_finite_numbers_inside_the_ranges() -> None:
    assert GivenWords([0, TOP]).uniforms(2).tolist() == [0.0, 1.0 - 2.0**-53]
    assert np.isfinite(GivenWords([0, 0, TOP, TOP, 0, TOP, TOP, 0]).normals(8)).all()


@pytest.mark.parametrize(
    "draw",
    [Keystream.words, Keystream.permutation, Keystream.uniforms, Keystream.signs, Keystream.normals],
)
def test_nothing_is_drawn_for_nothing_and_a_negative_count_is_refused(
    draw: Callable[[Keystream, int], NDArray[np.generic]],
) -> None:
    stream = Keystream(KEY)
    assert draw(stream, 0).shape == (0,)
    assert stream.words(1) == Keystream(KEY).words(1)
    with pytest.raises(ShapeError):
        draw(stream, -1)


@pytest.mark.parametrize("bounds", [0, -3, 2**63, 2.0, np.array([2, 0]), np.array([2, 3, 4]), np.array([[2, 3]])])
def test_bounds_that_fit_no_integer_are_refused(bounds: int | NDArray[np.int64]) -> None:
    with pytest.raises(ShapeError, match="Bounds"):
        Keystream(KEY).integers(bounds, 2)


@settings(max_examples=20)
@given(st.binary(max_size=40).filter(lambda key: len(key) != 32))
def test_a_key_of_another_length_is_refused_and_not_shown(key: bytes) -> None:
    with pytest.raises(KeyFileError) as caught:
        Keystream(key)
    assert str(caught.value) == f"The key of a keystream must be 32 bytes long, but it has {len(key)}."


def test_a_seed_is_no_key() -> None:
    wrong: list[Any] = ["0" * 32, 42, None, bytearray(32)]
    for key in wrong:
        with pytest.raises(KeyFileError, match="must be 32 bytes, but its type"):
            Keystream(key)


def test_a_stream_shows_nothing_and_cannot_be_copied() -> None:
    stream = Keystream(KEY)
    assert repr(stream) == str(stream) == "<Keystream>"
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled or copied"):
            leave(stream)

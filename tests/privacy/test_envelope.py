import copy
import pickle
import string
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from numpy.typing import NDArray

from medfl.errors import ConfigError, EnvelopeError, KeyFileError
from medfl.privacy.envelope import EnvelopeKey, open_envelope, seal
from medfl.privacy.key_wrapping import Identity, WrapHeader, wrap
from medfl.privacy.keys import key_id_of
from medfl.results.canonical import canonical_json

KEY, OTHER = EnvelopeKey(bytes(range(32))), EnvelopeKey(bytes(range(1, 33)))
HUB = Identity.generate()
FEATURES = np.arange(24, dtype=np.float32).reshape(4, 6)
ABOUT: dict[str, str | int | list[int]] = {"encoder": "00ff", "settings": "ab12", "epoch": 3, "shape": [4, 6]}


def sealed() -> bytes:
    return seal({"features": FEATURES, "target": np.array(1)}, ABOUT, KEY)


def by_hand(facts: dict[str, Any], payload: bytes) -> bytes:
    """Return an envelope that only a holder of the key can make."""
    clear = canonical_json({"version": "medfl/envelope/1", "envelope_key": KEY.key_id, "about": {}, **facts})
    return len(clear).to_bytes(4, "big") + clear + KEY.encrypt(payload, clear)


names = st.text(alphabet=string.ascii_letters + "é-", min_size=1, max_size=4)
numbers = st.sampled_from(["bool", "uint8", "int16", "int64", "float16", "float32", "float64", ">f4"]).map(np.dtype)
arrays = numbers.flatmap(
    lambda dtype: nps.arrays(dtype, nps.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
metadata = st.dictionaries(
    names, names | st.integers(-(2**53) + 1, 2**53 - 1) | st.lists(st.integers(0, 9), max_size=3)
)


@given(st.dictionaries(names, arrays, max_size=3), metadata)
def test_the_receiver_gets_exactly_what_was_sealed(
    content: dict[str, NDArray[Any]], about: dict[str, str | int | list[int]]
) -> None:
    found, facts = open_envelope(seal(content, about, KEY), KEY, about)
    assert facts == about
    assert found.keys() == content.keys()
    for name, array in content.items():
        assert found[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found[name], array)


def test_the_memory_layout_of_an_array_changes_nothing() -> None:
    views = {"transposed": FEATURES.T, "strided": FEATURES[::2, ::-1], "fortran": np.asfortranarray(FEATURES)}
    found, _ = open_envelope(seal(views, {}, KEY), KEY, {})
    for name, view in views.items():
        np.testing.assert_array_equal(found[name], view)


def test_what_is_opened_can_be_written_to() -> None:
    found, _ = open_envelope(sealed(), KEY, {})
    found["features"][0, 0] = 7
    assert found["features"][0, 0] == 7


def test_metadata_are_in_clear_and_the_arrays_are_not() -> None:
    data = sealed()
    assert b'"about":{"encoder":"00ff","epoch":3' in data
    assert b'"features":{"dtype":"float32","shape":[4,6]}' in data
    assert FEATURES.tobytes()[:16] not in data
    assert data != sealed()


def test_any_changed_bit_is_noticed() -> None:
    data = sealed()
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(EnvelopeError):
            open_envelope(bytes(changed), KEY, {})


def test_a_truncated_or_prolonged_envelope_is_noticed() -> None:
    data = sealed()
    for length in range(len(data)):
        with pytest.raises(EnvelopeError):
            open_envelope(data[:length], KEY, {})
    with pytest.raises(EnvelopeError):
        open_envelope(data + b"\0", KEY, {})


def test_metadata_of_another_envelope_under_the_same_key_do_not_fit() -> None:
    one = seal({"features": FEATURES}, {"study": "a"}, KEY)
    other = seal({"features": FEATURES}, {"study": "b"}, KEY)
    length = 4 + int.from_bytes(one[:4], "big")
    with pytest.raises(EnvelopeError, match="unchanged"):
        open_envelope(other[:length] + one[length:], KEY, {})


def test_a_wrong_key_fails_loudly() -> None:
    with pytest.raises(EnvelopeError, match="sealed with the key at hand"):
        open_envelope(sealed(), OTHER, {})


@pytest.mark.parametrize(
    "expected",
    [{"epoch": 4}, {"epoch": True}, {"epoch": "3"}, {"site": "north"}, {"shape": [6, 4]}, {**ABOUT, "encoder": ""}],
)
def test_metadata_other_than_the_expected_ones_are_refused_by_name_only(expected: dict[str, Any]) -> None:
    with pytest.raises(EnvelopeError, match=r"differs in: (epoch|site|shape|encoder)\.") as caught:
        open_envelope(sealed(), KEY, expected)
    assert "00ff" not in str(caught.value)
    assert "north" not in str(caught.value)


def test_true_is_not_the_integer_one() -> None:
    data = seal({}, {"epoch": 1}, KEY)
    with pytest.raises(EnvelopeError, match="epoch"):
        open_envelope(data, KEY, {"epoch": True})


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_envelope(data: bytes) -> None:
    with pytest.raises(EnvelopeError):
        open_envelope(data, KEY, {})


def safetensors_payload(dtype: str, shape: str, size: int) -> bytes:
    header = f'{{"a":{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[0,{size}]}}}}'.encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"x" * 40,
        safetensors_payload("F32", "3", 8),
        safetensors_payload("BF16", "4", 8),  # numpy has no such type
        safetensors_payload("F4", "16", 8),
        safetensors_payload("C64", "1", 8),
        safetensors_payload("U8", "0,18446744073709551615", 0),
        safetensors_payload("U8", ",".join(["1"] * 100), 1),
    ],
)
def test_not_even_the_sender_can_crash_the_receiver(payload: bytes) -> None:
    layout = {"arrays": {"a": {"dtype": "float32", "shape": [2]}}}
    with pytest.raises(EnvelopeError):
        open_envelope(by_hand(layout, payload), KEY, {})


@pytest.mark.parametrize(
    "facts",
    [
        {"arrays": {}},
        {"arrays": {"a": {"dtype": "float64", "shape": [2]}}},
        {"arrays": {"a": {"dtype": "float32", "shape": [1, 2]}}},
        {"version": "medfl/envelope/2"},
        {"envelope_key": OTHER.key_id},
        {"about": []},
        {"about": {"a": 1.5}},
        {"about": {"a": None}},
    ],
)
def test_metadata_that_do_not_tell_what_is_inside_are_refused(facts: dict[str, Any]) -> None:
    true = {"arrays": {"a": {"dtype": "float32", "shape": [2]}}}
    payload = seal_payload({"a": np.zeros(2, dtype=np.float32)})
    open_envelope(by_hand(true, payload), KEY, {})
    with pytest.raises(EnvelopeError):
        open_envelope(by_hand({**true, **facts}, payload), KEY, {})


def seal_payload(content: dict[str, NDArray[Any]]) -> bytes:
    data = seal(content, {}, KEY)
    length = 4 + int.from_bytes(data[:4], "big")
    return KEY.decrypt(data[length:], data[4:length])


@pytest.mark.parametrize(
    "wrong",
    [{"a": 1.5}, {"a": None}, {"a": True}, {"a": [True]}, {"a": ["x"]}, {"a": 2**53}, {"a": "\ud800"}, {1: "a"}],
)
def test_metadata_without_a_canonical_form_are_not_sealed(wrong: dict[Any, Any]) -> None:
    with pytest.raises(ConfigError):
        seal({}, wrong, KEY)


@pytest.mark.parametrize(
    "array",
    [np.array(["name"]), np.array([object()]), np.zeros(2, dtype=np.complex128), np.zeros(2, dtype=np.longdouble)],
)
def test_arrays_of_other_things_than_numbers_are_not_sealed(array: NDArray[Any]) -> None:
    with pytest.raises(ConfigError, match="Arrays in an envelope"):
        seal({"a": array}, {}, KEY)


def test_an_envelope_key_is_wrapped_for_one_receiver_and_one_use() -> None:
    key = EnvelopeKey.generate()
    wrapped = key.wrap(HUB.public_key(), "medfl/features")
    there = EnvelopeKey.unwrap(wrapped, HUB, "medfl/features")
    assert there.key_id == key.key_id
    np.testing.assert_array_equal(
        open_envelope(seal({"features": FEATURES}, {}, key), there, {})[0]["features"], FEATURES
    )
    with pytest.raises(EnvelopeError, match="another one"):
        EnvelopeKey.unwrap(wrapped, HUB, "medfl/inference")
    for data, identity in ((wrapped, Identity.generate()), (wrapped[:-1], HUB), (b"\xff", HUB)):
        with pytest.raises(EnvelopeError):
            EnvelopeKey.unwrap(data, identity, "medfl/features")
    with pytest.raises(KeyFileError, match="recipient's key"):
        key.wrap("", "medfl/features")


def test_a_wrapped_envelope_key_is_the_one_that_its_header_names() -> None:
    for content, key_id in ((bytes(range(32)), OTHER.key_id), (bytes(31), KEY.key_id)):
        lie = wrap(content, HUB.public_key(), WrapHeader("envelope medfl/features", key_id, 0))
        with pytest.raises(EnvelopeError):
            EnvelopeKey.unwrap(lie.encode(), HUB, "medfl/features")


def test_an_envelope_key_shows_nothing_and_cannot_be_copied() -> None:
    secret = bytes(range(32))
    assert repr(KEY) == str(KEY) == f"<EnvelopeKey {key_id_of(secret, 'medfl/envelope/1|kid')}>"
    assert EnvelopeKey.generate().key_id != EnvelopeKey.generate().key_id
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled or copied"):
            leave(KEY)
    with pytest.raises(KeyFileError, match="but it has 31") as caught:
        EnvelopeKey(secret[:31])
    assert repr(secret[:31])[2:-1] not in str(caught.value)

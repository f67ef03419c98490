import base64
import copy
import logging
import pickle
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfl.errors import ConfigError, KeyFileError
from medfl.privacy.keys import (
    ContextKey,
    KeyContext,
    MasterKey,
    check_tag,
    decode_base64,
    hkdf_expand,
    hkdf_extract,
    parse_json,
    verify_check_tag,
)
from medfl.privacy.keystream import Secret

SECRET, SALT = bytes(range(32)), bytes(range(32, 64))
CONTEXT = KeyContext(
    tenant="clinics",
    site="north",
    purpose="training",
    model="net:00ff",
    layer="features",
    shape=(64, 14, 14),
    settings="ab12",
    scope="site",
    epoch=3,
)
CHANGES: dict[str, Any] = {
    "tenant": "others",
    "site": "south",
    "purpose": "inference",
    "model": "net:00fe",
    "layer": "features.1",
    "shape": (64, 196),
    "settings": "ab13",
    "scope": "federation",
    "epoch": 4,
    "session": "monday",
    "sample": "one",
}


def master() -> MasterKey:
    return MasterKey(SECRET, SALT)


def contexts() -> st.SearchStrategy[KeyContext]:
    text = st.text(alphabet="ab\x00é1", max_size=3)
    return st.builds(
        KeyContext,
        **dict.fromkeys(
            ("tenant", "site", "purpose", "model", "layer", "settings", "scope", "session", "sample"), text
        ),
        shape=st.lists(st.integers(1, 12), max_size=3).map(tuple),
        epoch=st.integers(0, 12),
    )


@pytest.mark.parametrize(
    ("salt", "info", "pseudorandom", "output"),
    [
        (
            bytes(range(0x0D)),
            bytes(range(0xF0, 0xFA)),
            "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            b"",
            b"",
            "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
)
def test_derivation_is_hkdf_as_in_rfc_5869_appendix_a(salt: bytes, info: bytes, pseudorandom: str, output: str) -> None:
    key = hkdf_extract(salt, b"\x0b" * 22)
    assert key.hex() == pseudorandom
    assert hkdf_expand(key, info, 42).hex() == output


def test_a_context_key_is_extract_then_expand_with_the_context_as_info() -> None:
    wanted = hkdf_expand(hkdf_extract(SALT, SECRET), CONTEXT.encoded(), 32)
    assert master().derive(CONTEXT).component("perm") == ContextKey(wanted).component("perm")


def test_golden_keys_hold_for_ever() -> None:
    key = master().derive(CONTEXT)
    assert master().key_id == "683c812d59b32354"
    assert key.key_id == "eaf0c4f67bc5a35d"
    assert key.component("perm").hex() == "78b0a98c2f526d34ca1860e65128bcf4deb2a6be64ce42335556fdc4e6cbfac7"
    assert key.stream("perm").permutation(8).tolist() == [0, 6, 2, 5, 1, 3, 7, 4]


def test_a_context_is_encoded_with_the_length_before_every_field() -> None:
    def field(content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + content

    texts = ["knt/v1", "clinics", "north", "training", "net:00ff", "features"]
    shape = field(b"64") + field(b"14") + field(b"14")
    rest = ["ab12", "site", "3", "", ""]
    encoded = [text.encode() for text in texts] + [shape] + [text.encode() for text in rest]
    assert CONTEXT.encoded() == b"".join(map(field, encoded))


@given(contexts(), contexts())
def test_contexts_share_an_encoding_only_if_they_are_the_same(one: KeyContext, other: KeyContext) -> None:
    assert (one.encoded() == other.encoded()) == (one == other)


@given(st.text(alphabet="ab", max_size=4), st.text(alphabet="ab", max_size=4))
def test_letters_do_not_slip_from_one_field_into_the_next(left: str, right: str) -> None:
    slipped = replace(CONTEXT, tenant=left + "a", site=right)
    assert replace(CONTEXT, tenant=left, site="a" + right).encoded() != slipped.encoded()


@pytest.mark.parametrize("field", list(CHANGES))
def test_a_change_of_any_field_changes_key_id_and_permutation(field: str) -> None:
    key, other = (master().derive(context) for context in (CONTEXT, replace(CONTEXT, **{field: CHANGES[field]})))
    assert key.key_id != other.key_id
    assert not np.array_equal(key.stream("perm").permutation(64), other.stream("perm").permutation(64))


def test_another_master_or_another_salt_gives_other_keys() -> None:
    ids = {
        key.derive(CONTEXT).key_id
        for key in (master(), MasterKey(SALT, SALT), MasterKey(SECRET, SECRET), MasterKey.generate())
    }
    assert len(ids) == 4
    assert len({MasterKey.generate().key_id for _ in range(3)}) == 3


def test_components_are_independent_and_their_streams_start_anew() -> None:
    key = master().derive(CONTEXT)
    assert len({key.component(label) for label in ("mix|0", "mix|1", "nl|0", "perm", "pos")}) == 5
    assert key.stream("perm").words(3).tolist() == key.stream("perm").words(3).tolist()


@pytest.mark.parametrize("scope", ["session", "sample"])
def test_a_narrow_scope_needs_its_name(scope: str) -> None:
    narrow = replace(CONTEXT, scope=scope)
    with pytest.raises(ConfigError, match=scope):
        master().derive(narrow)
    assert master().derive(replace(narrow, **{scope: "one"})).key_id != master().derive(CONTEXT).key_id


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": -1},
        {"epoch": True},
        {"epoch": "1"},
        {"shape": [64]},
        {"shape": (0,)},
        {"shape": (6.0,)},
        {"site": None},
        {"tenant": "\ud800"},
        {"settings": b"ab"},
    ],
)
def test_a_context_of_wrong_types_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="key context"):
        replace(CONTEXT, **change)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_master_and_context_keys_have_32_bytes(length: int) -> None:
    for make in (lambda key: MasterKey(key, SALT), lambda key: MasterKey(SECRET, key), ContextKey):
        with pytest.raises(KeyFileError, match=f"but it has {length}"):
            make(b"x" * length)


def test_nothing_shows_or_carries_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    key = master()
    holders: list[Secret] = [key, key.derive(CONTEXT), key.derive(CONTEXT).stream("perm")]
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("medfl.test").debug("%s %r", key, holders)
    shown = "".join([caplog.text, str(holders), f"{key} {key!r}", *map(str, holders)])
    hidden = [SECRET, SALT, key.derive(CONTEXT).component("perm"), hkdf_extract(SALT, SECRET)]
    for secret in hidden:
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown
    assert repr(holders) == "[<MasterKey 683c812d59b32354>, <ContextKey eaf0c4f67bc5a35d>, <Keystream>]"
    for holder in holders:
        assert not hasattr(holder, "__dict__")
        for leave in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="never pickled or copied"):
                leave(holder)


def test_the_right_key_passes_its_tag_and_a_wrong_key_fails_loudly() -> None:
    key, other = master().derive(CONTEXT), master().derive(replace(CONTEXT, epoch=4))
    tag = check_tag(key, b"output of the transform")
    verify_check_tag(key, b"output of the transform", tag)
    wrong = [(other, b"output of the transform", tag), (key, b"another output", tag), (key, b"", "é\ud800")]
    for asked, output, given_tag in wrong:
        with pytest.raises(KeyFileError, match=asked.key_id):
            verify_check_tag(asked, output, given_tag)
    assert tag != check_tag(other, b"output of the transform")


@given(st.binary())
def test_base64_has_one_spelling(content: bytes) -> None:
    text = base64.b64encode(content).decode()
    assert decode_base64(text) == content
    assert decode_base64(text + "\n") is None
    assert decode_base64("é" + text) is None


def test_what_is_no_base64_or_no_object_decodes_to_nothing() -> None:
    assert [decode_base64(text) for text in ("AB==", "A", None, 7)] == [None] * 4  # AB== has spare bits set
    deep = b"[" * 100_000
    assert [parse_json(content) for content in (b"[1]", b"{", b"\xff", deep)] == [None] * 4
    assert parse_json(b'{"a": 1}') == {"a": 1}

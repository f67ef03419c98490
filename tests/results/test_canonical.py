import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfl.errors import ConfigError
from medfl.results.canonical import canonical_json, sha256


def test_the_bytes_are_those_of_rfc_8785() -> None:
    value = {"b": [1, 2.5, "ä", None], "a": {"z": True, "y": 1e21}}
    assert canonical_json(value) == '{"a":{"y":1e+21,"z":true},"b":[1,2.5,"ä",null]}'.encode()


def test_the_hash_of_a_known_value_never_changes() -> None:
    assert sha256({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert sha256({"b": 1, "a": 2.5}) == "f616bb1c00f0fedb4ec43354aa82ceb3aa0e104b98196ea4e5eea3edf51303cc"


@given(st.dictionaries(st.text(max_size=8), st.integers(-(2**53) + 1, 2**53 - 1), max_size=6))
def test_the_order_of_keys_does_not_matter(value: dict[str, int]) -> None:
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))


@pytest.mark.parametrize("bad", [math.inf, math.nan, 2**53, "\ud800", {1: 2}, b"bytes"])
def test_a_value_without_a_canonical_form_is_refused(bad: object) -> None:
    with pytest.raises(ConfigError, match="plain, finite JSON"):
        canonical_json({"a": bad})

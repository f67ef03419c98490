import hashlib
import hmac
import os
import stat
from base64 import b32encode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfl.errors import DataError
from medfl.imaging.deidentify import create_pseudonym_key, load_pseudonym_key, pseudonym

KEY = bytes(range(32))


def test_a_pseudonym_is_the_start_of_the_keyed_hash_of_its_parts() -> None:
    message = b"".join(
        len(part).to_bytes(8, "big") + part for part in (b"medfl pseudonym 1", b"subject", "Jürgen 1".encode())
    )
    expected = b32encode(hmac.new(KEY, message, hashlib.sha256).digest()).decode().lower()[:20]
    assert pseudonym(KEY, "subject", "Jürgen 1") == expected


@given(st.text(min_size=1).filter(str.strip), st.text(min_size=1).filter(str.strip))
def test_pseudonyms_agree_exactly_when_domain_and_identifier_do(one: str, other: str) -> None:
    assert pseudonym(KEY, "subject", one) == pseudonym(KEY, "subject", f" {one} ")
    assert (pseudonym(KEY, "subject", one) == pseudonym(KEY, "subject", other)) == (one.strip() == other.strip())
    assert pseudonym(KEY, "subject", one) != pseudonym(KEY, "study", one)
    assert pseudonym(bytes(32), "subject", one) != pseudonym(KEY, "subject", one)


def test_the_border_between_domain_and_identifier_counts() -> None:
    assert pseudonym(KEY, "subject", "s1") != pseudonym(KEY, "subjects", "1")


def test_a_name_with_bytes_of_an_old_file_system_still_gets_one() -> None:
    assert len(pseudonym(KEY, "subject", "J\udcfcrgen")) == 20


@pytest.mark.parametrize(("key", "identifier"), [(KEY[:31], "1"), (KEY, ""), (KEY, "  ")])
def test_a_short_key_and_an_empty_identifier_are_refused(key: bytes, identifier: str) -> None:
    with pytest.raises(DataError):
        pseudonym(key, "subject", identifier)


def test_a_key_is_random_private_and_comes_back(tmp_path: Path) -> None:
    key = create_pseudonym_key(tmp_path / "key")
    assert load_pseudonym_key(tmp_path / "key") == key
    assert len(key) == 32
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert create_pseudonym_key(tmp_path / "other") != key


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    key = create_pseudonym_key(tmp_path / "key")
    with pytest.raises(DataError, match="exist"):
        create_pseudonym_key(tmp_path / "key")
    assert load_pseudonym_key(tmp_path / "key") == key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_key_that_others_can_touch_is_refused(mode: int, tmp_path: Path) -> None:
    create_pseudonym_key(tmp_path / "key")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(DataError, match="chmod 600"):
        load_pseudonym_key(tmp_path / "key")


@pytest.mark.parametrize("content", ["", "00", "zz" * 32, "00" * 33])
def test_a_file_that_holds_no_key_is_refused_without_showing_it(content: str, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(DataError) as caught:
        load_pseudonym_key(path)
    assert "zz" not in str(caught.value)


def test_missing_keys_links_and_pipes_are_refused(tmp_path: Path) -> None:
    create_pseudonym_key(tmp_path / "key")
    (tmp_path / "link").symlink_to(tmp_path / "key")
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("missing", "link", "pipe"):
        with pytest.raises(DataError):
            load_pseudonym_key(tmp_path / name)

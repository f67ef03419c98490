import base64
import copy
import json
import os
import pickle
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from medfl.errors import EnvelopeError, KeyFileError
from medfl.privacy.envelope import EnvelopeKey
from medfl.privacy.key_files import KeyFile, revoke, write_private
from medfl.privacy.key_wrapping import (
    Identity,
    WrapHeader,
    read_line,
    unwrap,
    unwrap_key_file,
    wrap,
    wrap_key_file,
)
from medfl.results.canonical import canonical_json

TODAY = date(2026, 3, 1)
NORTH, SOUTH = Identity.generate(), Identity.generate()
HEADER = WrapHeader("federation", "0123456789abcdef", 2)
CONTENT = b"thirty-two bytes nobody may see!"


def spelled(facts: dict[str, object]) -> str:
    return canonical_json(facts).decode()


def test_the_recipient_unwraps_what_was_wrapped() -> None:
    assert unwrap(wrap(CONTENT, NORTH.public_key(), HEADER), NORTH) == (HEADER, CONTENT)


def test_a_wrapped_key_shows_its_header_and_not_its_content() -> None:
    wrapped = wrap(CONTENT, NORTH.public_key(), HEADER)
    facts = json.loads(wrapped)
    sealed = base64.b64decode(facts.pop("sealed"))
    assert facts == {
        "schema": "medfl/wrapped-key/1",
        "recipient": NORTH.public_key(),
        "purpose": "federation",
        "key_id": "0123456789abcdef",
        "epoch": 2,
    }
    assert CONTENT not in sealed
    assert wrapped != wrap(CONTENT, NORTH.public_key(), HEADER)


def test_nobody_else_can_unwrap_it_even_under_a_changed_recipient() -> None:
    wrapped = wrap(CONTENT, NORTH.public_key(), HEADER)
    with pytest.raises(EnvelopeError, match="for another one"):
        unwrap(wrapped, SOUTH)
    with pytest.raises(EnvelopeError, match="unchanged"):
        unwrap(wrapped.replace(NORTH.public_key(), SOUTH.public_key()), SOUTH)


def test_any_changed_byte_is_noticed() -> None:
    wrapped = wrap(CONTENT, NORTH.public_key(), HEADER).encode()
    for place in range(len(wrapped)):
        for mask in (0x01, 0x20):
            changed = wrapped[:place] + bytes([wrapped[place] ^ mask]) + wrapped[place + 1 :]
            with pytest.raises(EnvelopeError):
                unwrap(changed.decode(errors="replace"), NORTH)


def test_another_spelling_of_the_same_json_is_a_change() -> None:
    wrapped = wrap(CONTENT, NORTH.public_key(), HEADER)
    facts = json.loads(wrapped)
    twice = wrapped.replace('"epoch":2', '"epoch":1,"epoch":2')
    for text in (json.dumps(facts), f"{wrapped}\n", twice, wrapped.replace('"epoch":2', '"epoch":2.0')):
        with pytest.raises(EnvelopeError, match="canonical"):
            unwrap(text, NORTH)


def test_any_changed_bit_of_the_sealed_bytes_is_noticed() -> None:
    facts = json.loads(wrap(CONTENT, NORTH.public_key(), HEADER))
    sealed = base64.b64decode(facts["sealed"])
    for bit in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(EnvelopeError):
            unwrap(spelled({**facts, "sealed": base64.b64encode(changed).decode()}), NORTH)


@pytest.mark.parametrize(
    "change", [{"purpose": "site"}, {"key_id": "f" * 16}, {"epoch": 3}, {"schema": "x"}, {"more": 1}, {"sealed": ""}]
)
def test_every_field_of_the_header_is_bound(change: dict[str, object]) -> None:
    facts = json.loads(wrap(CONTENT, NORTH.public_key(), HEADER))
    with pytest.raises(EnvelopeError):
        unwrap(spelled({**facts, **change}), NORTH)


@given(
    st.text(max_size=40)
    | st.binary(max_size=40).map(lambda data: data.decode(errors="replace"))
    | st.dictionaries(
        st.sampled_from(["schema", "recipient", "purpose", "key_id", "epoch", "sealed"]),
        st.text(max_size=3) | st.integers() | st.booleans() | st.none(),
    ).map(json.dumps)
    | st.text(alphabet="[{", max_size=9_000)
)
def test_arbitrary_text_is_no_wrapped_key(text: str) -> None:
    with pytest.raises(EnvelopeError):
        unwrap(text, NORTH)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "medfl-x25519",
        "medfl-x25519 AAAA",
        "medfl-x25519 " + "A" * 42 + "B=",
        "ssh-ed25519 " + base64.b64encode(bytes(32)).decode(),
        "medfl-x25519 " + base64.b64encode(bytes(32)).decode(),
        "medfl-x25519 " + base64.b64encode(b"\x01" + bytes(31)).decode(),
    ],
)
def test_a_line_that_is_no_public_key_is_refused(line: str) -> None:
    with pytest.raises(KeyFileError, match="recipient's key"):
        wrap(CONTENT, line, HEADER)


def test_an_identity_is_written_for_its_owner_alone_and_read_back(tmp_path: Path) -> None:
    path, public = tmp_path / "north.identity", tmp_path / "north.identity.pub"
    made = Identity.create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_line(public) == made.public_key()
    assert b"PRIVATE KEY" not in public.read_bytes()
    wrapped = wrap(CONTENT, read_line(public), HEADER)
    assert unwrap(wrapped, Identity.load(path)) == (HEADER, CONTENT)
    with pytest.raises(KeyFileError, match="new file"):
        Identity.create(path)
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        Identity.load(path)


def test_no_private_key_is_left_beside_somebody_elses_public_one(tmp_path: Path) -> None:
    (tmp_path / "north.pub").write_text("medfl-x25519 other")
    with pytest.raises(KeyFileError, match="new file"):
        Identity.create(tmp_path / "north")
    assert not (tmp_path / "north").exists()
    assert (tmp_path / "north.pub").read_text() == "medfl-x25519 other"


def test_a_file_that_holds_another_kind_of_key_is_no_identity(tmp_path: Path) -> None:
    other = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for number, content in enumerate((b"", b"no key", other, other[:60])):
        write_private(tmp_path / str(number), content)
        with pytest.raises(KeyFileError, match="X25519 private key") as caught:
            Identity.load(tmp_path / str(number))
        assert other.splitlines()[1].decode() not in str(caught.value)


def test_what_is_no_text_is_no_line(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    for name in ("x", "none", "."):
        with pytest.raises(KeyFileError, match="readable text file"):
            read_line(tmp_path / name)


def test_an_identity_shows_its_public_half_only_and_cannot_be_copied(tmp_path: Path) -> None:
    identity = Identity.create(tmp_path / "north")
    private = (tmp_path / "north").read_text().splitlines()[1]
    assert repr(identity) == str(identity) == f"<Identity {identity.public_key()}>"
    assert private not in repr(identity)
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled or copied"):
            leave(identity)


def test_a_key_file_arrives_with_its_key_and_its_facts(tmp_path: Path) -> None:
    path = tmp_path / "federation.key"
    file = KeyFile.create(path, "federation", created=TODAY, epoch=4, not_after=date(2026, 4, 1), image_cap=3)
    wrapped = wrap_key_file(path, NORTH.public_key(), TODAY)
    there = unwrap_key_file(wrapped, NORTH, tmp_path / "there.key")
    assert there.info == file.info
    assert KeyFile.load(tmp_path / "there.key", TODAY).key.secret_bytes() == file.key.secret_bytes()
    assert (tmp_path / "there.key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(KeyFileError, match="must not exist yet"):
        unwrap_key_file(wrapped, NORTH, path)


def test_a_key_out_of_use_is_not_handed_on(tmp_path: Path) -> None:
    path = tmp_path / "federation.key"
    KeyFile.create(path, "federation", created=TODAY, not_after=TODAY)
    with pytest.raises(KeyFileError, match="expired"):
        wrap_key_file(path, NORTH.public_key(), date(2026, 3, 2))
    revoke(path, TODAY)
    with pytest.raises(KeyFileError, match="revoked"):
        wrap_key_file(path, NORTH.public_key(), TODAY)


def test_a_wrapped_key_that_is_not_what_its_header_says_is_not_installed(tmp_path: Path) -> None:
    file = KeyFile.create(tmp_path / "north.key", "site", created=TODAY)
    true = WrapHeader("site", file.info.key_id, 1)
    lies = [replace(true, purpose="federation"), replace(true, key_id="f" * 16), replace(true, epoch=2)]
    for header in lies:
        wrapped = wrap(file.secret_content(), NORTH.public_key(), header)
        with pytest.raises(EnvelopeError, match="header"):
            unwrap_key_file(wrapped, NORTH, tmp_path / "out.key")
    with pytest.raises(EnvelopeError, match="header"):
        unwrap_key_file(wrap(b"no key file", NORTH.public_key(), true), NORTH, tmp_path / "out.key")
    assert not (tmp_path / "out.key").exists()


def test_an_envelope_key_and_a_key_file_are_never_taken_for_each_other(tmp_path: Path) -> None:
    envelope = EnvelopeKey.generate().wrap(NORTH.public_key(), "medfl/features")
    with pytest.raises(EnvelopeError, match="another key"):
        unwrap_key_file(envelope.decode(), NORTH, tmp_path / "out.key")
    KeyFile.create(tmp_path / "north.key", "site", created=TODAY)
    wrapped = wrap_key_file(tmp_path / "north.key", NORTH.public_key(), TODAY).encode()
    with pytest.raises(EnvelopeError, match="another one"):
        EnvelopeKey.unwrap(wrapped, NORTH, "medfl/features")


def test_errors_hold_nothing_of_the_content() -> None:
    secret = os.urandom(32).hex()
    wrapped = wrap(secret.encode(), NORTH.public_key(), HEADER)
    for text, identity in ((wrapped[:-4], NORTH), (wrapped, SOUTH), (secret, NORTH)):
        with pytest.raises(EnvelopeError) as caught:
            unwrap(text, identity)
        assert secret not in f"{caught.value!r} {caught.value.__context__!r}"

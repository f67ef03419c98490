import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfl.audit.signature import DECISION, REPORT, SigningKey, allowed_signers, fingerprint, signer_of, verify
from medfl.errors import AuditError, KeyFileError

KEY = SigningKey.generate("test")
MESSAGE = b'{"status":"below margin"}'
SIGNATURE = KEY.sign(MESSAGE, REPORT)


@pytest.fixture
def ssh_keygen(require: Callable[[bool, str], None]) -> str:
    found = shutil.which("ssh-keygen")
    require(found is not None, "ssh-keygen must be installed")
    return str(found)


def checked(tool: str, folder: Path, message: bytes, namespace: str = REPORT) -> int:
    (folder / "sig").write_text(SIGNATURE)
    (folder / "allowed").write_text(allowed_signers("tool@site", KEY.public_line(), [namespace]) + "\n")
    command = [tool, "-Y", "verify", "-f", "allowed", "-I", "tool@site", "-n", namespace, "-s", "sig"]
    return subprocess.run(command, cwd=folder, input=message, capture_output=True, check=False).returncode


def test_stock_ssh_keygen_accepts_the_signature_and_refuses_an_edited_file(ssh_keygen: str, tmp_path: Path) -> None:
    assert checked(ssh_keygen, tmp_path, MESSAGE) == 0
    assert checked(ssh_keygen, tmp_path, MESSAGE.replace(b"below", b"above")) != 0
    assert checked(ssh_keygen, tmp_path, MESSAGE, DECISION) != 0


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_signature_made_by_stock_ssh_keygen_is_accepted(ssh_keygen: str, tmp_path: Path, algorithm: str) -> None:
    made = SigningKey.create(tmp_path / "key", "officer")
    command = [ssh_keygen, "-Y", "sign", "-f", "key", "-n", DECISION, "-O", f"hashalg={algorithm}"]
    done = subprocess.run(command, cwd=tmp_path, input=MESSAGE, capture_output=True, check=True)
    signature = done.stdout.decode()
    verify(MESSAGE, signature, DECISION, made.public_line())
    assert signer_of(signature).split()[1] == made.public_line().split()[1]


def test_the_fingerprint_is_the_one_that_ssh_keygen_prints(ssh_keygen: str, tmp_path: Path) -> None:
    made = SigningKey.create(tmp_path / "key", "x")
    done = subprocess.run([ssh_keygen, "-lf", "key.pub"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert fingerprint(made.public_line()) in done.stdout


@given(place=st.integers(0, len(MESSAGE) - 1), bit=st.integers(0, 7))
def test_a_single_changed_bit_is_noticed(place: int, bit: int) -> None:
    edited = bytearray(MESSAGE)
    edited[place] ^= 1 << bit
    with pytest.raises(AuditError, match="changed"):
        verify(bytes(edited), SIGNATURE, REPORT, KEY.public_line())


def test_another_key_or_another_purpose_does_not_count() -> None:
    with pytest.raises(AuditError, match="another key"):
        verify(MESSAGE, SIGNATURE, REPORT, SigningKey.generate("other").public_line())
    with pytest.raises(AuditError, match="something else"):
        verify(MESSAGE, SIGNATURE, DECISION, KEY.public_line())


@given(st.text(max_size=200))
def test_anything_else_is_refused_in_words(text: str) -> None:
    with pytest.raises(AuditError):
        verify(MESSAGE, text, REPORT, KEY.public_line())


@given(st.integers(1, len("".join(SIGNATURE.split("\n")[1:-2])) - 1))
def test_a_truncated_signature_is_refused_in_words(length: int) -> None:
    lines = SIGNATURE.strip().splitlines()
    body = "".join(lines[1:-1])[: length // 4 * 4]
    with pytest.raises(AuditError):
        verify(MESSAGE, "\n".join([lines[0], body, lines[-1]]), REPORT, KEY.public_line())


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    SigningKey.create(tmp_path / "key", "x")
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        SigningKey.load(tmp_path / "key")


def test_a_key_is_kept_and_never_overwritten_or_shown(tmp_path: Path) -> None:
    made = SigningKey.create(tmp_path / "key", "x")
    assert SigningKey.load(tmp_path / "key").public_line().split()[:2] == made.public_line().split()[:2]
    with pytest.raises(KeyFileError):
        SigningKey.create(tmp_path / "key", "x")
    assert repr(made) == f"SigningKey({fingerprint(made.public_line())})"


def test_a_key_with_a_passphrase_points_to_stock_tools(ssh_keygen: str, tmp_path: Path) -> None:
    command = [ssh_keygen, "-q", "-t", "ed25519", "-N", "a passphrase", "-f", "key"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    with pytest.raises(KeyFileError, match="ssh-keygen -Y sign"):
        SigningKey.load(tmp_path / "key")


@pytest.mark.parametrize(("identity", "namespace"), [("*", REPORT), ("a\nb", REPORT), ("tool", 'x"y')])
def test_names_cannot_widen_a_file_of_allowed_signers(identity: str, namespace: str) -> None:
    with pytest.raises(AuditError, match="Names"):
        allowed_signers(identity, KEY.public_line(), [namespace])


@pytest.mark.parametrize("line", ["ssh-ed25519 AAAA", "ssh-ed25519", "ssh-rsa AAAA", ""])
def test_what_is_no_key_has_no_fingerprint(line: str) -> None:
    with pytest.raises(AuditError):
        fingerprint(line)

import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from medfl.errors import ConfigError, KeyFileError
from medfl.governance.certificates import Authority, fingerprint_of, read_certificate, valid_until, verify_by_authority

NOW = datetime(2026, 5, 4, 10, 30, tzinfo=UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path, "north", NOW)


def test_only_its_owner_may_read_the_key_of_an_authority_and_it_is_never_shown(
    authority: Authority, tmp_path: Path
) -> None:
    assert (tmp_path / "ca.key").stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in repr(authority) + repr(authority.issue(["localhost"], NOW))
    (tmp_path / "ca.key").chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        Authority.load(tmp_path)


def test_an_authority_is_never_overwritten(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="folder without one"):
        Authority.create(tmp_path, "south", NOW)
    assert Authority.load(tmp_path).fingerprint == authority.fingerprint


def test_a_key_of_another_certificate_is_refused(authority: Authority, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    Authority.create(other, "north", NOW)
    (tmp_path / "ca.crt").write_bytes((other / "ca.crt").read_bytes())
    with pytest.raises(KeyFileError, match="another"):
        Authority.load(tmp_path)


def test_openssl_takes_a_server_certificate_for_its_hosts_and_for_no_other(
    authority: Authority, tmp_path: Path
) -> None:
    made = authority.issue(["hub.example.org", "127.0.0.1", "localhost"], datetime.now(UTC))
    (tmp_path / "server.crt").write_bytes(made.certificate)

    def verify(*options: str) -> int:
        command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", str(tmp_path / "ca.crt")]
        ran = subprocess.run([*command, *options, str(tmp_path / "server.crt")], capture_output=True, check=False)
        return ran.returncode

    assert verify("-verify_hostname", "hub.example.org") == 0
    assert verify("-verify_ip", "127.0.0.1") == 0
    assert verify("-verify_hostname", "other.example.org") != 0


def test_a_server_certificate_ends_after_397_days_and_cannot_sign_others(authority: Authority) -> None:
    made = authority.issue(["localhost"], NOW)
    assert valid_until(made.certificate) == NOW + timedelta(days=397)
    assert "ca=True" not in str(read_certificate(made.certificate).extensions)
    assert fingerprint_of(made.certificate.decode()) != authority.fingerprint


def test_the_fingerprint_is_what_openssl_prints(authority: Authority, tmp_path: Path) -> None:
    command = ["openssl", "x509", "-in", str(tmp_path / "ca.crt"), "-noout", "-fingerprint", "-sha256"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.strip().partition("=")[2].replace(":", "").lower() == authority.fingerprint


def test_a_signature_of_an_authority_fits_its_message_only(authority: Authority) -> None:
    signature = authority.sign(b"message")
    assert verify_by_authority(authority.pem, b"message", signature)
    assert not verify_by_authority(authority.pem, b"messagE", signature)


@pytest.mark.parametrize("host", ["", "a b", "-x.org", "hub..org", "x" * 64 + "." * 200])
def test_a_host_that_is_neither_name_nor_address_is_refused(authority: Authority, host: str) -> None:
    with pytest.raises(ConfigError, match="host must be"):
        authority.issue([host], NOW)


@pytest.mark.parametrize(
    "content", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_what_is_no_certificate_is_refused(content: bytes) -> None:
    with pytest.raises(ConfigError):
        read_certificate(content)


def test_python_trusts_what_the_authority_issued(authority: Authority) -> None:
    context = ssl.create_default_context(cadata=authority.pem)
    assert len(context.get_ca_certs()) >= 1

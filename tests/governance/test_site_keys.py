import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from medfl.errors import KeyFileError
from medfl.governance.site_keys import create_site_key


def test_the_private_key_is_for_its_owner_only_and_fits_the_public_one(
    tmp_path: Path, require: Callable[[bool, str], None]
) -> None:
    public = create_site_key(tmp_path / "site_key", "north")
    assert public.startswith("ecdsa-sha2-nistp384 ")
    assert public.endswith(" north")
    assert stat.S_IMODE((tmp_path / "site_key").stat().st_mode) == 0o600
    assert (tmp_path / "site_key.pub").read_text() == f"{public}\n"
    assert (tmp_path / "site_key").read_text().startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    require(shutil.which("ssh-keygen") is not None, "ssh-keygen is not installed")
    found = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(tmp_path / "site_key")], capture_output=True, text=True, check=True
    )
    assert found.stdout.split()[:2] == public.split()[:2]


@pytest.mark.parametrize("there", ["site_key", "site_key.pub"])
def test_no_key_is_ever_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(KeyFileError, match="new"):
        create_site_key(tmp_path / "site_key", "north")
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


def test_a_folder_that_is_missing_is_a_named_refusal(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="cannot be"):
        create_site_key(tmp_path / "missing" / "site_key", "north")

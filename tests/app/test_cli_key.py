import base64
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.cli.exit_codes import exit_code
from app.cli.key import key_app
from medfl.errors import MedFLError
from medfl.privacy.key_files import KeyFile

KID = "0123456789abcdef"


def medfl_key(*arguments: object, answer: str | None = None) -> Result:
    return CliRunner().invoke(key_app, [str(argument) for argument in arguments], input=answer)


def code_of(result: Result) -> int:
    """Return the exit code that the `medfl` command gives."""
    return exit_code(result.exception) if isinstance(result.exception, MedFLError) else result.exit_code


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "federation.key"
    made = medfl_key("create", path, "--kind", "federation", "--not-after", "2999-12-31", "--image-cap", 10)
    assert made.exit_code == 0
    return path


def test_create_and_show_print_one_json_object_each(key: Path, tmp_path: Path) -> None:
    KeyFile.load(key).charge(KID, 4)
    shown = json.loads(medfl_key("show", key, "--json").stdout)
    assert shown.pop("key_id") == KeyFile.load(key).info.key_id
    assert len(shown.pop("created")) == 10
    assert shown == {
        "kind": "federation",
        "epoch": 1,
        "not_after": "2999-12-31",
        "image_cap": 10,
        "released": {KID: 4},
        "revoked_on": None,
    }
    made = json.loads(medfl_key("create", tmp_path / "north.key", "--json").stdout)
    assert (made["kind"], made["image_cap"], made["not_after"]) == ("site", None, None)


def test_show_prints_a_few_lines_for_people(key: Path) -> None:
    KeyFile.load(key).charge(KID, 4)
    lines = medfl_key("show", key).stdout.splitlines()
    assert lines[0].startswith(f"key {KeyFile.load(key).info.key_id}: federation, epoch 1, made on 20")
    assert lines[1:] == [
        "  last day of use: 2999-12-31",
        "  cap on released images: 10 under each key derived from it",
        f"  released under {KID}: 4",
    ]


def test_a_key_travels_wrapped_from_its_custodian_to_a_site(key: Path, tmp_path: Path) -> None:
    identity, wrapped, there = tmp_path / "north.identity", tmp_path / "north.wrapped", tmp_path / "there.key"
    made = json.loads(medfl_key("create", identity, "--identity", "--json").stdout)
    assert Path(made["public"]).read_text().strip() == made["public_key"]
    sent = medfl_key("wrap", key, "--to", made["public"], "--out", wrapped, "--json")
    assert json.loads(sent.stdout) == {"wrapped": str(wrapped), "key_id": KeyFile.load(key).info.key_id}
    got = medfl_key("unwrap", wrapped, "--identity", identity, "--out", there)
    assert got.exit_code == 0
    assert "compare the key id" in got.stdout
    assert KeyFile.load(there).key.secret_bytes() == KeyFile.load(key).key.secret_bytes()
    other = tmp_path / "south.identity"
    medfl_key("create", other, "--identity")
    refused = medfl_key("unwrap", wrapped, "--identity", other, "--out", tmp_path / "south.key")
    assert code_of(refused) == 6
    assert not (tmp_path / "south.key").exists()


def test_rotate_keeps_the_old_key_unless_told_to_revoke_it(key: Path, tmp_path: Path) -> None:
    first = medfl_key("rotate", key, "--out", tmp_path / "two.key", "--json")
    assert json.loads(first.stdout)["epoch"] == 2
    assert KeyFile.load(key).epoch == 1
    medfl_key("rotate", key, "--out", tmp_path / "three.key", "--image-cap", 5, "--revoke-old")
    assert KeyFile.load(tmp_path / "three.key").info.image_cap == 5
    assert json.loads(medfl_key("show", key, "--json").stdout)["revoked_on"]


def test_revoke_asks_first_and_then_says_what_it_cannot_do(key: Path) -> None:
    assert medfl_key("revoke", key, answer="n\n").exit_code == 1
    assert KeyFile.load(key).epoch == 1
    revoked = medfl_key("revoke", key, "--yes")
    assert revoked.exit_code == 0
    assert "what was released before stays out there" in revoked.stdout
    assert code_of(medfl_key("wrap", key, "--to", key, "--out", key.with_name("out"))) == 6


def test_errors_map_to_the_exit_codes_of_the_contract(key: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.key"
    assert code_of(medfl_key("create", key)) == 6
    assert code_of(medfl_key("show", new)) == 6
    assert code_of(medfl_key("create", new, "--not-after", "2001-01-01")) == 3
    assert code_of(medfl_key("create", new, "--not-after", "soon")) == 2
    assert code_of(medfl_key("create", new, "--kind", "patient")) == 2
    assert code_of(medfl_key("create", new, "--image-cap", 0)) == 2
    assert code_of(medfl_key("create", new, "--identity", "--image-cap", 5)) == 2
    assert code_of(medfl_key("create", new, "--identity", "--not-after", "2999-01-01")) == 2
    assert not new.exists()
    key.chmod(0o644)
    assert code_of(medfl_key("show", key)) == 6


def test_no_command_ever_prints_a_secret(key: Path, tmp_path: Path) -> None:
    file = KeyFile.load(key)
    secrets = [base64.b64encode(part).decode() for part in (file.key.secret_bytes(), file.key.salt)]
    medfl_key("create", tmp_path / "me", "--identity")
    secrets.append((tmp_path / "me").read_text().splitlines()[1])
    results = [
        medfl_key("show", key),
        medfl_key("show", key, "--json"),
        medfl_key("show", tmp_path / "me"),
        medfl_key("create", key),
        medfl_key("wrap", key, "--to", tmp_path / "me.pub", "--out", tmp_path / "w"),
        medfl_key("wrap", key, "--to", tmp_path / "me", "--out", tmp_path / "v"),
        medfl_key("wrap", key, "--to", key, "--out", tmp_path / "v"),
        medfl_key("unwrap", tmp_path / "w", "--identity", tmp_path / "me", "--out", tmp_path / "t.key"),
        medfl_key("unwrap", key, "--identity", tmp_path / "me", "--out", tmp_path / "u.key"),
        medfl_key("unwrap", tmp_path / "w", "--identity", key, "--out", tmp_path / "u.key"),
        medfl_key("rotate", key, "--out", tmp_path / "r.key"),
        medfl_key("revoke", key, "--yes", "--json"),
    ]
    assert [code_of(result) for result in results] == [0, 0, 6, 6, 0, 6, 6, 0, 6, 6, 0, 0]
    for result in results:
        shown = f"{result.stdout} {result.stderr} {result.exception!r}"
        assert not any(secret in shown for secret in secrets)

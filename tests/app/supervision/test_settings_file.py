from pathlib import Path

import pytest

from app.supervision.settings_file import read_settings_file, settings_in
from medfl.errors import ConfigError


def test_settings_come_back_as_plain_values() -> None:
    assert settings_in(b"name: a\nmore: {ports: [1, 2]}\n", "hub.yaml") == {"name": "a", "more": {"ports": [1, 2]}}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"name: a\nname: b\n", "hub.yaml:2: 'name' must stand only once"),
        (b"a: {b: 1, b: 2}\n", "'b' must stand only once"),
        (b"", "name: value"),
        (b"[1]\n", "name: value"),
        (b"1: a\n", "name: value"),
        (b"state: /elsewhere\n", "remove 'state'"),
        (b"a: &x [*x]\n", "aliases"),
        (b"a: !!python/object:os.system x\n", "tags"),
        (b"\xff\xfe", "YAML text"),
        (b"a: [\n", "must be YAML"),
    ],
)
def test_what_is_no_mapping_of_settings_is_refused(content: bytes, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        settings_in(content, "hub.yaml")


@pytest.mark.parametrize("content", [b"a: 's3cret", b"a: [s3cret, }", b"a: s3cret: b", b"%s3cret\na: b", b"a: {s3cret"])
def test_a_mistake_in_a_file_shows_no_value_of_it(content: bytes) -> None:
    with pytest.raises(ConfigError, match="must be YAML") as caught:
        settings_in(content, "site.yaml")
    assert "s3cret" not in str(caught.value)


def test_a_file_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="medfl hub init"):
        read_settings_file(tmp_path / "hub.yaml", "hub")


def test_a_file_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_bytes(b"#" * 300_000)
    with pytest.raises(ConfigError, match="at most 256 KiB"):
        read_settings_file(tmp_path / "site.yaml", "site")

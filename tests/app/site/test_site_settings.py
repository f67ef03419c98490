import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from app.site.init import init_site
from app.site.settings import SiteSettings, load_settings
from medfl.errors import ConfigError
from medfl.governance.audit_log import AuditLog
from medfl.governance.site_policy import SitePolicy
from tests.app.site.conftest import make_site

ROOT = Path(__file__).parents[3]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return make_site(tmp_path / "state", tmp_path / "manifest.csv", hub="hub:8443")


def write(folder: Path, changes: dict[str, object]) -> None:
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


def test_a_new_site_has_its_own_values_and_the_defaults(state: Path, tmp_path: Path) -> None:
    settings = load_settings(state)
    assert (settings.name, settings.hub, settings.state) == ("north", "hub:8443", state)
    assert settings.data.manifest == tmp_path / "manifest.csv"
    assert settings.policy == SitePolicy()
    assert settings.cache == state / "cache"
    assert settings.proxy.get_secret_value() == ""


def test_everything_of_a_new_site_is_for_its_owner_only(state: Path) -> None:
    for path in (state, *state.rglob("*")):
        open_to_others = stat.S_IMODE(path.stat().st_mode) & 0o077
        assert open_to_others == (0o044 if path.name == "site_key.pub" else 0), path.name
    assert len((state / "secrets" / "superexec").read_text()) == 64
    assert [entry.operation for entry in AuditLog(state / "audit.jsonl").entries()] == ["site.init"]


@pytest.mark.parametrize("there", ["site.yaml", "keys", "note.txt"])
def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(ConfigError, match="empty folder"):
        init_site(tmp_path, name="north", manifest=Path("/data/m.csv"), hub="", by="Jo Admin", now=datetime.now(UTC))
    assert [path.name for path in tmp_path.iterdir()] == [there]


@pytest.mark.parametrize(
    ("name", "hub"), [("no rth", ""), ("", ""), ("../north", ""), ("north", "hub"), ("north", "https://hub:1")]
)
def test_a_site_with_bad_values_is_not_made(tmp_path: Path, name: str, hub: str) -> None:
    with pytest.raises(ConfigError):
        init_site(
            tmp_path / "state", name=name, manifest=Path("/data/m.csv"), hub=hub, by="Jo Admin", now=datetime.now(UTC)
        )
    assert not (tmp_path / "state").exists()


def test_a_path_with_odd_characters_stays_one_path(tmp_path: Path) -> None:
    odd = tmp_path / 'a "b" # c: d\\n'
    init_site(tmp_path / "state", name="north", manifest=odd, hub="", by="Jo Admin", now=datetime.now(UTC))
    assert load_settings(tmp_path / "state").data.manifest == odd


def test_the_environment_beats_a_secret_file_and_that_beats_the_file(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(state, {"proxy": "http://file:1"})
    assert load_settings(state).proxy.get_secret_value() == "http://file:1"
    (state / "secrets" / "medfl_site_proxy").write_text("http://user:word@secret:1")
    assert load_settings(state).proxy.get_secret_value() == "http://user:word@secret:1"
    monkeypatch.setenv("MEDFL_SITE_PROXY", "http://variable:1")
    monkeypatch.setenv("MEDFL_SITE_POLICY__MINIMUM_SUBJECTS", "12")
    settings = load_settings(state)
    assert settings.proxy.get_secret_value() == "http://variable:1"
    assert settings.policy.minimum_subjects == 12
    assert settings.policy.approval_days == SitePolicy().approval_days


def test_a_secret_is_never_shown(state: Path) -> None:
    (state / "secrets" / "medfl_site_proxy").write_text("http://user:word@secret:1")
    settings = load_settings(state)
    assert "word" not in repr(settings) + str(settings) + settings.model_dump_json()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"budgt": 1}, "budgt"),
        ({"policy": {"minimum_subject": 7}}, "minimum_subject"),
        ({"policy": {"minimum_subjects": 2}}, "minimum_subjects"),
        ({"policy": {"epsilon": float("inf")}}, "epsilon"),
        ({"policy": {"required_protectors": ["plain"]}}, "required_protectors"),
        ({"policy": {"audit": {"margins": {"rank1": 0.1}}}}, "rank1"),
        ({"data": {"manifest": "relative.csv"}}, "absolute"),
        ({"data": {}}, "manifest"),
        ({"state": "/elsewhere"}, "state"),
        ({"schema": "medfl/site/2"}, "schema"),
        ({"worker": {"deadline_s": 0}}, "deadline_s"),
    ],
)
def test_a_mistake_in_the_file_is_named(state: Path, change: dict[str, object], named: str) -> None:
    write(state, change)
    with pytest.raises(ConfigError, match=named):
        load_settings(state)


@pytest.mark.parametrize(
    "variable",
    [
        "NAEM",
        "POLICY__MINIMUM_SUBJECT",
        "POLICY__AUDIT__MARGINS__RANK1",
        "POLICI__EPSILON",
        "STATE",
        "NAME__X",
        "DATA_",
    ],
)
def test_a_typo_in_a_variable_is_named(state: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(f"MEDFL_SITE_{variable}", "7")
    with pytest.raises(ConfigError, match=f"MEDFL_SITE_{variable}"):
        load_settings(state)


def test_a_typo_in_the_name_of_a_secret_file_is_named(state: Path) -> None:
    (state / "secrets" / "medfl_site_prxy").write_text("http://proxy:1")
    with pytest.raises(ConfigError, match="secrets/medfl_site_prxy"):
        load_settings(state)


@pytest.mark.parametrize("value", ["eleven", "[", "{}"])
def test_a_value_in_a_variable_that_cannot_be_read_is_refused_without_showing_it(
    state: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("MEDFL_SITE_POLICY__TASKS", value)
    with pytest.raises(ConfigError) as caught:
        load_settings(state)
    assert "eleven" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"name: a\nname: b\n", "site.yaml:2: 'name' must stand only once"),
        (b"policy: {gate: true, gate: false}\n", "'gate' must stand only once"),
        (b"[1]\n", "name: value"),
        (b"", "name: value"),
        (b"a: [\n", "YAML"),
        (b"\xff\xfe", "YAML"),
        (b"[" * 3000, "nested deeper than 32"),
        (b"when: 2027-99-99\n", "YAML"),
        (b"#" * 300_000, "256 KiB"),
    ],
)
def test_a_file_that_is_no_settings_is_a_named_refusal(state: Path, content: bytes, named: str) -> None:
    (state / "site.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=named):
        load_settings(state)


def test_a_folder_without_a_site_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="medfl site init"):
        load_settings(tmp_path)


def test_the_commented_example_holds_every_setting_with_its_default() -> None:
    text = (ROOT / "configs" / "site" / "site.yaml").read_text()
    assert text == (ROOT / "app" / "site" / "site.yaml").read_text()
    example = yaml.safe_load(text)
    assert SitePolicy.model_validate(example["policy"]) == SitePolicy()
    assert set(example) == {field.alias or name for name, field in SiteSettings.model_fields.items()} - {"state"}
    assert set(example["policy"]) == set(SitePolicy.model_fields)
    assert set(example["data"]) | set(example["worker"]) == {
        "manifest", "account", "purpose", "cache", "user", "memory_bytes", "deadline_s",
    }  # fmt: skip

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from medfl.config.reading import dump_config, load_config, parse_config
from medfl.config.settings import Config
from medfl.errors import ConfigError

ROOT = Path(__file__).parents[2]
SHIPPED = [*sorted((ROOT / "configs").glob("*.yaml")), ROOT / "app" / "cli" / "demo.yaml"]
TEXT = """\
name: tiny
seed: 3
task:
  kind: segmentation
  dimensions: 2
  classes: {a: 1}
  patch: [16, 16]
data:
  source: {kind: phantoms, dimensions: 2, subjects: 12}
  sites: {kind: column}
network:
  kind: unet
  channels: [4, 8]
  strides: [2]
training:
  rounds: 2
  learning_rate: 0.01
"""


def fails(text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, source="run.yaml", overrides=overrides)
    return str(caught.value)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_configuration_loads_and_comes_back_from_its_dump(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDFL_DATA", str(tmp_path))
    config = load_config(path)
    assert parse_config(dump_config(config)) == config
    assert "${" not in dump_config(config)


def test_the_demo_is_the_phantom_configuration() -> None:
    demo, phantom = load_config(ROOT / "app/cli/demo.yaml"), load_config(ROOT / "configs/phantom.yaml")
    assert demo.model_copy(update={"name": "phantom"}) == phantom


def test_what_is_not_said_has_its_default() -> None:
    config = parse_config(TEXT)
    assert config.training.batch_size == 8
    assert config.federation.strategy.kind == "fedavg"
    assert config.evaluation.minimum_subjects == 5


@pytest.mark.parametrize(
    ("old", "new", "line", "setting"),
    [
        ("  rounds: 2", "  rounds: 2\n  rouns: 2", 17, "training.rouns"),
        ("  rounds: 2", "  rounds: two", 16, "training.rounds"),
        ("  rounds: 2", "  rounds: 0", 16, "training.rounds"),
        ("  rounds: 2", "  rounds: 2.5", 16, "training.rounds"),
        ("  rounds: 2\n", "", 15, "training.rounds"),
        ("learning_rate: 0.01", "learning_rate: .inf", 17, "training.learning_rate"),
        ("learning_rate: 0.01", "learning_rate: .nan", 17, "training.learning_rate"),
        ("subjects: 12", "subjects: 12, depth: 3", 9, "data.source.depth"),
        ("kind: phantoms", "kind: dreams", 9, "data.source"),
        ("patch: [16, 16]", "patch: [16, 0]", 7, "task.patch.1"),
        ("patch: [16, 16]", "patch: [16]", 7, "task.patch"),
        ("strides: [2]", "strides: [2, 2]", 11, "network"),
        ("seed: 3", "seed: -1", 2, "seed"),
        ("name: tiny", "name: ../up", 1, "name"),
        ("seed: 3", "1: 3", 2, "1"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_setting(old: str, new: str, line: int, setting: str) -> None:
    assert TEXT.count(old) == 1
    assert fails(TEXT.replace(old, new)).startswith(f"run.yaml:{line}: {setting}: ")


def test_every_mistake_is_named_at_once() -> None:
    message = fails(TEXT.replace("rounds: 2", "rounds: 0").replace("seed: 3", "seed: x"))
    assert [line.split(": ")[1] for line in message.splitlines()] == ["training.rounds", "seed"] or [
        line.split(": ")[1] for line in message.splitlines()
    ] == ["seed", "training.rounds"]


def test_a_key_that_stands_twice_is_refused_with_its_line() -> None:
    assert "run.yaml:18: 'rounds' must stand only once" in fails(TEXT + "  rounds: 5\n")
    assert "run.yaml:18: 'seed' must stand only once" in fails(TEXT + "seed: 5\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "just words",
        "- a\n- b\n",
        "name: [unclosed",
        "name: 'open",
        "\tname: tab",
        "a: b: c",
        "name: \x07bell",
        "name: 2020-99-99",  # looks like a date and is none
        "name: 0b_",  # looks like a number and is none
        "? {a: 1}\n: b\n",
        "name: " + "9" * 5000,
    ],
)
def test_what_is_not_settings_is_refused(text: str) -> None:
    assert "run.yaml" in fails(text)


def test_deep_nesting_is_refused_before_it_is_followed() -> None:
    assert "deeper" in fails("name: " + "[" * 100_000)
    assert "deeper" in fails("\n".join(f"{' ' * n}a:" for n in range(200)))


def test_aliases_cannot_make_a_short_file_endless() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    assert "run.yaml:2: settings must not use YAML aliases" in fails(bomb)
    assert "aliases" in fails("name: &a [*a]\n")
    assert "aliases" in fails(TEXT, "name=[&a x, *a]")


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system [echo]", "!!python/name:os.system ''", "!!timestamp x", "!own x"]
)
def test_tags_are_refused_and_nothing_is_made_of_them(tag: str) -> None:
    assert "tags" in fails(TEXT.replace("name: tiny", f"name: {tag}"))
    assert "tags" in fails(TEXT, f"name={tag}")


def test_an_override_replaces_one_setting() -> None:
    changed = parse_config(
        TEXT, overrides=("training.rounds=5", "evaluation.minimum_subjects=7", "task.classes={b: 2, c: 3}", "seed=4")
    )
    assert changed.training.rounds == 5
    assert changed.evaluation.minimum_subjects == 7
    assert changed.task.classes == {"b": 2, "c": 3}
    assert changed.model_copy(update={"seed": 3}).data == parse_config(TEXT).data


@pytest.mark.parametrize(
    "override",
    ["", "seed", "=3", "seed.deeper=3", "training.rouns=3", "training.rounds=x", "seed=[", "seed=2020-99-99"],
)
def test_a_bad_override_is_refused(override: str) -> None:
    fails(TEXT, override)


def test_variables_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    text = TEXT.replace(
        "{kind: phantoms, dimensions: 2, subjects: 12}", "{kind: manifest, path: '${SOME_PLACE}/m.csv'}"
    )
    monkeypatch.setenv("SOME_PLACE", "/some/where")
    assert parse_config(text).data.source.model_dump() == {"kind": "manifest", "path": "/some/where/m.csv"}
    monkeypatch.delenv("SOME_PLACE")
    assert "SOME_PLACE must be set" in fails(text)


def test_a_missing_or_unreadable_file_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="must be a readable file"):
        load_config(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("name: zürich".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml must be UTF-8"):
        load_config(tmp_path / "latin.yaml")


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,12}", fullmatch=True)


@st.composite
def configs(draw: st.DrawFn) -> Config:
    shares = draw(st.dictionaries(names, st.just(0.25), min_size=1, max_size=4))
    dimensions = draw(st.sampled_from([2, 3]))
    return Config.model_validate(
        {
            "name": draw(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,9}", fullmatch=True)),
            "seed": draw(st.integers(0, 2**31 - 1)),
            "task": {
                "kind": "classification",
                "dimensions": dimensions,
                "classes": {"no": [draw(st.text(min_size=1, max_size=6)) + "0"], "yes": ["1"]},
            },
            "data": {
                "source": {
                    "kind": "manifest",
                    "path": draw(st.text(st.characters(exclude_characters="$"), max_size=9)),
                },
                "sites": {"kind": "sizes", "shares": shares},
            },
            "network": {"kind": "densenet"},
            "training": {
                "rounds": draw(st.integers(1, 9999)),
                "learning_rate": draw(st.floats(1e-9, 1e9)),
                "max_gradient_norm": draw(st.none() | st.floats(1e-6, 1e6)),
                "augmentation": {"flip_axes": draw(st.lists(st.sampled_from(range(dimensions)), unique=True))},
            },
            "federation": {
                "strategy": draw(
                    st.sampled_from(
                        [{"kind": "fedbn"}, {"kind": "fedprox", "mu": 1e-5}, {"kind": "fedadam", "tau": 0.5}]
                    )
                )
            },
        }
    )


@settings(deadline=None, max_examples=40)
@given(configs())
def test_any_settings_come_back_from_their_dump(config: Config) -> None:
    assert parse_config(dump_config(config)) == config


@settings(deadline=None, max_examples=40)
@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_any_text_is_settings_or_a_named_error(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_config(text)


@settings(deadline=None, max_examples=40)
@given(
    st.dictionaries(
        st.sampled_from(["name", "task", "data", "network", "training", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=4),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
            max_leaves=8,
        ),
    )
)
def test_any_tree_is_settings_or_a_named_error(tree: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        parse_config(yaml.safe_dump(tree))

"""What the documents show works when it is typed."""

import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from app.cli.main import cli

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def _blocks(language: str) -> Iterator[tuple[Path, str]]:
    for document in DOCUMENTS:
        for block in re.findall(rf"```{language}\n(.*?)```", document.read_text(), flags=re.DOTALL):
            yield document, block


def _commands() -> list[tuple[str, list[str]]]:
    found = []
    for document, block in _blocks("sh"):
        for line in block.splitlines():
            words = line.split("#")[0].split()
            if words[:1] == ["medfl"]:
                found.append((document.name, words[1:]))
    return found


def test_the_readme_shows_demo_and_test_first() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.index("make demo") < text.index("make test") < text.index("medfl run")


@pytest.mark.parametrize(("document", "words"), _commands(), ids=lambda value: str(value)[:60])
def test_every_command_in_the_documents_exists_with_its_options(document: str, words: list[str]) -> None:
    command = get_command(cli)
    rest = list(words)
    while hasattr(command, "commands"):
        names = command.commands
        if words[0] == "audit" and rest[0] not in names:
            rest.insert(0, "run")  # `medfl audit RUN` is `medfl audit run RUN`
        wanted = rest.pop(0).split("|")
        assert set(wanted) <= set(names), f"{document}: medfl {' '.join(words)}"
        command = names[wanted[0]]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= known


def test_every_configuration_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"configs/[a-z_]+\.yaml", (ROOT / "README.md").read_text()))
    assert named == {f"configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}


def test_the_demo_is_the_phantom_configuration() -> None:
    demo, phantom = (
        yaml.safe_load((ROOT / name).read_text()) for name in ("app/cli/demo.yaml", "configs/phantom.yaml")
    )
    assert demo | {"name": ""} == phantom | {"name": ""}


def test_every_link_between_documents_leads_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} -> {target}"


@pytest.mark.slow
def test_python_in_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEDFL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    blocks = [block for document, block in _blocks("python") if document.name == "README.md"]
    assert blocks
    for number, block in enumerate(blocks):
        script = tmp_path / f"readme_{number}.py"
        script.write_text(block)
        runpy.run_path(str(script))
    assert "value=" in capsys.readouterr().out

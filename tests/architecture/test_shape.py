"""The shape of the house: who may import whom, how big a room is, and what never stands in it."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOUSES = ("medfl", "pipelines", "app")
MODULES = sorted(path for house in HOUSES for path in (ROOT / house).rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}
HIGHEST_LINES = 400


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_is_something_to_look_at() -> None:
    assert len(MODULES) > 80


def test_rooms_import_only_what_lies_below_them() -> None:
    lint = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or shutil.which("lint-imports")
    assert lint, "lint-imports must be installed: pip install 'medfl[dev]'"
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_fits_in_ones_head(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= HIGHEST_LINES


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py"], ids=name_of)
def test_packages_hold_a_docstring_and_nothing_else(path: Path) -> None:
    first, *rest = TREES[path].body
    assert isinstance(first, ast.Expr)
    assert isinstance(first.value, ast.Constant)
    if path == ROOT / "medfl" / "__init__.py":
        (version,) = rest
        assert isinstance(version, ast.Assign)
        assert [ast.unparse(target) for target in version.targets] == ["__version__"]
    else:
        assert rest == []


def test_no_room_is_where_things_go_to_lose_their_names() -> None:
    names = {part.removesuffix(".py") for path in MODULES for part in path.relative_to(ROOT).parts}
    assert not names & {"utils", "util", "common", "helpers", "helper", "misc"}


def forbidden(tree: ast.AST) -> Iterator[str]:
    """Yield everything that runs code from data."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            origin = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
            if any(
                name.split(".")[0] in {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
                for name in origin
            ):
                yield ast.unparse(node)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in {"eval", "exec", "compile", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load"}:
                yield called
            for keyword in node.keywords:
                setting = (keyword.arg, ast.unparse(keyword.value))
                if setting in {("allow_pickle", "True"), ("weights_only", "False"), ("shell", "True")}:
                    yield f"{called}({keyword.arg}={setting[1]})"
            if called == "torch.load" and "weights_only" not in {keyword.arg for keyword in node.keywords}:
                yield "torch.load without weights_only"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_runs_code_from_data(path: Path) -> None:
    assert list(forbidden(TREES[path])) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "eval('1')",
        "np.load(f, allow_pickle=True)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "subprocess.run('ls', shell=True)",
        "yaml.load(f, Loader=yaml.Loader)",
    ],
)
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert list(forbidden(ast.parse(source)))


def without_docstring(tree: ast.Module, name: str) -> Iterator[str]:
    if ast.get_docstring(tree) is None:
        yield name
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            if ast.get_docstring(node) is None:
                yield f"{name}: {node.name}"
            members = node.body if isinstance(node, ast.ClassDef) else []
            for member in members:
                if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
                    if ast.get_docstring(member) is None:
                        yield f"{name}: {node.name}.{member.name}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_everything_public_says_what_it_is(path: Path) -> None:
    assert list(without_docstring(TREES[path], name_of(path))) == []


def loaded_after(statement: str) -> set[str]:
    program = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("module", ["medfl.results.store", "medfl.config.reading", "medfl", "app.cli.main"])
def test_reading_results_and_settings_starts_no_heavy_machinery(module: str) -> None:
    loaded = loaded_after(f"import {module}")
    assert module.split(".")[0] in loaded
    assert not loaded & {"torch", "monai", "flwr", "scipy", "nibabel", "pydicom", "ray"}

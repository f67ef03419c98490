import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.cli.main import main

TINY = """
name: tiny
seed: 3
task: {kind: segmentation, dimensions: 2, classes: {a: 1, b: 2}, patch: [32, 32]}
data:
  source: {kind: phantoms, dimensions: 2, subjects: 20, visits: 1, sites: 2}
  sites: {kind: column}
  split: {train: 0.5, validation: 0.0, test: 0.5}
preprocessing: {size: [32, 32]}
network: {kind: unet, channels: [4, 8], strides: [2], residual_units: 0, features: 4}
training: {rounds: 3, batch_size: 4, learning_rate: 0.01}
evaluation: {every: 0, minimum_subjects: 3}
compute: {threads: 1}
"""


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def medfl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Outcome]:
    """Call the command line as `medfl ARGUMENTS` would, with a cache of its own."""
    monkeypatch.setenv("MEDFL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MEDFL_DEBUG", raising=False)

    def call(*arguments: str | Path) -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "argv", ["medfl", *map(str, arguments)])
        code = 0
        with redirect_stdout(out), redirect_stderr(err):
            try:
                main()
            except SystemExit as stop:
                code = int(stop.code or 0)
        return Outcome(code, out.getvalue(), err.getvalue())

    return call


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path

# One virtual environment, made on first use. Needs Python 3.11 with pip, and make; nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed.stamp

.PHONY: help setup demo test fast lint types layers wheels benchmarks clean

help:
	@echo "make demo        set up, then train on made-up patients of three hospitals"
	@echo "make test        set up, then all checks and all tests"
	@echo "make fast        the tests that take under three minutes together"
	@echo "make lint types layers    style, static types, import directions"
	@echo "make wheels      what a site container is built from"
	@echo "make benchmarks  every claim of the README, measured anew (hours)"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/medfl demo

test: lint types layers
	$(BIN)/python -m pytest

fast: setup
	$(BIN)/python -m pytest -m "not slow"

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: setup
	$(BIN)/mypy

layers: setup
	$(BIN)/lint-imports

# Everything that a site container holds, for app/site/container/Dockerfile.
wheels: setup
	rm -rf build/container && mkdir -p build/container
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --constraint constraints.txt \
		--wheel-dir build/container/wheels '.[backbones]'

benchmarks: setup
	mkdir -p runs/benchmarks
	for script in benchmarks/[a-z]*.py; do \
		$(BIN)/python $$script --out runs/benchmarks/$$(basename $$script .py).json || exit 1; done

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

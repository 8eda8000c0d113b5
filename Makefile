# Everything below needs only Python and make: each target sets itself up in $(VENV), once.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-all lint bench interop package soak clean

demo: $(INSTALLED)
	$(BIN)/imds-identity demo

test: lint
	$(BIN)/python -m pytest -n 4  # they wait more than they compute

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-all:
	./tests/test_all.sh

bench: $(INSTALLED)
	$(BIN)/python tests/benchmarks/run.py

# Every fault at once, for ten minutes; SOAK_SECONDS=60 for less.
soak: $(INSTALLED)
	PYTHONPATH=tests $(BIN)/python -m soak

interop: $(INSTALLED)
	./tests/interop/setup.sh $(BIN)/python
	$(BIN)/python -m pytest -m interop tests/interop

# Builds dist/, and checks what is in it as its users will meet it.
package: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --requirement tests/package/requirements.txt
	$(BIN)/python -m pytest -m package tests/package

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf dist .soak .venv .venv-* .mypy_cache .pytest_cache .ruff_cache

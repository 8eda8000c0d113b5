# Everything below needs only Python and make: each target sets itself up in $(VENV), once.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-all test-windows lint bench pictures fleet interop package soak docs docs-serve clean

demo: $(INSTALLED)
	$(BIN)/imds-identity demo

test: lint
	$(BIN)/python -m pytest -n 4  # they wait more than they compute

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# On every Python, with the GIL and without; those that are missing are made from Debian's packages.
test-all:
	./tests/test_all.sh

# PLOT=1 for the picture, the figures and the table of README, and for where the time goes.
bench: $(INSTALLED)
	$(BIN)/python tests/benchmarks/run.py $(if $(PLOT),--plot docs/images --table README.md)
	$(BIN)/python tests/benchmarks/where.py $(if $(PLOT),docs/performance.md)

# The recorded terminal and the emulator's page, in docs/images; the latter takes Chromium.
pictures: $(INSTALLED)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python docs/pictures/terminal.py docs/images/demo.svg 'imds-identity demo'
	$(BIN)/python docs/pictures/emulator_page.py docs/images

# The simulation of docs/fleet.md, its tables and its pictures.
fleet: $(INSTALLED)
	$(BIN)/python -m pip install --quiet 'matplotlib>=3.9'
	$(BIN)/python docs/fleet.py --write --plot docs/images

# On a CPython for Windows under wine, which is installed where that can be.
test-windows: $(INSTALLED)
	./tests/windows/run.sh $(BIN)/python

# Every fault at once, for ten minutes; SOAK_SECONDS=60 for less.
soak: $(INSTALLED)
	PYTHONPATH=tests $(BIN)/python -m soak

interop: $(INSTALLED)
	./tests/interop/setup.sh $(BIN)/python
	$(BIN)/python -m pytest -m interop tests/interop

# The site, in site/; whatever is wrong with a link or a docstring ends it.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	$(BIN)/python -m pytest -n 4 -m docs tests/integration

docs-serve: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve --dev-addr 127.0.0.1:8000 --watch src --watch examples

$(VENV)/.docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

# Builds dist/, and checks what is in it as its users will meet it.
package: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --requirement tests/package/requirements.txt
	$(BIN)/python -m pytest -m package tests/package

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf dist site .soak .windows .venv .venv-* .mypy_cache .pytest_cache .ruff_cache

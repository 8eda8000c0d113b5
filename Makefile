# These targets need only Python and make. The first one that runs creates the environment in $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-all test-windows lint bench pictures fleet interop package soak docs docs-serve clean

demo: $(INSTALLED)
	$(BIN)/imds-identity demo

test: lint
	$(BIN)/python -m pytest -n 4  # more than the cores: the tests mostly wait

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Run the tests on every Python, with and without the GIL. Builds missing versions from Debian packages.
test-all:
	./tests/test_all.sh

# PLOT=1 updates the table of README, and the picture and the breakdown of docs/performance.md.
bench: $(INSTALLED)
	$(BIN)/python tests/benchmarks/run.py $(if $(PLOT),--plot docs/images --table README.md)
	$(BIN)/python tests/benchmarks/time_breakdown.py $(if $(PLOT),docs/performance.md)

# Update the recorded terminal session and the screenshots of the emulator's admin page in docs/images.
# The screenshots need Chromium.
pictures: $(INSTALLED)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python docs/pictures/terminal.py docs/images/demo.svg 'imds-identity demo'
	$(BIN)/python docs/pictures/emulator_page.py docs/images

# Run the simulation of docs/fleet.md; update its tables and pictures.
fleet: $(INSTALLED)
	$(BIN)/python -m pip install --quiet 'matplotlib>=3.9'
	$(BIN)/python docs/fleet.py --write --plot docs/images

# Run the tests with CPython for Windows under wine. Installs wine where possible.
test-windows: $(INSTALLED)
	./tests/windows/run.sh $(BIN)/python

# Inject all faults at once for ten minutes; SOAK_SECONDS=60 shortens that.
soak: $(INSTALLED)
	PYTHONPATH=tests $(BIN)/python -m soak

interop: $(INSTALLED)
	./tests/interop/setup.sh $(BIN)/python
	$(BIN)/python -m pytest -m interop tests/interop

# Build the site in site/. A broken link or an invalid docstring fails the build.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	$(BIN)/python -m pytest -n 4 -m docs tests/integration

docs-serve: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve --dev-addr 127.0.0.1:8000 --watch src --watch examples

$(VENV)/.docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

# Build dist/ and test the packages as users install them.
package: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --requirement tests/package/requirements.txt
	$(BIN)/python -m pytest -m package tests/package

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf dist site .soak .windows .venv .venv-* .mypy_cache .pytest_cache .ruff_cache

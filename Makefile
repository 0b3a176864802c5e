# A fresh machine needs Python 3.11 and a C++ compiler. Everything goes to one environment, .venv, in three layers; a stamp
# per layer makes the next call quick.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
WORKERS ?= 2
PYTEST_ARGS ?=

# node comes with pyright's own dependency from PyPI, never from the machine or from elsewhere.
export PYRIGHT_PYTHON_GLOBAL_NODE := off
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.PHONY: venv demo test test-slow coverage lint format types clean
.DEFAULT_GOAL := venv
# Two pips in one environment spoil it, and the layers share one.
.NOTPARALLEL:

venv: $(VENV)/.runtime

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml | $(BIN)/python
	$(PIP) '$(TORCH)'
	$(PIP) --editable '.[hf]'
	touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(PIP) --editable '.[dev]'
	touch $@

$(VENV)/.test: $(VENV)/.runtime
	$(PIP) --editable '.[test]'
	$(PIP) --no-deps 'ultralytics>=8.4,<8.5' 'ultralytics-thop>=2.2.3,<3'
	touch $@

demo: $(VENV)/.runtime
	$(BIN)/python examples/demo.py

test: $(VENV)/.test
	$(BIN)/python -m pytest -m 'not slow' -n $(WORKERS) $(PYTEST_ARGS)

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -m slow -n $(WORKERS) $(PYTEST_ARGS)

# Runs every conformance suite (an hour on two cores) and writes docs/coverage.md.
coverage: $(VENV)/.test
	$(BIN)/python -m tests.conformance.coverage

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev $(VENV)/.test
	$(BIN)/pyright --pythonpath $(BIN)/python

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache

# Everything needs only Python 3.11 or later, pip and make. The first call installs (minutes); later calls do not.

PYTHON ?= python3
STORAGE ?= results
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt

.PHONY: sweep figures test test-slow test-cluster lint constraints clean
.DEFAULT_GOAL := help

help:
	@echo "make sweep      run the default study, or go on with it; the report is below $(STORAGE)/report"
	@echo "make test       the tests, about eight minutes once installed"
	@echo "make test-slow  the tests that take minutes"
	@echo "make test-cluster  several machines, made of network namespaces, which die, join and come on demand (16 minutes, root)"
	@echo "make figures    the pictures of README.md, from the default study's results"
	@echo "make lint       ruff and mypy"

sweep: .venv/installed
	$(BIN)/python jobs/scaling_sweep.py --storage $(STORAGE)

test: .venv/installed-dev
	$(BIN)/python -m pytest

test-slow: .venv/installed-dev
	$(BIN)/python -m pytest -m slow

NODES ?= tests/cluster/nodes

test-cluster: .venv/installed-dev
	$(BIN)/python -m pytest -m nodes --durations=20 $(NODES)

figures: .venv/installed
	$(BIN)/python docs/figures.py $(STORAGE)

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Debian's python3 may lack ensurepip; virtualenv brings its own.
.venv/bin/python:
	$(PYTHON) -m venv .venv 2>/dev/null || { \
	  rm -rf .venv && $(PYTHON) -m pip install --quiet --target .virtualenv virtualenv && \
	  PYTHONPATH=.virtualenv $(PYTHON) -m virtualenv --quiet .venv && rm -rf .virtualenv; }

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing into .venv; this takes some minutes the first time"
	$(INSTALL) --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(INSTALL) --editable '.[dev]'
	@touch $@

constraints: .venv/installed-dev
	{ head -1 constraints.txt; $(PIP) freeze --exclude-editable | sed 's/+cpu//'; } > constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf .venv .virtualenv

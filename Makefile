# lambdakernel: `make help` lists what there is. Everything is installed into .venv; nothing outside is touched, but for
# `make test` as root, which adds the system's packages that the tests use (Chromium, Redis) where they are missing.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONPATH PYTHONHOME

# The Python that makes .venv: say PYTHON=..., else the first on PATH that is 3.11 or later and can make one.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$p" && break; done)

# A stamp says what is installed; it is remade when what it was made from changes.
SOURCES := pyproject.toml hatch_build.py $(wildcard lambdakernel/state/_graph*.[ch]) $(wildcard kernelspec/*)
# As an installer does for a package that is not editable: else each kernel compiles it, where nothing may write bytecode.
COMPILE := $(BIN)/python -m compileall -q -j 0 lambdakernel kvs
ROOT_FLAG := $(shell [ "$$(id -u)" = 0 ] && echo --allow-root)
LAB_ARGS ?=
TEST_ARGS ?=

.PHONY: help lab test check format bench clean

help:  ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F'\t' '{printf "  make %-8s %s\n", $$1, $$2}'

lab: $(VENV)/.installed-lab  ## open JupyterLab on the tour (LAB_ARGS="--no-browser" passes arguments on)
	jupyter lab $(ROOT_FLAG) $(LAB_ARGS) notebooks/01_tour.ipynb

test: $(VENV)/.installed-test  ## run ruff, mypy and all tests (TEST_ARGS="tests/kvs -x" runs some)
	python scripts/run_tests.py $(TEST_ARGS)

check: $(VENV)/.installed-test  ## run ruff and mypy
	python scripts/run_tests.py --only-checks

format: $(VENV)/.installed-test  ## format the code
	ruff format .
	ruff check --fix .

bench: $(VENV)/.installed-test  ## run every benchmark; each prints its own baseline beside it
	@found=0; for file in benchmarks/[a-z]*.py; do [ -e "$$file" ] || continue; \
	found=1; echo "== $$file"; python "$$file"; done; \
	[ $$found = 1 ] || echo "benchmarks/ holds none yet"

clean:  ## remove .venv and everything that was built, but no notebook and no stored variable
	rm -rf $(VENV) build dist tests/artifacts .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info lambdakernel/state/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@[ -n "$(PYTHON)" ] || { echo "No Python 3.11 or later with venv is on PATH. Install one (Debian, Ubuntu:" \
	"apt-get install python3 python3-venv), or say which: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# Editable, so that a change of the code needs no new installation. The wheel places the kernelspec in .venv.
$(VENV)/.installed-lab: $(VENV)/.made $(SOURCES)
	$(BIN)/python -m pip install --quiet -e '.[lab]'
	@$(COMPILE)
	@touch $@

$(VENV)/.installed-test: $(VENV)/.made $(SOURCES)
	$(BIN)/python -m pip install --quiet -e '.[test]'
	@touch $@ $(VENV)/.installed-lab

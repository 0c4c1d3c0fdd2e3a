# Needs only make and Python >= 3.11. Everything is installed into .venv, which is reused.
#   make quickstart     set up, then run `demask quickstart`      make test      set up, then run all tests
#   make check          all static checks                          make format    let ruff rewrite the code
#   make oldest         tests but the slow ones, with the oldest torch and transformers that are supported
#   make perf           measure speed and memory, say what moved against perf/recorded.json (half an hour)
# PYTHON=python3.12 chooses the interpreter; ARGS="..." is handed on to `demask quickstart` or pytest.

PYTHON ?= python3
# Of pytest; each needs up to 6 GB.
WORKERS ?= 2
TORCH_VERSION := $(shell sed -n 's/^torch==//p' constraints.txt)
TORCH_CONSTRAINTS := -c constraints.txt
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

BIN := .venv/bin
# Modules are compiled afterwards, on all cores, which pip would do on one, for two fifths of its time.
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile
COMPILE := $(BIN)/python -m compileall -qq -j 0 .venv/lib || true # some are templates, and no Python
USE := .venv/.demask-installed
DEV := .venv/.demask-dev-installed
PERF := .venv/.demask-perf-installed

.DEFAULT_GOAL := help
.PHONY: help installed quickstart test oldest oldest-torch check perf format clean

help:
	@sed -n 's/^#   /  /p; s/^# PYTHON/  PYTHON/p' Makefile

quickstart: $(USE)
	@$(BIN)/demask quickstart $(ARGS)

installed: $(DEV)

test: $(DEV)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist=loadfile --no-loadscope-reorder $(ARGS)

# What pyproject.toml names as the lower bound, in an environment of its own; everything else is the newest.
oldest: TORCH_VERSION := $(shell sed -n 's/^ *"torch>=\([0-9.]*\)".*/\1.0/p' pyproject.toml)
oldest: TRANSFORMERS_VERSION := $(shell sed -n 's/^ *"transformers>=\([0-9.]*\),.*/\1.0/p' pyproject.toml)
oldest:
	@$(PYTHON) -m venv .venv-oldest
	@$(MAKE) --no-print-directory oldest-torch BIN=.venv-oldest/bin TORCH_VERSION=$(TORCH_VERSION) TORCH_CONSTRAINTS=
	@.venv-oldest/bin/python -m pip install -qq --disable-pip-version-check \
	    "torch==$(TORCH_VERSION)" "transformers==$(TRANSFORMERS_VERSION)" -e '.[dev]'
	@.venv-oldest/bin/python -m pytest -n $(WORKERS) --dist=loadfile --no-loadscope-reorder -m "not slow" $(ARGS)

oldest-torch:
	$(install_torch)

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_sizes.py
	$(BIN)/python scripts/check_words.py

perf: $(PERF)
	@$(BIN)/python perf/guard.py $(ARGS)

format: $(DEV)
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .

clean:
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find src tests scripts perf -name __pycache__ -type d -prune -exec rm -rf {} +
	find src tests scripts perf -type d -empty -delete # left behind by renames

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; \
	v >= (3, 11) or sys.exit("demask needs Python 3.11 or newer, $(PYTHON) is %d.%d; try PYTHON=python3.12" % v[:2])'
	@echo "Making .venv with $(PYTHON) ..."
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "On Debian and Ubuntu: apt install python3-venv"; exit 1; }

# The wheel of PyTorch that pip takes by default on Linux brings several GB of CUDA libraries, which a
# machine without an NVIDIA GPU does not need. There we ask for the version `+cpu` by name: first from
# pip's own sources, which may have it (PyPI never does, and says so at once), then from PyTorch's own
# index. A PyTorch of the right version that is already in .venv, of whatever build, is left alone.
define install_torch
	@if $(BIN)/python -c 'import sys, importlib.metadata as m; \
	    sys.exit(m.version("torch").split("+")[0] != "$(TORCH_VERSION)")' 2>/dev/null; then :; \
	elif [ "$$(uname -s)" = Linux ] && ! nvidia-smi -L >/dev/null 2>&1; then \
	    echo "Installing PyTorch $(TORCH_VERSION) for CPU, about 200 MB ..."; \
	    $(PIP) --no-deps "torch==$(TORCH_VERSION)+cpu" 2>/dev/null \
	    || $(PIP) --no-deps --index-url $(TORCH_CPU_INDEX) "torch==$(TORCH_VERSION)+cpu" \
	    || { echo "No CPU build found; for the default one (several GB): $(BIN)/pip install torch==$(TORCH_VERSION)"; \
	         exit 1; }; \
	else \
	    echo "Installing PyTorch $(TORCH_VERSION); with CUDA this is several GB ..."; \
	    $(PIP) $(TORCH_CONSTRAINTS) "torch==$(TORCH_VERSION)"; \
	fi
endef

$(USE): pyproject.toml constraints.txt | $(BIN)/python
	$(install_torch)
	@echo "Installing demask and what it needs, a minute or two ..."
	@$(PIP) -c constraints.txt -e .
	@$(COMPILE)
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	$(install_torch)
	@echo "Installing demask, what it needs and the tools to check it, a minute or two ..."
	@$(PIP) -c constraints.txt -e '.[dev]'
	@$(COMPILE)
	@touch $@ $(USE)

$(PERF): pyproject.toml constraints.txt | $(BIN)/python
	$(install_torch)
	@echo "Installing demask and what it is measured against, a minute or two ..."
	@$(PIP) -c constraints.txt -e '.[perf]'
	@$(COMPILE)
	@touch $@ $(USE)

# make demo   sets up everything and shows the main job with real output
# make test   sets up and passes the tests (lint, types, layers, tests)
# Needs Python 3.11 or newer, git and make; uv is used when it is there.

PYTHON ?= python3
BIN := .venv/bin
UV := $(shell command -v uv 2>/dev/null)
LOCK := requirements.lock

ifdef UV
VENV = $(UV) venv -q --allow-existing --python $(PYTHON) .venv
INSTALL = $(UV) pip install -q --python $(BIN)/python -c $(LOCK)
else
VENV = $(PYTHON) -m venv .venv
INSTALL = $(BIN)/python -m pip install -q --disable-pip-version-check -c $(LOCK)
endif

.PHONY: demo test check fix integration bench lock clean

demo: .venv/.demo
	$(BIN)/inferd demo $(ARGS)

test: check

check: .venv/.dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest -n 2 --dist loadfile

fix: .venv/.dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

integration: .venv/.dev
	bash integration/run $(ARGS)

bench: .venv/.dev
	$(BIN)/python -m benchmarks

lock:
	$(PYTHON) tools/lock.py

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache

.venv/.created:
	$(VENV)
	@touch $@

.venv/.demo: .venv/.created pyproject.toml $(LOCK)
	$(INSTALL) -e '.[demo]'
	@touch $@

.venv/.dev: .venv/.created pyproject.toml $(LOCK)
	$(INSTALL) -e '.[demo,dev]'
	@touch $@

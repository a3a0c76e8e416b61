# The whole life of a checkout. Needs Python 3.11 or newer and make; everything else is fetched into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := orchestrator tests topologies benchmarks docs
WORKERS ?= 3

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo check lint format-check types layers test coverage test-unprivileged redis gnuplot faults bench docs format clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(READY) ## Create .venv with orch and the tools (only when pyproject.toml changed)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "cannot set up: $(PYTHON) is older than Python 3.11; use make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

demo: $(READY) ## Run the example exchange: replay a market, match orders, print the result
	@$(BIN)/orch -f topologies/exchange.yaml up
	@echo "The result is in topologies/exchange/result.json and begins:"
	@head -n 12 topologies/exchange/result.json

check: lint format-check types layers test ## Everything that CI runs

lint: $(READY) ## Look for mistakes with ruff and codespell
	@$(BIN)/ruff check .
	@$(BIN)/codespell

format-check: $(READY) ## Tell whether the format is ours
	@$(BIN)/ruff format --check .

types: $(READY) ## Check the types with mypy, strict
	@$(BIN)/mypy

layers: $(READY) ## Check who may import whom
	@$(BIN)/lint-imports --no-logo

test: $(READY) redis gnuplot ## Run every test; root: as a user, and what concerns root
	@$(BIN)/python tests/users.py all -n $(WORKERS)

coverage: $(READY) redis gnuplot ## Run every test and measure what of the code they reach: half as long again
	@ORCH_COVERAGE=1 $(BIN)/python tests/users.py all -n $(WORKERS)

# A real server for the tests of kept states; without one they are skipped, and say so.
redis:
	@command -v redis-server >/dev/null || { test "$$(id -u)" = 0 && apt-get install -qq -y redis-server >/dev/null 2>&1; } \
		|| echo "redis-server is not installed and cannot be: tests that need it are skipped" >&2

# What the example lab fits and draws with.
gnuplot:
	@command -v gnuplot >/dev/null || { test "$$(id -u)" = 0 && apt-get install -qq -y --no-install-recommends gnuplot-nox >/dev/null 2>&1; } \
		|| echo "gnuplot is not installed and cannot be: tests that need it are skipped" >&2

faults: $(READY) ## Play long games of random deaths (ORCH_SEED, ORCH_STEPS), and the soak
	@$(BIN)/python -m pytest -q -m nightly -n $(WORKERS) tests/faults

test-unprivileged: $(READY) ## As root: run every test as a user without privileges (ORCH_TEST_USER)
	@$(BIN)/python tests/users.py user -n $(WORKERS)

bench: $(READY) ## Measure: ratios and limits
	@$(BIN)/python benchmarks/validate_1000.py
	@$(BIN)/python benchmarks/supervision.py
	@$(BIN)/python benchmarks/jobs.py

docs: $(READY) ## Write the generated reference pages anew
	@$(BIN)/python docs/generate.py

format: $(READY) ## Format the code
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

clean: ## Remove what was built here
	@rm -rf $(VENV) build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Every target sets up what it needs: a virtual environment, with the extensions compiled.
# A Python from 3.11 up (PYTHON=/path/to/python to choose one), a C compiler and make will do.

PYTHON ?= $(word 2,$(shell sh ci/pythons.sh))
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
READY := $(VENV)/.ready
BUILT_FROM := pyproject.toml setup.py $(shell find src \
	-name '*.pyx' -o -name '*.pxd' -o -name messages.py)

.DEFAULT_GOAL := help
.PHONY: help demo test test-all faults servers wheels lint format bench bench-report bench-peers \
	instructions clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(READY) ## an embedded PostgreSQL, a workload, its changes on the screen
	@$(BIN)/pgstream demo $(ARGS)

test: $(READY) ## the tests (ARGS='-k console' for some of them)
	@$(BIN)/python -m pytest $(ARGS)

test-all: ## the tests on every CPython from 3.11 up that is here
	@sh ci/pythons.sh | { \
		found=false; \
		while read -r version python; do \
			found=true; \
			echo "== CPython $$version: $$python"; \
			$(MAKE) --no-print-directory test PYTHON="$$python" VENV=".venv-$$version" \
				ARGS='$(ARGS)' </dev/null || exit 1; \
		done; \
		$$found || { echo "No Python 3.11 or newer was found." >&2; exit 1; }; }

faults: $(READY) ## each fault, many rounds (ten minutes); writes docs/faults.md
	@PGSTREAM_FAULT_ROUNDS=$${PGSTREAM_FAULT_ROUNDS:-60} PGSTREAM_FAULT_REPORT=docs/faults.md \
		$(BIN)/python -m pytest tests/faults/test_scenarios.py -v -rA --capture=tee-sys $(ARGS)

servers: $(READY) ## fetch PostgreSQL 14 to 18 for the tests, and start each once
	@$(BIN)/python tests/servers.py

wheels: $(READY) ## the sdist, and a wheel for each CPython from 3.11 up that is here, in dist/
	@rm -rf dist
	@VENV=$(VENV) bash ci/wheels.sh dist $$(sh ci/pythons.sh | cut -d ' ' -f 2-)
	@ls dist

lint: $(READY) ## style, formatting, types, and the stubs of the compiled modules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m mypy.stubtest --mypy-config-file pyproject.toml --ignore-missing-stub \
		--allowlist ci/stubtest.txt pgstream._decode pgstream.types._loaders

format: $(READY) ## put the formatting right
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(READY) ## the short comparison, in a few minutes: decoding, JSON Lines, live
	@$(BIN)/python benchmarks/report.py --short $(ARGS)

bench-report: $(READY) ## all benchmarks, for half an hour; writes docs/benchmarks.md and its plots
	@$(BIN)/python benchmarks/report.py $(ARGS)

bench-peers: $(READY) ## what else pip can install, on the same streams
	@$(BIN)/python benchmarks/bench_peers.py $(ARGS)

instructions: $(READY) ## instructions for each message, against their bounds; needs valgrind
	@$(BIN)/python benchmarks/instructions.py $(ARGS)

clean: ## remove everything that was made here
	rm -rf .venv .venv-* build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find src -name '*.so' -delete
	rm -rf src/*.egg-info

$(READY): $(BUILT_FROM)
	@test -n "$(PYTHON)" || { \
		echo "No Python 3.11 or newer with venv and pip was found." >&2; \
		echo "Install one (on Debian: python3-venv), or name it: make PYTHON=/path/to/python3" >&2; \
		exit 1; }
	@echo "Setting up $(VENV)" >&2
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	@PGSTREAM_REQUIRE_EXT=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--editable '.[dev]'
	@touch $@

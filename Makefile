# The commands to remember: make run · make test · make check.  `make help` lists all.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Empty: keep .venv as it is, or make it with the first of python3.11 to python3.14 that is found.
PYTHON ?=
BIN := .venv/bin
CODE := claude_pool workers mcp_server tests scripts $(wildcard benchmarks examples)
ARGS ?=
TESTS ?= tests
# Compiled files halve the daily loop; below .venv, so that they also may be where the tree is to be kept free of them.
COMPILED := PYTHONDONTWRITEBYTECODE= PYTHONPYCACHEPREFIX="$(CURDIR)/.venv/pycache"
SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
# Two processes suit two cores; a whole file stays in one, so that its module's servers are started once.
WORKERS ?= -n 2 --dist loadfile

.PHONY: help setup run test check format bench chaos up down lock clean

help: ## list the commands
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

setup: ## make .venv: locked dependencies, this project, and what else the machine lacks
	@scripts/setup "$(PYTHON)"

run: setup ## the demonstration: a pool of two slots does real work (ARGS="--simulated")
	@$(BIN)/claude-pool demo $(ARGS)

test: setup ## everything: static checks, then the whole test suite (TESTS=path, ARGS="-k name")
	@$(MAKE) --no-print-directory -k -j2 $(SYNC) static
	@$(COMPILED) $(BIN)/pytest $(WORKERS) $(TESTS) $(ARGS)

check: setup ## the daily loop: format, lint, types, import contracts, unit tests; what may have changed (ARGS=--all: all)
	@$(MAKE) --no-print-directory -k -j2 $(SYNC) check-types check-unit check-style check-imports

format: setup ## put the code into its one format and mend what can be mended
	@$(BIN)/ruff format $(CODE)
	@$(BIN)/ruff check --fix $(CODE)

bench: setup ## measure everything beside its floor: table, JSON, plots (ARGS=--quick, or names)
	@$(BIN)/python benchmarks/run.py $(ARGS)

chaos: setup ## kill, stop and cut things at random; prints figures (ARGS=all, or names: "trees drain")
	@$(BIN)/python tests/chaos/figures.py $(ARGS)

up: setup ## start a pool on this machine that stays
	@$(BIN)/claude-pool up --detach $(ARGS)

down: setup ## stop it
	@$(BIN)/claude-pool down $(ARGS)

lock: setup ## choose dependency versions anew and write requirements.lock
	@scripts/lock $(ARGS)

clean: ## remove what can be made again
	@rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# Each says one line when all is well, and everything when it is not.
.PHONY: static check-types check-unit check-style check-imports
static: check-types check-style check-imports

check-types:
	@$(COMPILED) $(BIN)/python scripts/check_types.py

check-unit:
	@$(COMPILED) $(BIN)/python scripts/check_unit.py $(WORKERS) $(ARGS)

check-style:
	@$(BIN)/ruff format --check -q $(CODE) || { echo "format: run make format"; exit 1; }
	@$(BIN)/ruff check -q $(CODE) && echo "format and lint: ok"

check-imports:
	@told=$$($(COMPILED) $(BIN)/lint-imports) && echo "imports: ok" || { echo "$$told"; exit 1; }

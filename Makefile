# Every target sets up what it needs; the second run of each starts at once.
# PYTHON=/path/to/python3.12 make ... chooses the interpreter.
SHELL := /bin/bash
VENV  := .venv
BIN   := $(VENV)/bin
RUN_STAMP := $(VENV)/.run-$(shell cat requirements.lock pyproject.toml | sha256sum | cut -c1-12)
DEV_STAMP := $(VENV)/.dev-$(shell cat requirements-dev.lock pyproject.toml | sha256sum | cut -c1-12)

# flake8-async: names of startable functions are not listed twice (114), an interface decides what is
# async (124), a checkpoint in each function costs time on the hot path (9xx), the owner chose httpx (127).
LOOSE := ASYNC114,ASYNC124,ASYNC127,ASYNC900,ASYNC910,ASYNC911,ASYNC912,ASYNC913
# In tests: a peer's state that only asking tells (110), worlds that end before their nursery on purpose
# (111, 113), a task_status that is handed on (128).
LOOSE_IN_TESTS := ASYNC110,ASYNC111,ASYNC113,ASYNC128

# flake8-async takes minutes, one file after the other.
BY_TWO := xargs -n 40 -P 2

.PHONY: help run venv dev test lint types coverage prove soak bench bench-peers lock install uninstall deb clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(RUN_STAMP):
	@.ci/venv requirements.lock $(VENV)
	@touch $@

$(DEV_STAMP): $(RUN_STAMP)
	@.ci/venv requirements-dev.lock $(VENV)
	@touch $@

venv: $(RUN_STAMP) ## what the hub needs, in .venv

dev: $(DEV_STAMP) ## what its tests need, in .venv and on the machine
	@.ci/machine

run: $(RUN_STAMP) ## start the hub on 127.0.0.1:8088 with the shipped config.toml
	@exec $(BIN)/apexbridge serve --config config.toml

# Most tests wait for processes, so two at a time take little more than half the time; JOBS=0: one by one, in this process.
JOBS := 2
test: dev ## the whole suite
	@$(BIN)/python -m coverage erase
	@$(BIN)/python -m coverage run -m pytest -n $(JOBS) --dist worksteal $(ARGS)

lint: dev ## ruff and flake8-async
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@git ls-files 'apexbridge_trio/*.py' 'plugins/*.py' 'benchmarks/*.py' | $(BY_TWO) $(BIN)/flake8-async --disable $(LOOSE)
	@git ls-files 'tests/*.py' | $(BY_TWO) $(BIN)/flake8-async --disable $(LOOSE),$(LOOSE_IN_TESTS)

types: dev ## mypy, strict
	@$(BIN)/mypy apexbridge_trio tests

coverage: dev ## what `make test` reached; fails below the floor of each room
	@$(BIN)/python .ci/floors.py

prove: dev ## the long proofs, with their figures (minutes)
	@$(BIN)/python -m pytest -m prove $(ARGS)

soak: dev ## hours of mixed load; SOAK_MINUTES=60
	@$(BIN)/python -m pytest -m soak $(ARGS)

bench: dev ## figures side by side in one run; writes benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks $(ARGS)

bench-peers: dev ## install the gateways that `make bench` compares with
	@.ci/peers

lock: ## pin the dependencies of pyproject.toml anew
	@.ci/lock

install: $(RUN_STAMP) ## the hub as a service of this machine (PREFIX=/usr/local, DESTDIR)
	@packaging/install

uninstall: ## remove what install has put there; config and state too with PURGE=1
	@packaging/uninstall

deb: $(RUN_STAMP) ## a Debian package, in build/
	@packaging/deb

clean: ## remove what the targets made
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist

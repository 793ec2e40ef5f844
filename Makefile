# Every target sets up what it needs. PYTHON must be 3.11 or newer. ARGS goes to the program that the target runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LITELLM := .venvs/litellm/.ready

.PHONY: run test histories e2e e2e-all lint bench format generated clean help
.DEFAULT_GOAL := help

help: ## show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "agentmemory needs Python 3.11 or newer; name one with PYTHON=..."; exit 1; }
	@echo "setting up $(VENV) (a minute or two, the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

run: $(READY) ## a conversation that survives kills, then a sidecar that keeps serving (ARGS=--once ends it there)
	@$(BIN)/python -m examples.demo $(if $(ONCE),--once) $(ARGS)

test: $(READY) ## all tests against real stores and real clients (ARGS for pytest)
	@bash tests/prepare
	@. .venvs/tests.env && $(BIN)/python -m pytest -n auto --dist loadgroup $(ARGS)

histories: $(READY) ## random histories in several regions (HISTORIES=n: how many, SEED=n: that one, STORES=real: on servers)
	@$(BIN)/python -m tests.histories $(if $(SEED),--seed $(SEED),--count $(or $(HISTORIES),$(if $(STORES),200,10000))) \
		$(if $(STORES),--$(STORES)) $(ARGS)

lint: $(READY) ## ruff, mypy, import contracts, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m agentmemory_sidecar.resource.docs --check
	$(BIN)/python -m agentmemory_operator.crd --check
	$(BIN)/python -m agentmemory_operator.chart --check

format: $(READY) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generated: $(READY) ## write generated files anew
	$(BIN)/python -m agentmemory_sidecar.resource.docs
	$(BIN)/python -m agentmemory_operator.crd
	$(BIN)/python -m agentmemory_operator.chart

e2e: $(READY) ## one drill a feature on a kind cluster (KEEP=1 keeps it)
	@bash e2e/run $(ARGS)

e2e-all: $(READY) ## every drill; goes on where it stopped (build/e2e/passed)
	@ALL=1 KEEP=1 bash e2e/run $(ARGS)

bench: $(READY) $(LITELLM) ## the sidecar beside a bare pass-through and LiteLLM's proxy (ARGS=--quick: without LiteLLM)
	$(BIN)/python -m bench.proxy $(ARGS)

$(LITELLM): bench/requirements/litellm.txt
	@echo "setting up $(@D)"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

clean: ## remove environments, caches and the demo's data
	rm -rf .venv .venvs .agentmemory build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

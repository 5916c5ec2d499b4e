# Every target sets up what it needs by itself, from uv.lock into .venv. `make` lists the targets.

BIN := .venv/bin
STAMP := .venv/.installed
WORKERS ?= 2
CHROMIUM := $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
SEPARATE_TESTS := real_clients or long$(if $(CHROMIUM),, or browser)
CHECKS := lint types imports docstrings definitions test
INDEX_VARIABLES := UV_INDEX UV_INDEX_URL UV_DEFAULT_INDEX UV_EXTRA_INDEX_URL UV_FIND_LINKS \
	PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS

# Nothing that a target starts reports home.
export DAGSTER_DISABLE_TELEMETRY := yes
export DBT_SEND_ANONYMOUS_USAGE_STATS := false

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo dbt-docs test check list-checks $(CHECKS) format lock clean \
	test-real-clients test-browser test-long reliability benchmark benchmark-marketing \
	benchmark-write-back

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-21s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## Install everything into .venv (PYTHON=/path chooses the Python)

$(STAMP): uv.lock pyproject.toml scripts/setup.sh scripts/uv-requirements.txt
	PYTHON="$(PYTHON)" sh scripts/setup.sh

demo: $(STAMP) ## Run everything against the sandbox org, Ctrl-C ends it (ONCE=1: one round, then stop)
	exec $(BIN)/crm-pipeline demo$(if $(ONCE), --once)

dbt-docs: $(STAMP) ## Write the models' documentation as one page of HTML (TO=folder)
	$(BIN)/crm-pipeline docs$(if $(TO), --to $(TO))

test: $(STAMP) ## Run the tests that need nothing but this checkout (WORKERS=2)
	$(BIN)/pytest -n $(WORKERS) -m "not ($(SEPARATE_TESTS))"

check: $(CHECKS) ## Run every check that a change must pass, the tests last

list-checks:
	@echo $(CHECKS)

lint: $(STAMP) ## Check format and style
	$(BIN)/ruff format --check
	$(BIN)/ruff check

types: $(STAMP) ## Check the types
	$(BIN)/mypy

imports: $(STAMP) ## Check which room imports which
	$(BIN)/lint-imports

docstrings: $(STAMP) ## Check that every public thing is explained
	$(BIN)/interrogate --quiet crm_pipeline

definitions: $(STAMP) ## Check that Dagster can load the definitions
	if test -f workspace.yaml; then $(BIN)/dg check defs; fi
	if test -f workspace.yaml; then $(BIN)/dagster definitions validate -w workspace.yaml; fi

format: $(STAMP) ## Format the code and mend what can be mended
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

test-real-clients: $(STAMP) ## Let jsforce and a Singer tap read the sandbox org (fetches both)
	$(BIN)/pytest -m real_clients

test-browser: $(STAMP) ## Drive the Dagster UI with a real browser (needs Chromium)
	$(if $(CHROMIUM),,@echo "Chromium is not on PATH. Install it, then run this again." >&2; exit 1)
	$(BIN)/pytest -m browser

test-long: $(STAMP) ## Run the tests that take minutes
	$(BIN)/pytest -m long --timeout 3600

reliability: $(STAMP) ## Prove the promises and print the figures (LONG=1: about an hour)
	$(BIN)/python -m crm_pipeline_tests.reliability --write $(if $(LONG),--long) $(if $(SEED),--seed $(SEED))

benchmark: $(STAMP) ## Measure the speed (RECORDS=1000000, LARGE=1: 10 million, PROFILE=1, WRITE=1)
	$(BIN)/python benchmarks/sync_speed.py $(if $(RECORDS),--records $(RECORDS)) \
		$(if $(LARGE),--large) $(if $(PROFILE),--profile) $(if $(WRITE),--write)

benchmark-marketing: $(STAMP) ## Measure events and models (PEOPLE=1000000, EVENTS=10000000, WRITE=1)
	$(BIN)/python benchmarks/marketing_speed.py $(if $(PEOPLE),--people $(PEOPLE)) \
		$(if $(EVENTS),--events $(EVENTS)) $(if $(WRITE),--write)

benchmark-write-back: $(STAMP) ## Measure writing to the CRM (RECORDS=100000, WRITE=1)
	$(BIN)/python benchmarks/write_back_speed.py $(if $(RECORDS),--records $(RECORDS)) \
		$(if $(WRITE),--write)

lock: $(STAMP) ## Resolve the dependencies anew, from the public index only
	env $(INDEX_VARIABLES:%=-u %) UV_NO_CONFIG=1 .venv/tools/bin/uv lock

clean: ## Remove what the other targets can make again; your data in .crm_pipeline stays
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

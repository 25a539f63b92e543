# The project's commands. A fresh machine needs Python 3.11 or newer with venv, and make.
PYTHON ?= python3
BIN := .venv/bin
UV := 0.13.9
RUNTIME := .venv/.runtime
DEV := .venv/.dev

.DEFAULT_GOAL := help
.PHONY: help run test check bench drill pictures browser lock format messages
CATALOGS := $(wildcard scheduler/translations/*/LC_MESSAGES/messages.po)

help: ## say what each target does
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(RUNTIME) $(CATALOGS:.po=.mo) ## set everything up and serve the clinic until Ctrl-C
	@exec $(BIN)/flask --app wsgi serve

test: $(DEV) check ## run every test, on SQLite and on PostgreSQL
	@$(BIN)/python -m pytest -n auto --dist worksteal

check: $(DEV) ## formatter, linter, types, layers, templates
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo > /dev/null || $(BIN)/lint-imports --no-logo
	@$(BIN)/djlint templates --lint --quiet
	@echo "Format, lint, types, layers and templates: nothing to say against."

format: $(DEV) ## rewrite the code in the one format
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

bench: $(DEV) ## measure search and booking beside a bare Flask page
	@$(BIN)/python -m tests.bench

drill: $(DEV) ## the fault drills at full size (three quarters of an hour)
	@$(BIN)/python -m pytest -m drill -n 0 -v

pictures: $(DEV) ## take the README's pictures of the main pages (needs Chromium)
	@$(BIN)/python -m tests.pictures

browser: ## install Chromium, khal and vdirsyncer through the system's package manager
	@.ci/browser

lock: $(DEV) ## pin every dependency anew, with hashes
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade \
		pyproject.toml --output-file requirements.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade \
		pyproject.toml --extra dev --constraints requirements.txt --output-file requirements-dev.txt

messages: $(DEV) ## collect the texts to translate into the catalogs
	@$(BIN)/pybabel -q extract -F pyproject.toml -k lazy_gettext -k _ --no-location --no-wrap --sort-output -o .venv/messages.pot .
	@$(BIN)/pybabel -q update -i .venv/messages.pot -d scheduler/translations --no-wrap --no-fuzzy-matching \
		--ignore-obsolete --ignore-pot-creation-date

%.mo: %.po $(RUNTIME)
	@$(BIN)/pybabel -q compile -i $< -o $@

$(RUNTIME): requirements.txt
	@echo "Installing into .venv (once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV)
	@$(BIN)/uv pip install --quiet --compile-bytecode --require-hashes --python $(BIN)/python -r requirements.txt
	@touch $@

$(DEV): requirements-dev.txt $(RUNTIME) $(CATALOGS:.po=.mo)
	@$(BIN)/uv pip install --quiet --compile-bytecode --require-hashes --python $(BIN)/python -r requirements-dev.txt
	@touch $@

# `make quickstart` runs a small sweep, `make test` all checks. Each makes .venv first where it is missing.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test lint format clean

quickstart: .venv/installed
	$(BIN)/sweeps launch quickstart --yes

# The end-to-end tests wait for processes to start more than they compute, so two at a time go well together.
test: lint
	$(BIN)/pytest -n 2 tests/unit tests/property tests/contract
	$(BIN)/pytest -n 2 --dist worksteal tests/e2e

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv

# The stamps keep a second run from installing anything; a changed pyproject.toml installs what it adds.
.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

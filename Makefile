# `make quickstart` runs a small sweep, `make test` the checks. Each makes .venv first where it is missing.
PYTHON ?= python3
BIN := .venv/bin
# End-to-end tests of a module share what it sets up, so one of pytest's processes runs them all.
BY_MODULE := --dist loadfile --no-loadscope-reorder
# Tests start hundreds of processes; without its bytecode, each would compile this code anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: quickstart test test-all lint types style docs format coverage mutants versions dist clean

quickstart: .venv/installed
	$(BIN)/sweeps launch quickstart --yes

test: lint
	$(BIN)/pytest -n 2 $(WHICH) tests/unit tests/property tests/contract
	$(BIN)/pytest -n 2 $(BY_MODULE) $(WHICH) tests/e2e

WHICH := -m 'not slow'

# With the drills that take half a minute or more each: servers, databases, drivers and nodes that go away in mid-study.
test-all: WHICH :=
test-all: test

lint: .venv/installed-dev
	$(MAKE) --no-print-directory --jobs 2 --output-sync types style

types: .venv/installed-dev
	$(BIN)/mypy

style: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python docs/study_file.py --check
	$(BIN)/mkdocs build --strict --quiet

# The pages of docs/ as a site, after the tables in them that the code's docstrings fill; a broken link is an error.
docs: .venv/installed-dev
	$(BIN)/python docs/study_file.py
	$(BIN)/mkdocs build --strict --quiet

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Lines and branches that the quick tests run: file by file, then for each package. TESTS names other tests.
coverage: .venv/installed-dev
	rm -rf build/coverage
	$(BIN)/coverage run -m pytest -n 2 -m 'not slow' $(TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage html --quiet
	$(BIN)/coverage report
	@for package in resnet_core search_spaces sweeps analysis; do \
		printf '%-14s%5s %%\n' $$package "$$($(BIN)/coverage report --include="$$package/*" --format=total)"; \
	done

TESTS ?= tests/unit tests/property tests/contract
VERSIONS ?= 3.11 3.12 3.13 oldest

# What must not err, changed one place at a time: do its tests notice? MODULES names some of tests/mutants/modules.toml.
mutants: .venv/installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check 'cosmic-ray>=8.7'
	$(BIN)/python -m tests.mutants $(MODULES)

# TESTS, and a launch from study file to report, with each Python that pyproject.toml allows, and with the oldest release
# of each library that it allows. uv downloads a Python that is not here.
versions: $(VERSIONS:%=version-%)

version-%: build/versions/%/installed
	build/versions/$*/bin/pytest -n 2 -m 'not slow' $(TESTS)
	rm -rf build/versions/home
	build/versions/$*/bin/sweeps launch quickstart --trials 2 --yes --home build/versions/home

# The wheel and the source distribution, in dist/. What is in the latter must do for its own tests, of which those run
# that read files beside the code.
dist: .venv/installed-dev build/dist/installed
	rm -rf dist build/dist/unpacked
	build/dist/bin/python -m build --outdir dist
	build/dist/bin/twine check --strict dist/*
	mkdir build/dist/unpacked
	tar --extract --file dist/*.tar.gz --directory build/dist/unpacked --strip-components 1
	cd build/dist/unpacked && $(abspath $(BIN))/pytest $(DIST_TESTS)

DIST_TESTS := $(addprefix tests/unit/test_,$(addsuffix .py,distribution documents notebook published report study)) \
	tests/contract/test_studies_contract.py

clean:
	rm -rf .venv build dist

# The stamps keep a second run from installing anything; a changed pyproject.toml installs what it adds.
# Bytecode is compiled on all cores: pip uses one. Libraries have a few files that this Python cannot compile.
define install
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --editable $(1)
	$(BIN)/python -m compileall -qq -j 0 .venv/lib || true
	touch .venv/installed $@
endef

.venv/installed: pyproject.toml
	$(call install,.)

.venv/installed-dev: pyproject.toml
	$(call install,'.[dev]')

.PRECIOUS: build/versions/%/installed
build/versions/%/installed: pyproject.toml .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check 'uv>=0.9'
	$(BIN)/uv venv --quiet --clear --python $(if $(filter oldest,$*),3.11,$*) build/versions/$*
	$(BIN)/uv pip install --quiet --python build/versions/$* --resolution $(if $(filter oldest,$*),lowest-direct,highest) \
		--editable '.[dev]'
	touch $@

build/dist/installed:
	$(PYTHON) -m venv build/dist
	build/dist/bin/pip install --quiet --disable-pip-version-check 'build>=1.2' 'twine>=6.1'
	touch $@

# `make demo` and `make test` set up what they need; `make help` lists the rest.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# The tests in as many processes as there are processors, up to four.
AT_ONCE ?= --numprocesses=auto --maxprocesses=4 --dist=worksteal

.DEFAULT_GOAL := help

help:  ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(VENV)/.installed  ## read the example images, index them, ask them; on the emulator without a key
	$(BIN)/python examples/quickstart.py

test: check  ## everything `check` does, and the whole test suite
	$(BIN)/python -m pytest $(AT_ONCE) --ignore=tests/test_architecture.py --ignore=tests/test_docs.py

check: lint  ## lint, import contracts, public names, README and examples run, the wheel in clean environments
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/python -m pytest $(AT_ONCE) --dist=loadfile tests/test_architecture.py tests/test_docs.py
	$(BIN)/python tests/check_wheel.py

lint: $(VENV)/.installed-test  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-test  ## rewrite the code as ruff would have it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lowest: pyproject.toml tests/lowest.txt  ## the test suite on the lowest versions that pyproject.toml allows
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.venv-lowest/bin/python -m pip install --quiet --editable ".[all]" --group test --group test-langchain --constraint tests/lowest.txt
	.venv-lowest/bin/python -m pytest $(AT_ONCE) --ignore=tests/test_architecture.py --ignore=tests/test_docs.py

bench: $(VENV)/.installed-test  ## the benchmarks, one after the other
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; PYTHONPATH=. $(BIN)/python $$script; done

SECONDS_OF_FUZZ ?= 120
fuzz: $(VENV)/.installed-test  ## damaged files at everything that opens files, for two minutes
	$(BIN)/python -m pip install --quiet --group fuzz
	PYTHONPATH=. $(BIN)/python fuzz/files.py $(SECONDS_OF_FUZZ)

clean:  ## remove what was made here
	rm -rf $(VENV) .venv-lowest build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip copies files; an installer that hard-links them breaks nltk's check of its own data.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, this is " + sys.version) if sys.version_info < (3, 10) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[all]"
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --group test --group test-langchain --group test-llama-index
	@touch $@

.PHONY: help demo test check lint format lowest bench fuzz clean

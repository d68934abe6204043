# Every target sets up what it needs in .venv, and does nothing twice.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: train test check fix bench experiments fuzz test-oldest test-engines licences audit datasheet page clean

train: .venv/ready
	$(BIN)/kopwijzer train --models models
	$(BIN)/kopwijzer predict --models models --format table tests/fixtures/page.txt

test: .venv/test
	$(BIN)/python -m pytest

check: .venv/check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: .venv/check
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/bench
	$(BIN)/python -m tests.benchmarks

experiments: .venv/ready
	$(BIN)/python -m tests.experiments

fuzz: .venv/test
	$(BIN)/python -m tests.fuzz

# The corpus' counts in its datasheet, counted again.
datasheet: .venv/ready
	$(BIN)/python data/football-nl/datasheet.py --write

# The lower bounds of pyproject.toml, in an environment of their own.
test-oldest: .venv/bin/python
	$(BIN)/python tests/oldest.py

# Dask, Ray, Spark (needs Java) and an S3 server on this machine, in an environment of their own.
test-engines: .venv-engines/ready
	.venv-engines/bin/python -m pytest tests/test_engines.py tests/test_tools.py tests/test_bulk.py

.venv-engines/ready: pyproject.toml constraints-engines.txt
	test -x .venv-engines/bin/python || $(PYTHON) -m venv .venv-engines
	.venv-engines/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.venv-engines/bin/python -m pip install --quiet --constraint constraints-engines.txt \
		--group test --group engines --editable ".[dask,ray,s3,sign]"
	touch $@

# The licences of what is installed, read from the packages' metadata.
licences: .venv/test
	$(BIN)/python tests/licences.py

# Faults in what is pinned: "Error 1" where one is found, "Error 3" where a service is not reached.
audit: .venv/check .venv-audit/ready
	$(BIN)/python tests/audit.py

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/ready: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[fast]"
	touch $@

.venv/test: .venv/ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group test --editable ".[dask,fast,remote,sign]"
	touch $@

.venv/check: .venv/test
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group check
	touch $@

.venv/bench: .venv/test
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group bench
	touch $@

# pip-audit by itself: what it needs would change the versions that are audited.
.venv-audit/ready: pyproject.toml | .venv/bin/python
	$(BIN)/python -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.venv-audit/bin/python -m pip install --quiet --group audit
	touch $@

clean:
	rm -rf .venv .venv-oldest .venv-engines .venv-audit build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

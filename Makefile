# `make reproduce` and `make test` set up all they need, once, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt
# On all processors, and no tests of others: in half the time that pip takes for it.
COMPILE := $(BIN)/python -m compileall -qq -j 0 -r 20 -x '/tests?/' $(VENV)/lib src || true
# Two torch threads beside another busy process can be many times slower than one.
TESTS := OMP_NUM_THREADS=1 MPLBACKEND=agg $(BIN)/python -m pytest

.PHONY: reproduce test test-all audit faults faults-inputs faults-kills bench docs schemas lint clean

$(VENV)/made:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/core: $(VENV)/made pyproject.toml constraints.txt
	$(INSTALL) --editable .
	$(COMPILE)
	touch $@

$(VENV)/dev: $(VENV)/core
	$(INSTALL) --editable '.[dev]'
	$(COMPILE)
	touch $@

reproduce: $(VENV)/core
	$(BIN)/descents reproduce

lint: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/dev
	$(BIN)/sphinx-build --quiet --fail-on-warning --fresh-env docs docs/_build/html

# The JSON Schemas in docs/ are those of the result dataclasses; the licenses of dependencies
# are those that the packages declare.
schemas: $(VENV)/core
	$(BIN)/python docs/schemas.py
	$(BIN)/python docs/dependencies.py

# Known vulnerabilities; without a connection to a service that knows them it says so.
audit: $(VENV)/dev
	$(INSTALL) pip-audit
	$(BIN)/python tests/audit.py

test: lint docs
	$(TESTS) -n auto --dist worksteal --durations=25 -m "not slow"

# Clusters that --workers connects to.
$(VENV)/workers: $(VENV)/dev
	$(INSTALL) --editable '.[dask,ray]'
	touch $@

test-all: lint docs audit $(VENV)/workers
	$(TESTS) -n auto --dist worksteal --hypothesis-profile=default

# Faults, seeded; each adds to stored counts, which are in docs/reliability.md. Inputs are
# damaged, and commands are ended at random moments.
# `make faults-inputs FAULTS="--shard 3/10 --count 100000"` goes on where the last one stopped.
FAULTY := PYTHONPATH=tests OMP_NUM_THREADS=1 MPLBACKEND=agg $(BIN)/python -m
faults: faults-inputs faults-kills

faults-inputs: $(VENV)/dev
	$(FAULTY) faults.fuzz $(FAULTS)

faults-kills: $(VENV)/dev
	$(FAULTY) faults.kills $(FAULTS)

# Peers are installed as far as they can be; the results say which are missing, and why.
$(VENV)/peers: $(VENV)/dev
	-$(BIN)/python benchmarks/peers.py
	touch $@

bench: $(VENV)/peers
	$(BIN)/python benchmarks/run.py $(BENCH)

clean:
	rm -rf $(VENV) docs/_build .pytest_cache .mypy_cache .ruff_cache

# Everything a contributor runs. On a fresh machine Python >= 3.11 and make are enough: the first
# target creates .venv, later ones reuse it until pyproject.toml or constraints.txt change. Each
# package compiles when it is imported: to compile them all takes two fifths of the time of pip.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PEER   := .venv-0.11/.ready
TYPED  := ebooklet tests benchmarks
# Much of the time goes into waiting, for servers, locks and disks: five workers for two cores.
PYTEST_ARGS ?= -n 5 --dist loadgroup

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help test audit bandit compiled large mutants torture powercuts lives concurrency fuzz servers demo lint types format bench millions transport year clean

help:
	@echo "make test    format check, lint, types, layers, then every test"
	@echo "make audit   bandit over the library, pip-audit over what is installed; 3 if nobody could be asked"
	@echo "make large   the tests that move gigabytes, and take minutes"
	@echo "make mutants takes away each rule that tests say they fail without, to see them fail: ONLY=race"
	@echo "make torture real processes killed and cut off in every way for SECONDS=60, seeded: SEED=7; then TORTURE=5 times as many random lives"
	@echo "make powercuts  what a power cut may leave of a local file, for SECONDS=60 and each kind of file"
	@echo "make lives LIVES=300 so many random lives of two writers and a reader beside plain dicts, on each kind of place"
	@echo "make concurrency SECONDS=120 for each crowd of threads, processes, writers and readers, in memory, a folder and a server"
	@echo "make fuzz    hostile bytes for every decoder, guided by coverage: SECONDS=60, and ten for the start of each"
	@echo "make servers every adapter on every server, with a table at the end"
	@echo "make demo    run examples/demo.py against a real S3 server on this machine"
	@echo "make lint    ruff and the layer contracts"
	@echo "make types   mypy --strict"
	@echo "make format  rewrite the code in the one format"
	@echo "make bench   every peer side by side, into benchmarks/RESULTS.md: BENCH_KEYS=10000 for all, BENCH_LARGE=100000 for few"
	@echo "make millions  a database of 10 million keys in a folder: what grows with it: MILLIONS=10"
	@echo "make transport  each S3 adapter beside the client library that it wraps"
	@echo "make year    a year of daily pushes on a simulated clock: what it stores, what a push costs"
	@echo "make clean   remove everything that make created"

$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "make: '$(PYTHON)' not found. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: '$(PYTHON)' is `$(PYTHON) --version 2>&1`; EBooklet needs Python 3.11 or newer: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "make: installing what it needs into $(VENV); the first time, this takes about a minute"
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  $(PYTHON) -m venv --clear $(VENV) || { \
	  echo "make: could not create $(VENV); on Debian and Ubuntu install the package python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --no-compile --editable '.[dev]' --constraint constraints.txt
	@touch $@

# The existing EBooklet, whose databases the tests migrate, in an environment of its own.
$(PEER): $(READY) ebooklet/testing/peer.py
	@echo "make: installing the existing EBooklet into $(@D), once; its databases are migrated by tests"
	@$(BIN)/python -m ebooklet.testing.peer $(@D)
	@touch $@

test: $(READY)
	@$(MAKE) --no-print-directory -j 4 types lint bandit compiled $(PEER)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# What the tests import, compiled once: each of their processes would compile it again otherwise.
compiled: $(READY)
	@$(BIN)/python -m pytest --collect-only -q >/dev/null 2>&1 || true

bandit: $(READY)
	@$(BIN)/bandit --quiet --recursive --configfile pyproject.toml ebooklet

audit: bandit
	@$(BIN)/python -m tests.audit

large: $(READY)
	$(BIN)/python -m pytest -m large -s

mutants: $(READY)
	$(BIN)/python -m tests.mutants $(ONLY)

TORTURE ?= 5
torture: $(READY)
	$(BIN)/python -m tests.torture --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(TORTURE_ARGS)
	$(if $(filter 0,$(TORTURE)),,EBOOKLET_TORTURE=$(TORTURE) $(BIN)/python -m pytest tests/hostile tests/services/test_crashes.py tests/resources \
		tests/adapters/local/test_interrupted_lines.py --timeout 3600)
	@$(if $(filter 0,$(TORTURE)),,$(MAKE) --no-print-directory powercuts SECONDS=60)

# The power fails at moments of many lives; of what was not flushed, any part is lost.
powercuts: $(READY)
	$(BIN)/python -m tests.powercut --seconds $(SECONDS)

concurrency: $(READY)
	$(BIN)/python -m tests.concurrency --seconds $(SECONDS)

LIVES ?= 300
lives: $(READY)
	EBOOKLET_LIVES=$(LIVES) $(BIN)/python -m pytest tests/state --timeout 0

SECONDS ?= 60
fuzz: $(READY)
	@$(BIN)/python -m pip install --quiet --editable '.[fuzz]' --constraint constraints.txt >/dev/null 2>&1 || \
	  echo "make: atheris could not be installed for `$(BIN)/python --version`" >&2
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

servers: $(READY)
	$(BIN)/python -m pytest $(PYTEST_ARGS) --servers

demo: $(READY)
	@$(BIN)/python examples/demo.py

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/mypy $(TYPED)

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Peers stand in environments of their own, which the first run makes (a minute or two).
BENCH_KEYS  ?= 10000
BENCH_LARGE ?= 100000
BENCH_ARGS  ?=
bench: $(READY)
	$(BIN)/python -m benchmarks --keys $(BENCH_KEYS) --large $(BENCH_LARGE) $(BENCH_ARGS)

transport: $(READY)
	$(BIN)/python -m benchmarks.transport

MILLIONS ?= 10
millions: $(READY)
	$(BIN)/python -m benchmarks.millions --keys $(MILLIONS)000000

year: $(READY)
	$(BIN)/python -m benchmarks.year

clean:
	rm -rf $(VENV) .venv-* .bench .fuzz build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each target is one line that you could type. `make setup` runs by itself when .venv is missing or older than its pins.
VENV ?= .venv
BIN = $(VENV)/bin
# A program that asks for known faults of packages: `pipx install pip-audit`.
AUDIT ?= pip-audit
PINS = constraints/install.py constraints/cpu.txt constraints/gpu.txt
# 3.11 first: the pins were made on it. ensurepip is what Debian leaves out without python3-venv.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
# Tests side by side: many wait for what they started, so three where there are two cores and 20 GB, two with 12 GB, else one.
# `make test WORKERS=4` (0: in one process)
# nproc would say what OMP_NUM_THREADS says.
WORKERS ?= $(shell awk -v cores="$$(env -u OMP_NUM_THREADS nproc)" '/^MemTotal/ { print cores < 2 || $$2 < 11000000 ? 0 : $$2 < 20000000 ? 2 : 3 }' /proc/meminfo)

.PHONY: setup demo test lint docs bench bench-gpu torture licences audit

setup: $(VENV)/.stamp

$(VENV)/.stamp: $(PINS)
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer with venv found. Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; exit 2; }
	@$(PYTHON) constraints/install.py --venv $(VENV)

demo: setup
	$(BIN)/reasondistill run pipelines/demo.toml

test: setup
	$(BIN)/python -m pytest -m "not slow and not gpu" -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyright --pythonpath $(BIN)/python

# A site that works from disk: site/index.html. NO_MKDOCS_2_WARNING: its pins are those of constraints/docs.txt.
docs: setup
	$(BIN)/pip install --quiet --no-deps --requirement constraints/docs.txt
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: setup
	for bench in tests/perf/bench_*.py; do $(BIN)/python $$bench || exit 1; done

bench-gpu: setup
	$(BIN)/python tests/perf/gpu/bench.py

# The crash matrix, hours: stopped, it goes on. TORTURE="--only sums --minutes 10", "--list"
torture: setup
	$(BIN)/python tests/torture/crashes.py $(TORTURE)

licences: setup
	$(BIN)/python constraints/licences.py

# Known faults of what is pinned, asked of PyPI: needs the network. A package that PyPI does not answer for is a failure (--strict).
audit:
	worst=0; for pins in cpu gpu; do sed 's/+cpu//' constraints/$$pins.txt | $(AUDIT) --strict --no-deps --disable-pip -r /dev/stdin || worst=1; done; exit $$worst

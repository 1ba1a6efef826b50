# Every target sets up what it needs in .venv; the only things that must exist are Python 3.11 or newer, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

# Networks of this size gain nothing from more threads, and threads on busy cores wait for each other.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-slow test-all test-rounding gpu paper check format doc links smoke oldest clean

demo: $(VENV)/installed-plot
	$(BIN)/python examples/plot_quickstart.py

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 -m "not slow"

# The tests that take minutes: all of scikit-learn's checks for all networks, scripts of the paper, tables of convergence, and
# random calls of everything public.
test-slow: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 -m slow
	$(BIN)/python tests/fuzz.py --cases 1000

test-all: test test-slow

# The numerical tests under other instruction sets and with other seeds: minutes per run, kept in .rounding, so that it
# goes on where it was stopped. Bounds must leave a factor of ROOM.
SEEDS ?= 0 1 2 3 4 5 6 7 8 9
ROOM ?= 1
test-rounding: $(VENV)/installed-test
	$(BIN)/python tests/rounding.py --seeds $(SEEDS) --room $(ROOM)

# The tests that need CUDA, and a table of what it gains: eight minutes at most. Unlike all other targets, this one uses
# the Python that PYTHON names and what is installed there, because the torch of constraints.txt has no CUDA. It needs
# pytest and what the package needs, but no network.
gpu: export PYTHONPATH := .:$(PYTHONPATH)
gpu:
	timeout 200 $(PYTHON) -m pytest -q -p no:cacheprovider $$(grep -rl cuda tests --include='test_*.py') -k cuda; tests=$$?; \
	timeout 275 $(PYTHON) examples/benchmarks/bench_gpu.py && exit $$tests

# Tables and figures of the paper: "smoke" tries the scripts, "cpu" reduces the data, "trained" has the paper's data and takes
# a day on two cores, in pieces of less than an hour, "paper" wants a GPU.
BUDGET ?= cpu
paper: $(VENV)/installed-plot
	$(BIN)/python examples/paper/run_all.py --budget $(BUDGET) --output paper-results

check: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/codespell

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

doc: $(VENV)/installed-doc
	$(BIN)/sphinx-build -W --keep-going doc doc/_build/html

# Addresses in the documentation: the only target that needs the whole internet.
links: $(VENV)/installed-doc
	$(BIN)/sphinx-build -b linkcheck -D plot_gallery=0 doc doc/_build/links

# The wheel, in an environment with nothing but it and what it needs: the page "Get started" is the test.
smoke:
	rm -rf .venv-smoke dist
	$(PYTHON) -m venv .venv-smoke
	.venv-smoke/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	.venv-smoke/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt dist/*.whl
	cd doc && ../.venv-smoke/bin/python -m doctest -o ELLIPSIS -o NORMALIZE_WHITESPACE get_started.rst
	rm -rf .venv-smoke

# The tests against the oldest versions that pyproject.toml allows.
oldest:
	$(MAKE) VENV=.venv-oldest PIP=".venv-oldest/bin/python -m pip install --disable-pip-version-check --constraint constraints-oldest.txt" .venv-oldest/installed-test
	.venv-oldest/bin/python -m pytest -n 2 tests

$(VENV)/installed-%: pyproject.toml constraints.txt constraints-oldest.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable ".[$*]"
	touch $@

clean:
	rm -rf .venv .venv-oldest .venv-smoke dist .mypy_cache .pytest_cache .ruff_cache .hypothesis doc/_build doc/auto_examples doc/generated doc/api.rst

# The project's commands. Everything is installed into .venv, from requirements.lock, with hashes.
#
#   make demo    the whole pipeline on a synthetic crash day, offline once installed
#   make test    all tests
#   make lint    formatting, ruff, mypy, import rules
#   make bench   throughput beside the cost of decoding alone; an instant of 100,000 accounts; a re-margin of 1,000,000 and
#                pricing beside their peers
#                (PEERS=PYTHON: an interpreter that has QuantLib, fast_vollib and py_vollib_vectorized)
#   make lock    resolve requirements.lock again (needs the network)

# The first of these that is 3.11 or 3.12. The interpreter is asked, not its name: a shim may stand for nothing.
PYTHON ?= $(shell for python in python3.11 python3.12 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null && { echo $$python; break; }; done)
BIN := .venv/bin
INSTALLED := .venv/installed
# Another version may resolve or write the lock otherwise.
UV_VERSION := 0.13.9

.PHONY: setup demo test bench lint format lock clean

setup: $(INSTALLED)

# Installed again only when what is installed changed. Sources are used in place.
$(INSTALLED): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Tidegate needs Python 3.11 or 3.12: none of python3.11, python3.12, python3 is one" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@# Kernels are compiled here, once, and cached beside their sources: a first demo need not wait for them.
	-@$(BIN)/tidegate demo --hours 1 --accounts 20 --chain none --json > /dev/null 2>&1
	@touch $@

demo: $(INSTALLED)
	$(BIN)/tidegate demo $(ARGS)

test: $(INSTALLED)
	$(BIN)/python -m pytest -q $(ARGS)

bench: $(INSTALLED)
	$(BIN)/python -m tests.bench.throughput $(ARGS)
	$(BIN)/python -m tests.bench.accounts
	$(BIN)/python -m tests.bench.margin
	$(BIN)/python -m tests.bench.pricing $(if $(PEERS),--peers $(PEERS))

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix --quiet .

# Only what pyproject.toml asks for anew changes: versions in the lock are kept where they still fit.
lock:
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip compile pyproject.toml --quiet --all-extras --universal --python-version 3.11 --fork-strategy fewest \
		--generate-hashes --prerelease if-necessary-or-explicit --no-emit-index-url \
		--custom-compile-command "make lock" --output-file requirements.lock

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist demo-run
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Two commands do everything: `make demo` and `make test`. Each makes its virtual environment first.
# Needed beforehand: python3 (3.10 to 3.13) with venv, make, g++.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test lint bench docs lock clean check-tools

demo: $(READY)  ## the whole flow on built-in data: train, map, quantize, generate, simulate, attack, report
	@$(BIN)/robust-hls run --resume

test: $(READY)  ## the test suite
	@$(BIN)/python -m pytest

lint: $(READY)  ## ruff, mypy --strict, who may import whom, the docs' tables and README's figures against their JSON
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-logo
	@$(BIN)/python benchmarks/doc_tables.py

bench: $(READY)  ## every claim of speed and exactness, measured here in less than half an hour: benchmarks/results/
	@$(BIN)/python benchmarks/all.py --quick

docs: $(VENV)/.ready-docs  ## the site, in site/; the tutorials are executed (some minutes)
	@PATH="$(CURDIR)/$(BIN):$$PATH" NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

lock:  ## resolve pyproject.toml anew for Python 3.10 to 3.13 on every platform (needs uv)
	uv pip compile --universal --python-version 3.10 --generate-hashes --extra dev pyproject.toml -o requirements.lock
	uv pip compile --universal --python-version 3.10 --generate-hashes --extra dev --extra docs -c requirements.lock \
		pyproject.toml -o requirements-docs.lock

clean:  ## remove the virtual environment
	rm -rf $(VENV)

$(READY): requirements.lock pyproject.toml | check-tools
	@echo "Installing into $(VENV) (some minutes the first time) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-compile -r requirements.lock
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true  # pip would compile with one processor
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.ready-docs: requirements-docs.lock $(READY)
	@echo "Installing what the site needs into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.lock
	@touch $@

check-tools:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
		echo "$(PYTHON) is missing. Debian/Ubuntu: sudo apt install python3 python3-venv; Fedora: sudo dnf install python3;" \
		"macOS: brew install python@3.12"; exit 3; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "$(PYTHON) is $$($(PYTHON) -V 2>&1); Python 3.10 to 3.13 is needed. Install one of them and say which:" \
		"make PYTHON=python3.12 ... (Debian/Ubuntu: sudo apt install python3.12 python3.12-venv;" \
		"Fedora: sudo dnf install python3.12; macOS: brew install python@3.12)"; exit 3; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) has no venv. Debian/Ubuntu: sudo apt install python3-venv; Fedora: sudo dnf install python3;" \
		"macOS: brew install python@3.12"; exit 3; }
	@command -v $${ROBUST_HLS_GXX:-g++} >/dev/null 2>&1 || { \
		echo "g++ is missing: it compiles the C simulation. Debian/Ubuntu: sudo apt install g++;" \
		"Fedora: sudo dnf install gcc-c++; macOS: xcode-select --install"; exit 3; }

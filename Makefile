# Targets for people; `make` alone lists them. Pass options on with ARGS="...".
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --disable-pip-version-check --no-input --quiet
PORT ?= 5000
export MLFLOW_DISABLE_TELEMETRY ?= true

# On the command line `model=` would overrule the network that an experiment or a resumed run names.
MODEL := $(if $(filter model=% experiment=% resume=% like=%,$(ARGS)),,model=deep_cnn)

.DEFAULT_GOAL := help
.PHONY: help train test test-faults ui report sync doctor bench lint format docs clean lock

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

train: $(STAMP) ## train deep_cnn on the bundled digits (ARGS="dataset=mnist seed=1")
	$(BIN)/python train.py $(MODEL) $(ARGS)

test: $(STAMP) ## run the test suite without the slow tests (ARGS="tests/models -x")
	$(BIN)/python -m pytest --numprocesses auto $(ARGS)

test-faults: $(STAMP) ## kill, fill, cut off and attack: the tests of what happens on a bad day
	$(BIN)/python -m pytest --numprocesses auto -m '' tests/faults $(ARGS)

ui: $(STAMP) ## open the tracked runs on http://127.0.0.1:5000 (PORT=5001)
	@exec $(BIN)/python -m cnnlab.tracking.ui $(PORT)

report: $(STAMP) ## print the leaderboard of all tracked runs and write it as a page, reports/report.html
	$(BIN)/python -m cnnlab.report $(ARGS)

sync: $(STAMP) ## deliver what runs have left here for a tracking server that was away
	@$(BIN)/python -m cnnlab.tracking.sync $(ARGS)

doctor: $(STAMP) ## examine store, packages, devices and data, each problem with its remedy
	@$(BIN)/python -m cnnlab.doctor

bench: $(STAMP) ## compare with Keras, PyTorch and Lightning, by turns (ARGS="epochs --recipes dnn --epochs 3")
	$(BIN)/python -m benchmarks $(ARGS)

lint: $(STAMP) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP) ## write the documentation to site/ (ARGS=serve shows it while you write)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs $(or $(ARGS),build --strict --quiet)

clean: ## remove caches; runs, data and outputs stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache build dist site
	find src tests conf benchmarks *.py -name __pycache__ -type d -exec rm -rf {} + 2>/dev/null || true

lock: ## pin the dependencies again, needs uv (ARGS="--upgrade-package rich")
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv" >&2; exit 1; }
	uv pip compile pyproject.toml --universal --python-version 3.11 --all-extras --fork-strategy fewest \
		--no-emit-index-url --quiet --output-file requirements.lock $(ARGS)

# Two installs into one folder spoil it. The first holds the lock; the second then finds the stamp and has nothing to do.
ifndef SETUP_LOCKED
$(STAMP): requirements.lock pyproject.toml
	@lock=; if command -v flock >/dev/null; then lock="flock Makefile"; fi; \
	$$lock $(MAKE) --no-print-directory SETUP_LOCKED=1 $@
else
# The stamp keeps the time the install began, so a lock edited meanwhile is installed next time.
$(STAMP): requirements.lock pyproject.toml
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		for python in $(PYTHON) python3.11 python3 python; do \
			if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; \
			python=; \
		done; \
		if [ -z "$$python" ]; then \
			echo "cnnlab needs Python 3.11 or newer and found none; name one: make PYTHON=/path/to/python3.11" >&2; \
			exit 1; \
		fi; \
		$$python -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }; \
	fi
	@echo "installing the locked dependencies into $(VENV): a few minutes and about 6 GB, once"
	@touch $(VENV)/.installing
	@$(PIP) -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@mv $(VENV)/.installing $@
endif

# make repro   set up, then run the pipeline; ends with the result, and fails where it misses a gate of params.yaml
# make test    set up, then run all tests
# make lint    set up, then ruff and a strict type check
# make ui      the MLflow UI on 127.0.0.1
# make lock    pin the newest versions in requirements.lock
#
# The environment is .venv, with the versions in requirements.lock. VENV=<path of another environment> uses that one
# instead, and installs only those packages from pyproject.toml that it lacks.

VENV ?= .venv
PYTHON ?= python3
BIN := $(abspath $(VENV))/bin
READY := $(VENV)/.mnistflow-ready
export PATH := $(BIN):$(PATH)

.DELETE_ON_ERROR:
.PHONY: repro test lint ui lock

repro: $(READY)
	@git rev-parse --git-dir >/dev/null 2>&1 || grep -qsi 'no_scm *= *true' .dvc/config .dvc/config.local || { \
	  echo 'This folder is not in a git repository. Create one (git init && git add --all && git commit -m start),' \
	    'or work without experiments: dvc config core.no_scm true' >&2; exit 1; }
	dvc repro
	@PYTHONPATH=src python -m mnistflow show
	@PYTHONPATH=src python -m mnistflow gate

test: $(READY)
	OMP_WAIT_POLICY=PASSIVE python -m pytest --numprocesses 4 --dist loadgroup --durations 40 --durations-min 5

lint: $(READY)
	ruff check
	ruff format --check
	mypy

ui: $(READY)
	@PYTHONPATH=src python -m mnistflow ui

lock: $(READY)
	python -m pip install --quiet uv
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade --no-emit-index-url \
	  --no-annotate --custom-compile-command "make lock" --output-file requirements.lock

$(READY): pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
ifeq ($(origin VENV),file)
	$(BIN)/python -m pip install --requirement requirements.lock
	$(BIN)/python -m pip install --no-deps --editable .
else
	$(BIN)/python -m pip install --editable '.[dev]'
endif
	touch $(READY)

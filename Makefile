# `make run`: from a fresh clone to a registered model and a composed piece.
# `make check`: the quick check, for every change. `make test`: every check. `make fuzz`: an hour of random inputs.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
SAMPLE ?= data/images/sample/harbour-1a.jpg
# A flower from scikit-learn's own data, by danielbuechele, CC BY 2.0: sklearn/datasets/images/README.txt.
PHOTO ?= $(BIN)/../lib/python3*/site-packages/sklearn/datasets/images/flower.jpg
export PATH := $(abspath $(BIN)):$(PATH)
# No telemetry, no analytics, no calls home.
export DO_NOT_TRACK := true
export GX_ANALYTICS_ENABLED := False
export MPLCONFIGDIR ?= $(abspath $(VENV))/matplotlib
# A process a core, a test file a process; tests/conftest.py puts the longest files first.
PARALLEL ?= -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder
# `make test COVERAGE=` measures none.
COVERAGE ?= --cov --cov-report=term --cov-report=xml

.PHONY: run check test fuzz setup lint bench images tracking clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -U pip
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

run: setup
	dvc pull -q data.dvc
	dvc repro
	huesong compose $(SAMPLE) --model artifacts/train/model --out out/sample --seconds 30 --force
	huesong compose $(PHOTO) --model artifacts/train/model --out out/photo-by-trained --seconds 30 --force
	huesong compose $(PHOTO) --model models/huesong-small --out out/photo-by-shipped --seconds 30 --force
	@huesong status

lint: setup
	ruff check .
	ruff format --check .
	mypy
	hadolint components/Dockerfile

check: lint
	HYPOTHESIS_PROFILE=dev pytest -q -m "not slow and not real_data" $(PARALLEL)

test: lint
	pytest -q $(PARALLEL) $(COVERAGE)

fuzz: setup
	HYPOTHESIS_PROFILE=fuzz pytest -q -m "hypothesis or fuzz" $(PARALLEL)

bench: setup
	python benchmarks/bench.py --page benchmarks/results.md
	python benchmarks/compose.py --page benchmarks/results.md

# The images of the Kubeflow components, with the Docker engine that is running (docs/containers.md).
images: setup
	python components/build.py

# The pages of runs and versions, for one person: docs/registry.md.
PORT ?= 5000
tracking: setup
	@echo "http://127.0.0.1:$(PORT)"
	@MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --host 127.0.0.1 --port $(PORT) --backend-store-uri sqlite:///mlflow.db

clean:
	rm -rf artifacts out mlflow.db mlflow.db.lock mlartifacts .pytest_cache .mypy_cache .ruff_cache .hypothesis

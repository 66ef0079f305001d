# `make run`: from a fresh clone to a registered model and a composed piece. `make test`: every check.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
SAMPLE ?= data/images/sample/harbour-1a.jpg
export PATH := $(abspath $(BIN)):$(PATH)
# No telemetry, no analytics, no calls home.
export DO_NOT_TRACK := true
export GX_ANALYTICS_ENABLED := False
export MPLCONFIGDIR ?= $(abspath $(VENV))/matplotlib

.PHONY: run test setup lint bench images clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -U pip
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

run: setup
	dvc pull -q
	dvc repro
	huesong compose $(SAMPLE) --out out/sample --seconds 30
	@huesong status

lint: setup
	ruff check .
	ruff format --check .
	mypy
	hadolint components/Dockerfile

test: lint
	pytest -q --cov --cov-report=term --cov-report=xml

bench: setup
	python benchmarks/bench.py

# The images of the Kubeflow components, with the Docker engine that is running (docs/containers.md).
images: setup
	python components/build.py

clean:
	rm -rf artifacts out mlflow.db mlartifacts .pytest_cache .mypy_cache .ruff_cache .hypothesis

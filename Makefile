# The commands that everyone uses; `make` alone lists them. All of them live in the virtual environment .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := app difuso evaluation jobs model training worker

.DEFAULT_GOAL := help
.PHONY: help setup serve test fuzz chaos check compose-test ops-check audit format train bench bench-gpu clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.dev  ## make the virtual environment with everything for development

serve: $(VENV)/.standalone  ## run difuso on this machine: http://127.0.0.1:8000, Ctrl-C stops it
	@exec $(BIN)/difuso serve

test: $(VENV)/.dev  ## run the quick tests
	$(BIN)/python -m pytest -m 'not slow and not gpu' -n 2 --dist loadfile

fuzz: $(VENV)/.dev  ## send the API thousands of requests made from its own OpenAPI, right and wrong ones
	$(BIN)/python -m pytest tests/integration/test_app_schema.py -m slow

chaos: $(VENV)/.dev  ## break running processes for twenty minutes and count which promises held: docs/reliability.md
	$(BIN)/python -m benchmarks.chaos

check: $(VENV)/.dev  ## lint, format, types and import rules, as CI runs them
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

compose-test: $(VENV)/.dev  ## run the stack in containers, with two workers, and roll it under load; needs Docker
	$(BIN)/python -m pytest tests/compose -v -o log_cli=true --log-cli-level=INFO

ops-check: $(VENV)/.dev $(VENV)/.ops  ## check what operators use: Dockerfile, compose, alerts, manifests
	$(BIN)/python -m pytest tests/ops

audit: $(VENV)/.ops  ## ask PyPI for known vulnerabilities of the versions in constraints.txt
	$(BIN)/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

format: $(VENV)/.dev  ## put the code into the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

train: $(VENV)/.train  ## train the faces that ship with difuso, into var/runs/faces64
	$(BIN)/difuso train faces64

bench: $(VENV)/.bench  ## compare with other servers on this machine, and find the overhead
	$(BIN)/python -m benchmarks.serving
	$(BIN)/python -m benchmarks.overhead

bench-gpu: $(VENV)/.bench  ## the same on a CUDA machine, within ten minutes, into var/bench-gpu.json
	$(BIN)/python -m benchmarks.gpu --out var/bench-gpu.json

clean:  ## delete the environment and what tools leave; var/ (jobs, pictures, runs) stays
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find $(PACKAGES) tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Without an NVIDIA GPU a small build of torch, where its index answers; it has none of what torch needs. What cannot be
# had there comes from PyPI in the next step, with everything else.
TORCH = index=$$($(BIN)/python -m difuso.torch_index); [ -z "$$index" ] || \
  $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps \
  --index-url "$$index" torch $(if $(filter dev,$*),torchvision) || echo 'taking torch from PyPI instead'

# An environment's stamp is younger than the files that say what belongs in it, so a second run installs nothing.
$(VENV)/.standalone $(VENV)/.train $(VENV)/.bench $(VENV)/.ops $(VENV)/.dev: $(VENV)/.%: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'installing difuso[$*] into $(VENV); the first time this takes some minutes'
	@$(if $(filter ops,$*),,$(TORCH))
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$*]'
	@touch $@ $(if $(filter dev,$*),$(VENV)/.standalone $(VENV)/.train)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo 'difuso needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

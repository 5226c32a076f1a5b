# The commands for daily work; `make` alone lists them. All of them run in the virtual environment .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
GENERATOR := $(VENV)/generator/bin/openapi-python-client
AXE := $(VENV)/axe
PACKAGES := app difuso evaluation jobs model training worker

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:  # an environment that was made by half is made again
.PHONY: help setup serve test test-all test-slow test-long check-processors fuzz chaos check compose-test ops-check rules audit format train paper bench bench-gpu clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.dev  ## make the virtual environment with all development dependencies

serve: $(VENV)/.standalone  ## run difuso on this machine: http://127.0.0.1:8000, Ctrl-C stops it
	@exec $(BIN)/difuso serve

# More processes than the two cores that this is made for: many tests wait for others; see tests/scheduling.py.
PYTEST = $(BIN)/python -m pytest -n 3 --durations=40

# The tests start hundreds of processes, each of which would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

test: $(VENV)/.dev $(GENERATOR) $(AXE)  ## run the quick tests
	$(PYTEST) -m 'not slow and not long and not gpu'

test-all: test test-slow  ## run all tests: also long repetitions, and on a phone; twenty minutes

test-slow: $(VENV)/.dev $(GENERATOR) $(AXE)  ## run the tests that only test-all has
	$(PYTEST) -m 'slow and not long and not gpu'

test-long: $(VENV)/.dev  ## run what takes an hour or measures time: fuzz, chaos, torch.compile, 2,000 jobs on the page, 50 models
	$(BIN)/python -m pytest -m long

check-processors: $(VENV)/.dev  ## run the numerical tests as several generations of processors compute
	.ci/check-processors

fuzz: $(VENV)/.dev  ## send the API thousands of valid and invalid requests made from its own OpenAPI
	$(BIN)/python -m pytest tests/integration/test_app_schema.py -m long

chaos: $(VENV)/.dev  ## break running processes for twenty minutes and count which promises held: docs/reliability.md
	$(BIN)/python -m benchmarks.chaos

check: $(VENV)/.dev  ## check lint, format, types and import rules, as CI does
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

compose-test: $(VENV)/.dev  ## run the stack in containers, upgrade it and go back under load; needs Docker
	$(BIN)/python -m pytest tests/compose -v -o log_cli=true --log-cli-level=INFO

ops-check: $(VENV)/.dev $(VENV)/.ops  ## check the operators' files: Dockerfile, compose, alerts, manifests
	$(BIN)/python -m pytest tests/ops

rules:  ## copy the rules of docker/prometheus into the PrometheusRules of deploy
	@{ echo '# Made by `make rules`.'; for name in alerts recording; do \
	  printf -- '---\napiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: difuso-%s\nspec:\n' $$name; \
	  sed 's/^./  &/' docker/prometheus/rules/$$name.yml; \
	done; } > deploy/components/prometheus/rules.yaml

audit: $(VENV)/.ops  ## ask PyPI for known vulnerabilities of the versions in constraints.txt
	$(BIN)/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

format: $(VENV)/.dev  ## put the code into the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

train: $(VENV)/.train  ## train a model of faces, into var/runs/faces64
	$(BIN)/difuso train faces64

paper: $(VENV)/.evaluate  ## remake the figures of docs/paper.md, in eight minutes
	$(BIN)/python -m benchmarks.paper

bench: $(VENV)/.bench  ## compare difuso with other servers on this machine, and measure its overhead
	$(BIN)/python -m benchmarks.serving
	$(BIN)/python -m benchmarks.overhead

bench-gpu: $(VENV)/.bench  ## measure difuso on a CUDA machine, within ten minutes, into var/bench-gpu.json
	$(BIN)/python -m benchmarks.gpu --out var/bench-gpu.json

clean:  ## delete the environment and the caches of tools; var/ (jobs, images, runs) stays
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find $(PACKAGES) tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# torch comes by pip, whose settings and index it may need: without an NVIDIA GPU, PyTorch's small CPU build if its index
# answers, else PyPI's. That index lacks torch's dependencies; they come in the next step.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
TORCH = torch $(if $(filter dev evaluate,$*),torchvision)
INSTALL_TORCH = index=$$($(BIN)/python -m difuso.torch_index); \
  $(PIP) --constraint constraints.txt --no-deps $${index:+--index-url "$$index"} $(TORCH) || \
  { echo 'taking torch from PyPI instead'; $(PIP) --constraint constraints.txt --no-deps $(TORCH); }

# uv does in seconds what takes pip minutes; where it cannot be had, pip does it. $(1) is a Python, $(2) the packages.
install = $(BIN)/uv pip install --quiet --python $(1) $(2) || \
  { echo 'taking pip in place of uv'; $(1) -m pip install --quiet --disable-pip-version-check $(2); }

# An environment's stamp is younger than the files that list its packages, so a second run installs nothing.
$(VENV)/.standalone $(VENV)/.train $(VENV)/.evaluate $(VENV)/.bench $(VENV)/.ops $(VENV)/.dev: $(VENV)/.%: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'installing difuso[$*] into $(VENV); the first time this takes about half a minute and what the downloads need'
	@$(if $(filter ops,$*),,$(INSTALL_TORCH))
	@$(call install,$(BIN)/python,--constraint constraints.txt --editable '.[$*]')
	@touch $@ $(if $(filter dev,$*),$(VENV)/.standalone $(VENV)/.train $(VENV)/.evaluate)

# A test generates a client with this program. It lives apart, because it wants an older typer than difuso's.
$(GENERATOR): | $(BIN)/python
	@$(BIN)/python -m venv $(VENV)/generator
	@$(call install,$(VENV)/generator/bin/python,openapi-python-client==0.29.1)

# A test examines the page with axe-core (MPL 2.0), which this package carries; of the package itself nothing is used.
$(AXE): | $(BIN)/python
	@$(call install,$(BIN)/python,--no-deps --target $(AXE) axe-playwright-python==0.1.8)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo 'difuso needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --constraint constraints.txt uv || true  # then pip takes its place

# make quickstart   set up once, then run every stage on the built-in models
# make test         set up once, then the tests, on all cores;  make test ARGS="-m slow tests/sandbox" chooses among them
# make test-oldest  the tests with the oldest versions that pyproject.toml allows, in .venv-oldest; make test-newest: the newest
# make test-vllm    set up vLLM in an environment of its own, then its tests (slow)
# make check        set up once, then lint, types, import order and the wheel
# make real-model   the method on a small pretrained model, hours on two cores, in pieces; the same command continues
# make docs         set up once, then write pages of every module to build/api
# Chosen by the environment: PYTHON, VENV, THOR_TORCH (docs/install.md says what each does), JOBS (processes of the tests).

VENV ?= .venv
ARGS ?=
# One process more than there are cores: tests of kills, limits and servers wait for much of their time.
JOBS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
export VENV

# OpenMP threads that spin while they wait slow each other down several times over on a busy machine.
export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 0
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help setup quickstart real-model test test-oldest test-newest test-vllm check docs
.DEFAULT_GOAL := help

help:
	@sed -n '/^$$/q; s/^# //p' Makefile

setup:
	@scripts/setup

quickstart: setup
	$(VENV)/bin/thor quickstart $(ARGS)

# A stage that needs more than MINUTES in one call ends the call; TABLES="ladder gsm8k" ARGS="--data FOLDER" asks GSM8K too.
MINUTES ?= 60
TABLES ?= ladder
real-model: setup
	$(VENV)/bin/thor model get smollm2-135m
	PYTHONPATH=tools $(VENV)/bin/python -m real_model
	$(VENV)/bin/thor reproduce $(TABLES) --model smollm2-135m --seeds 2 --minutes $(MINUTES) $(ARGS)

# Tiny models gain nothing from a second thread, and nothing in the default tests may reach for a model hub.
test test-oldest test-newest check: export OMP_NUM_THREADS ?= 1
test test-oldest test-newest check: export HF_HUB_OFFLINE ?= 1

test: setup
	$(VENV)/bin/python -m pytest -n $(JOBS) $(ARGS)

test-oldest: export THOR_RESOLUTION = lowest-direct
test-oldest: VENV = .venv-oldest
test-newest: export THOR_RESOLUTION = highest
test-newest: VENV = .venv-newest
test-oldest test-newest: setup
	$(VENV)/bin/python -m pytest -n $(JOBS) $(ARGS)

check: setup
	@scripts/check

# Made from docstrings and not kept: they change with every line.
docs: setup
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	$(VENV)/bin/python scripts/api_pages.py build/api

# vLLM lives in an environment of its own (docs/vllm.md); set THOR_VLLM_PYTHON to use another one that has it.
VLLM_VENV ?= .venv-vllm
test-vllm: export THOR_VLLM_PYTHON ?= $(CURDIR)/$(VLLM_VENV)/bin/python
test-vllm: setup
	@scripts/setup_vllm "$(THOR_VLLM_PYTHON)"
	$(VENV)/bin/python -m pytest -n 0 -m vllm tests/engines $(ARGS)

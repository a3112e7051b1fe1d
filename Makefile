# Every command runs in .venv, which `make setup` fills from constraints.txt; later runs skip that.
SHELL := /bin/bash
.DEFAULT_GOAL := help
EXPERIMENT ?= mini
CLUSTER ?= slurm
ABLATION ?= method
ARGS ?=
PYTHON ?= python3
BIN := .venv/bin
# Applies to build environments too, so that nothing pulls in another torch.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup reproduce prepare report published test lint bench bench-peers plan tune ablate results keep demo \
    submit status cancel test-slurm clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F ':.*?## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: .venv/.installed ## Make .venv and install everything (once)

.venv/.installed: constraints.txt pyproject.toml
	@echo "Setting up .venv (once; a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet torch
	@$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

reproduce: setup ## Run a whole experiment: EXPERIMENT=mini ARGS='seeds=[1,2,3]'
	@DIE_WITH_PARENT=1 $(BIN)/python scripts/reproduce.py experiment=$(EXPERIMENT) $(ARGS)

prepare: setup ## Only the data of an experiment
	@$(BIN)/python prepare.py experiment=$(EXPERIMENT) $(ARGS)

report: setup ## Only the report of an experiment, from what is there
	@$(BIN)/python scripts/report.py experiment=$(EXPERIMENT) $(ARGS)

published: setup ## The paper's published models on its zero-shot tasks: ARGS='limit=100 models_dir=DIR'
	@$(BIN)/python scripts/published.py $(ARGS)

test: setup ## Lint, types and all tests; offline
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy
	@$(BIN)/pytest $(ARGS)

lint: setup ## Format and lint
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

bench: setup ## Ours and a peer side by side, into outputs/bench: ARGS=transfer for one part
	@$(BIN)/python -m clp_transfer.bench $(ARGS)

bench-peers: setup ## Install the transfer bench's peers, each in an environment of its own
	@$(BIN)/python -m clp_transfer.bench.peers install

plan: setup ## What an experiment's training needs and takes on common GPUs: estimates
	@$(BIN)/python scripts/plan.py experiment=$(EXPERIMENT) $(ARGS)

tune: setup ## Find every arm's peak rate: the same three values, a short run each
	@$(BIN)/python scripts/tune.py experiment=$(EXPERIMENT) $(ARGS)

ablate: setup ## Answer one question by varying one thing: ABLATION=vocabulary (see configs/ablation)
	@$(BIN)/python scripts/ablate.py experiment=$(if $(filter mini,$(EXPERIMENT)),mini-ablations,$(EXPERIMENT)) \
	    ablation=$(ABLATION) $(ARGS)

results: setup ## Make every table and figure of README and docs anew from what lies in results/
	@$(BIN)/python -m clp_transfer.report.publish

keep: setup ## Keep an experiment's numbers in results/, then the same
	@$(BIN)/python -m clp_transfer.report.publish outputs/$(EXPERIMENT) results/$(EXPERIMENT)

demo: setup ## Compare what models write on a local page: ARGS='--port 7861' or ARGS='--model a=folder --model b=folder'
	@$(BIN)/python -c 'import importlib.util as u, sys; sys.exit(not u.find_spec("gradio"))' || \
	    { echo "Installing the demo's library (once)"; $(BIN)/python -m pip install --quiet --editable '.[demo]'; }
	@$(BIN)/python scripts/demo.py outputs/$(EXPERIMENT) $(ARGS)

submit: setup ## Submit an experiment's steps to SLURM: CLUSTER=slurm ARGS=dry_run=true to see the scripts
	@$(BIN)/python scripts/submit.py experiment=$(EXPERIMENT) cluster=$(CLUSTER) $(ARGS)

status: setup ## Where an experiment's SLURM jobs are
	@$(BIN)/python scripts/status.py experiment=$(EXPERIMENT) $(ARGS)

cancel: setup ## Cancel an experiment's SLURM jobs
	@$(BIN)/python scripts/cancel.py experiment=$(EXPERIMENT) $(ARGS)

test-slurm: setup ## Install Debian's SLURM if it is not there, and test on it: interrupt, requeue, resume
	@export PATH="$$PATH:/usr/sbin"; \
	    (for name in munged slurmctld slurmd; do command -v $$name || exit 1; done) >/dev/null || \
	    { [ "$$(id -u)" = 0 ] && apt-get install -y slurm-wlm munge || sudo apt-get install -y slurm-wlm munge; } || \
	    { echo "SLURM cannot be installed here: that takes root and Debian or Ubuntu (apt-get install slurm-wlm munge)"; \
	    exit 1; }
	@CLP_TEST_SLURM=1 $(BIN)/pytest -rs tests/cluster $(ARGS)

clean: ## Remove results (fetched files and .venv stay)
	rm -rf outputs

# Two commands to know: `make demo` runs the whole pipeline, `make test` runs the tests. Both set up .venv first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
RUN ?= runs/demo

HOST ?= 127.0.0.1
CHECKPOINT ?= runs/demo/classifier
SERVE_FLAGS ?=
APP_PORT ?= 8501
APP_FLAGS ?=
NODES ?= 3
CLUSTER_STATE ?= runs/cluster-local

.PHONY: demo test fast acceptance lint install serve app cluster-local cluster-local-stop clean help
help:
	@echo "make demo        install into .venv and run the whole pipeline on simulated ECGs (output: $(RUN))"
	@echo "make test        lint, types and the fast tests"
	@echo "make acceptance  the slow tests: kills, full recordings (minutes to an hour)"
	@echo "make install     what running needs, without the tools of development"
	@echo "make serve       the HTTP service on port 8000 (CHECKPOINT=$(CHECKPOINT) HOST=$(HOST))"
	@echo "make app         the diagnosis app on port $(APP_PORT) and the service together (CHECKPOINT=$(CHECKPOINT))"
	@echo "make cluster-local       a cluster of $(NODES) nodes on this machine, to submit jobs to"
	@echo "make cluster-local-stop  ends it"
	@echo "make clean       remove .venv and the demo's output"

# The stamp is newer than what decides what is installed, so that set-up happens once and again when that changes.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $(VENV)/.usable $@

demo: $(VENV)/.installed
	$(BIN)/python -m jobs.demo --output $(RUN)

# Types take a minute and a half of one core: beside the tests, not before them.
test: $(VENV)/.installed
	$(MAKE) --no-print-directory -j2 lint fast

fast: $(VENV)/.installed
	$(BIN)/python -m pytest

acceptance: $(VENV)/.installed
	$(BIN)/python -m pytest -m slow --timeout 3600 --durations 0 -s

# Without the tools of development: for containers, and for machines that only serve.
install:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-cache-dir -c constraints.txt -e .
	@touch $(VENV)/.usable

# Installed to its end, in either way, since the last change of what decides what is installed.
$(VENV)/.usable: pyproject.toml constraints.txt
	$(MAKE) $(VENV)/.installed
	@touch $@

# exec: so that the signals that end the service reach it.
serve: $(VENV)/.usable
	exec $(BIN)/python -m serve --checkpoint $(CHECKPOINT) --host $(HOST) $(SERVE_FLAGS)

# Ctrl-C ends both.
app: $(VENV)/.usable
	exec $(BIN)/python -m serve.diagnosis --checkpoint $(CHECKPOINT) --port $(APP_PORT) $(APP_FLAGS)

cluster-local: $(VENV)/.usable
	$(BIN)/python deploy/local_cluster.py start --nodes $(NODES) --state $(CLUSTER_STATE)

cluster-local-stop:
	$(BIN)/python deploy/local_cluster.py stop --state $(CLUSTER_STATE)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) runs/demo

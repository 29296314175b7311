# Everything runs from .venv, made here from the lock. Needs python3 (3.11 to 3.13), pip and make.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help demo dev test lint types unit bench bench-quick prove prove-quick prove-worlds slow plots lock clean stop

help:
	@echo "make demo         sync two simulated vendors through Dagster, verify, print a table"
	@echo "make dev          simulator and Dagster UI on http://127.0.0.1:3000, sensors running"
	@echo "make test         lint, types, architecture and all tests"
	@echo "make bench        speed beside dlt and a raw script (bench-quick: three minutes)"
	@echo "make prove        limits, outages, tokens and freshness at size, after the long simulations (prove-quick: three minutes)"
	@echo "make slow         tests that simulate for long (half an hour)"
	@echo "make prove-worlds freshness in each of 96 simulated worlds (hours)"
	@echo "make plots        the pictures of docs/ from simulation and a real run (two minutes)"
	@echo "make stop         stop the embedded Postgres;  make clean: forget all local data"

.venv/installed: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing from requirements.lock (about two minutes the first time)"
	@"$(BIN)/python" -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	@"$(BIN)/python" -m pip install --quiet --no-deps --editable .
	@touch $@

demo: .venv/installed
	@"$(BIN)/sync-pipeline" demo

dev: .venv/installed
	@"$(BIN)/sync-pipeline" dev

test: .venv/installed lint types unit

lint: .venv/installed
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/lint-imports"
	"$(BIN)/dg" check toml
	"$(BIN)/dg" check yaml

types: .venv/installed
	"$(BIN)/mypy"

unit: .venv/installed
	"$(BIN)/python" -m pytest -q -n 2 --dist loadfile

bench: .venv/installed
	@"$(BIN)/python" -m sync_pipeline_tests.benchmarks.run

bench-quick: .venv/installed
	@"$(BIN)/python" -m sync_pipeline_tests.benchmarks.run --quick

# The JSON stays the last line, and comes whatever the long tests say: they write to stderr, and count in the exit code.
prove: .venv/installed
	@"$(BIN)/python" -m sync_pipeline_tests.prove.run

slow: .venv/installed
	"$(BIN)/python" -m pytest -q -n 2 -m slow sync_pipeline_tests/simulation

prove-worlds: .venv/installed
	@"$(BIN)/python" -m sync_pipeline_tests.prove.run --only freshness --every-world

prove-quick: .venv/installed
	@"$(BIN)/python" -m sync_pipeline_tests.prove.run --quick

plots: .venv/installed
	@"$(BIN)/python" -m sync_pipeline_tests.prove.plots

lock:
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@"$(BIN)/python" -m pip install --quiet uv
	UV_PYTHON_DOWNLOADS=never "$(BIN)/uv" pip compile -q --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --no-strip-extras --universal --python-version 3.11 pyproject.toml --all-extras -o requirements.lock

stop:
	@"$(BIN)/sync-pipeline" stop

clean:
	-@"$(BIN)/sync-pipeline" stop
	rm -rf data/postgres data/landing data/reports data/demo

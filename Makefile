# Everything here sets up what it needs itself: .venv, from uv.lock and PyPI. A second run starts at once.

DEMO_SECONDS ?= 90
export DEMO_SECONDS

BIN := .venv/bin
SYNC := $(BIN)/uv sync --quiet --frozen --inexact --extra edge --extra cloud --extra sim --extra certs
RUNS := .venv/.synced-to-run
KAFKA := .venv/.synced-to-run-kafka
STACK := .venv/.synced-to-run-stack
TESTS := .venv/.synced-to-test

.DEFAULT_GOAL := help
.PHONY: help demo demo-kafka demo-stack test check bench fault mutants dashboards clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/make \1|\2/p' Makefile | while IFS='|' read -r name what; do printf '%-15s %s\n' "$$name" "$$what"; done

demo: $(RUNS) ## devices, agent, cloud side and audit on this machine; DEMO_SECONDS=90, DEMO_TAMPER=1 to see the audit fail
	@$(BIN)/headwater demo

demo-kafka: $(KAFKA) ## the same on a real Kafka: 200 devices, four agents, two workers; needs Java 17 and Maven, takes 1 GB of memory
	@$(BIN)/headwater demo --kafka

demo-stack: $(STACK) ## the same, real time, with Mosquitto before it and InfluxDB, Prometheus and Alertmanager behind it; takes 1 GB of memory
	@deploy/stack.sh
	@$(BIN)/headwater demo --stack

test: $(TESTS) ## every test but the long runs of `make fault`, 18 minutes on two cores; ARGS="-k settings" to choose
	@tests/parts.sh
	$(BIN)/python -m pytest --durations=5 $(or $(ARGS),-n 2 --dist loadfile)

check: $(TESTS) ## ruff, its formatter, mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(TESTS) ## speed and size beside a baseline, into tests/bench/results/
	@tests/parts.sh
	$(BIN)/python -m tests.bench.run $(ARGS)

fault: $(TESTS) ## the long runs: kills, cuts, full disks, searches for new counterexamples
	@tests/parts.sh
	@rm -f .fault.jsonl
	HYPOTHESIS_PROFILE=explore HEADWATER_RECORDED=$(CURDIR)/.fault.jsonl $(BIN)/python -m pytest -m fault -o faulthandler_timeout=7200 --durations=5 $(ARGS); \
	failed=$$?; $(BIN)/python -m tests.fault.report .fault.jsonl && exit $$failed

mutants: $(TESTS) ## each mechanism of promise 1 switched off in turn: its test must notice; ARGS="retained" to choose
	$(BIN)/python -m tests.fault.mutants $(ARGS)

dashboards: $(TESTS) ## Grafana's dashboards, made anew from deploy/grafana/headwater_dashboards
	@PYTHONPATH=deploy/grafana $(BIN)/python -m headwater_dashboards

clean: ## take away what was built and cached; .venv and headwater-data/ stay
	rm -rf build dist .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

$(RUNS): uv.lock pyproject.toml deploy/venv.sh
	@deploy/venv.sh
	@echo "headwater: installing what uv.lock names"; $(SYNC) --no-dev
	@touch $@

$(KAFKA): $(RUNS)
	@echo "headwater: installing the clients of Kafka"; $(SYNC) --extra kafka --extra quix --no-dev
	@touch $@

$(STACK): $(KAFKA)
	@echo "headwater: installing the client of InfluxDB"; $(SYNC) --extra kafka --extra quix --extra influx --no-dev
	@touch $@

$(TESTS): uv.lock pyproject.toml deploy/venv.sh Makefile
	@deploy/venv.sh
	@echo "headwater: installing what uv.lock names"; $(SYNC) --extra parquet --extra river --extra onnx --extra kafka --extra quix --extra influx --extra otel --group dev
	@touch $(RUNS) $(KAFKA) $(STACK) $@

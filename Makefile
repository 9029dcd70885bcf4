# Every target that needs it sets up .venv by itself when it is missing or older than what it is made from.

PYTHON ?= python3
STUDY ?= demo
UI_PORT ?= 5000
READY := .venv/ready
RUN := .venv/bin/python -m

.PHONY: help study report gsc-atlas ui bench test test-slow test-faults test-coverage check clean

study: $(READY)  ## run the demo study end to end; prints where to look
	@$(RUN) study run demo; status=$$?; \
	    if [ $$status -gt 1 ]; then exit $$status; fi; \
	    $(RUN) analysis run-figures demo && $(RUN) analysis report demo && exit $$status

report: $(READY)  ## write reports/$(STUDY)/index.html from MLflow
	$(RUN) analysis report $(STUDY)

ui: $(READY)  ## serve the MLflow pages of studies/ on this machine alone
	MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false .venv/bin/mlflow ui --workers 1 \
	    --host 127.0.0.1 --port $(UI_PORT) --backend-store-uri "sqlite:///$(CURDIR)/studies/mlflow.db"

gsc-atlas: $(READY)  ## measure explosion rates of every activation and normalization beside theory, into docs/
	$(RUN) study atlas --output docs/gsc_atlas.csv
	$(RUN) analysis atlas docs/gsc_atlas.csv --table docs/gsc_atlas.md --figure docs/figures/gsc_atlas.png

bench: $(READY)  ## speed beside what people run today, on this machine; docs/speed.md
	$(RUN) benchmarks

test: $(READY)  ## the whole suite, two files at a time
	$(RUN) pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(READY)  ## what takes longer than the suite may
	$(RUN) pytest -m slow --ignore tests/faults

test-faults: $(READY)  ## kill drivers, workers, nodes and servers, fill disks; about half an hour (PostgreSQL: as root)
	$(RUN) pytest -m slow -s tests/faults

test-coverage: $(READY)  ## how often 95% intervals hold the truth of simulated studies (minutes); prints the shares
	$(RUN) pytest -m slow -k cover -rP tests/test_explosion_rates.py tests/test_trainable_depth.py tests/test_tradeoff.py

check: $(READY)  ## format, lint, types, import directions
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	$(RUN) pytest tests/test_import_directions.py

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 15

clean:  ## remove the environment and caches; studies, reports and data stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -not -path "./data/*" -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@echo "Setting up .venv: gigabytes, and some minutes in which pip is silent"
	rm -rf .venv
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

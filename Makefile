# Everything a user or CI runs. `make demo` and `make test` set up what they need on a fresh Debian or Ubuntu machine.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: demo test check types bench format clean schema lock

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check
LOCK := $(BIN)/uv pip compile --quiet $(UPGRADE) --generate-hashes --no-annotate --no-header --python-version 3.11 pyproject.toml
PACKAGES := probes journeys exporters slo chaos harness demo

# Debian names of what the commands need; the value after the colon is a program that proves it is there.
DEMO_PARTS := chromium:chromium +chromium-headless-shell:chromium-headless-shell
PLUGINS := /usr/lib/nagios/plugins
TEST_PARTS := chromium:chromium +chromium-headless-shell:chromium-headless-shell prometheus:prometheus prometheus-alertmanager:prometheus-alertmanager \
	prometheus-blackbox-exporter:prometheus-blackbox-exporter nginx-light:nginx bind9:named bind9-utils:dnssec-signzone \
	postgresql:pg_createcluster mariadb-server:mariadbd redis-server:redis-server rabbitmq-server:rabbitmqctl \
	nats-server:nats-server exim4-daemon-light:exim4 dovecot-imapd:dovecot iproute2:ip \
	stress-ng:stress-ng haproxy:haproxy faketime:faketime nftables:nft mount:mount iputils-ping:ping \
	ffmpeg:ffmpeg monitoring-plugins-basic:$(PLUGINS)/check_tcp

# Three processes for two cores: whoever tests the whole program mostly waits. Tests that judge times which other work would
# change (the mark `alone`) have the machine for themselves afterwards; only their files are read then, all would take ten seconds.
WORKERS := $(shell expr $$(nproc) \* 3 / 2)
# Tests start Python some thousand times: what is compiled once is kept, whatever the environment asks for.
unexport PYTHONDONTWRITEBYTECODE

demo: $(VENV)/installed-demo
	@bash .ci/parts $(DEMO_PARTS)
	$(BIN)/stormwatch demo

test: check
	@bash .ci/parts $(TEST_PARTS)
	PATH="$$PATH:/usr/sbin" $(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not alone"
	PATH="$$PATH:/usr/sbin" $(BIN)/pytest -m alone $$(grep --recursive --files-with-matches --include='test_*.py' 'mark\.alone' tests)

check: $(VENV)/installed-dev types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd build/types && $(abspath $(BIN))/lint-imports --config $(CURDIR)/pyproject.toml

# The folders stand at the top but are imported as stormwatch.*: a tree of links shows the type checker that shape.
types: $(VENV)/installed-dev
	@mkdir -p build/types/stormwatch
	@for package in $(PACKAGES); do ln -sfn ../../../$$package build/types/stormwatch/$$package; done
	@for module in $(notdir $(wildcard stormwatch/*.py)); do ln -sfn ../../../stormwatch/$$module build/types/stormwatch/$$module; done
	$(BIN)/basedpyright

bench: $(VENV)/installed-dev
	@bash .ci/parts $(TEST_PARTS)
	PATH="$$PATH:/usr/sbin" $(BIN)/python -m bench

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: $(VENV)/installed-dev
	$(BIN)/stormwatch schema > config/stormwatch.schema.json

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@bash .ci/parts python3-venv:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed-demo: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(INSTALL) --require-hashes -r requirements.lock
	$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/installed-dev: requirements-dev.lock $(VENV)/installed-demo
	$(INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

# Versions and hashes of everything that is installed, from pyproject.toml; `make lock UPGRADE=--upgrade` takes the newest.
lock:  $(VENV)/bin/python
	$(INSTALL) uv
	$(LOCK) --extra build -o requirements.lock
	$(LOCK) --extra build --extra dev --extra all -o requirements-dev.lock

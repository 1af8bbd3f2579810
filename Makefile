# `make demo` shows it, `make test` proves it. Both install what they miss on a Debian machine that has Rust, make,
# Node and Python; when everything is there they go straight to work.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

CARGO := cargo
BIN := target/debug/tollhouse
STAMPS := target/setup
TOOLS := $(STAMPS)/tools/bin
E2E := tests/e2e
MANIFESTS := $(wildcard deploy/kubernetes/*.yaml)

.PHONY: help demo test lint unit replicas e2e deploy-check bench simulate soak fuzz build native postgres neighbours

help: ## Say what can be made
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 16

demo: native ## A sample API, a gateway with play money and one paid call, in one process
	@$(CARGO) run --quiet --locked -- demo

test: lint unit e2e deploy-check ## Everything CI runs

lint: native $(STAMPS)/tools.stamp ## Format, clippy, licences and sources of dependencies
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	tests/setup/deny.sh $(TOOLS)/cargo-deny

unit: native postgres neighbours $(STAMPS)/npm.stamp ## All Rust tests, doc tests included
	$(CARGO) test --locked

ROUNDS ?= 1000
replicas: native postgres ## Fire each of ROUNDS=1000 payments 64-fold at two gateways on one PostgreSQL
	ROUNDS=$(ROUNDS) $(CARGO) test --locked --test replicas -- s2_s5

e2e: build $(STAMPS)/npm.stamp $(STAMPS)/python.stamp ## Stock x402 clients against the real binary on a local chain
	cd $(E2E) && TOLLHOUSE_BIN=$(abspath $(BIN)) node --test --test-timeout=900000 --test-reporter=spec run.mjs grpc.mjs

deploy-check: build $(STAMPS)/tools.stamp ## Manifests, the configuration inside them, the Dockerfile
	PATH="$(abspath $(TOOLS)):$$PATH" tests/setup/deploy-check.sh $(abspath $(BIN)) $(MANIFESTS)

RIVALS := benches/overhead/express

bench: native rivals $(RIVALS)/node_modules/.package-lock.json ## Benchmarks, in the release profile
	$(CARGO) bench --locked

# Variables of the command line reach the test by themselves. Only our own code is built anew; its dependencies are
# optimised in any case, and overflow is still noticed.
simulate: native ## Schedules of crashes, lies and lost answers: SEEDS=100000 FIRST=0, or SEED=N for one in words
	$(CARGO) test --locked --config profile.dev.opt-level=3 --test simulation -- --ignored --nocapture as_many_schedules_as_asked_for

MINUTES ?= 10
soak: native ## Everything at once with faults, for MINUTES=10, against the real binary
	MINUTES=$(MINUTES) $(CARGO) test --locked --test soak -- --nocapture

TARGET := payment_v2
SECONDS := 60
FUZZ := tests/fuzz

fuzz: native $(STAMPS)/cargo-fuzz.stamp ## Look for bytes that break a decoder: TARGET=payment_v2 SECONDS=60
	@mkdir -p $(FUZZ)/found/$(TARGET)
	PATH="$(abspath $(STAMPS))/cargo-fuzz/bin:$$PATH" RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --fuzz-dir $(FUZZ) \
	    --sanitizer none $(TARGET) $(FUZZ)/found/$(TARGET) $(FUZZ)/corpus/$(TARGET) -- \
	    -max_total_time=$(SECONDS) -max_len=20000 -timeout=10 -rss_limit_mb=1024

build: native ## The gateway, in the profile the tests use
	$(CARGO) build --locked

# ---- what has to be there first; each step is skipped when nothing it depends on has changed

# zlib-ng, in Pingora's tree, is built with cmake, and crypto needs a C compiler. Looking costs nothing, so no stamp.
native:
	@tests/setup/debian.sh cc:gcc cc:libc6-dev cmake:cmake

# Tests start a server of their own; nothing of Debian's is used but the programs.
postgres:
	@tests/setup/debian.sh postgresql:postgresql

# What the gateway is measured beside.
.PHONY: rivals
rivals:
	@PATH="$$PATH:/usr/sbin" tests/setup/debian.sh nginx:nginx-light haproxy:haproxy

$(RIVALS)/node_modules/.package-lock.json: $(RIVALS)/package.json $(RIVALS)/package-lock.json $(RIVALS)/.npmrc
	cd $(@D)/.. && npm ci --ignore-scripts --no-progress

# Software of others that stands before the gateway or behind it, and clients.
neighbours:
	@PATH="$$PATH:/usr/sbin" tests/setup/debian.sh nginx:nginx-light haproxy:haproxy caddy:caddy nghttp:nghttp2-client h2load:nghttp2-client

# libFuzzer is C++.
$(STAMPS)/cargo-fuzz.stamp:
	@tests/setup/debian.sh c++:g++
	$(CARGO) install --locked --quiet cargo-fuzz --version 0.13.2 --root $(STAMPS)/cargo-fuzz
	@touch $@

$(STAMPS)/npm.stamp: $(E2E)/package.json $(E2E)/package-lock.json $(E2E)/.npmrc
	cd $(E2E) && npm ci --ignore-scripts --no-progress
	@mkdir -p $(@D) && touch $@

$(STAMPS)/python.stamp: $(E2E)/requirements.txt $(E2E)/constraints.txt
	@tests/setup/debian.sh python-venv:python3-venv
	tests/setup/venv.sh $(E2E)/.venv $(E2E)/requirements.txt
	@mkdir -p $(@D) && touch $@

$(STAMPS)/tools.stamp: tests/setup/tools.txt
	@tests/setup/debian.sh python-venv:python3-venv
	@mkdir -p $(@D)
	tests/setup/venv.sh $(STAMPS)/tools tests/setup/tools.txt
	@touch $@

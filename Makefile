# `make demo` shows it working, `make test` checks it; both set up what they need first. `make help` lists the rest.
#
# Everything that is built shares one target folder (target/, or CARGO_TARGET_DIR).

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-large fuzz bench bench-large bench-start fmt lint build build-local deploy image clean-local

bin := .venv/bin
export SAM_CLI_TELEMETRY := 0

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what is missing (Debian packages as root, Python tools in a cache folder)
	@scripts/setup

demo: setup ## deploy to a local AWS and watch files arrive, fall back and come back; ENGINE=postgres for PostgreSQL
	@scripts/deploy-local --build-only
	@cargo build --quiet --locked --workspace --bins --tests # as the tests have it, so that nothing is built twice
	@"$${CARGO_TARGET_DIR:-target}/debug/demo" $(ENGINE)

test: ## everything that must hold: format, lints, docs, template, tests
	@scripts/setup test
	@scripts/check

test-large: build-local ## a file of ten gigabytes, decompressed, through the task
	@scripts/setup test
	cargo nextest run --profile fuzz --workspace --locked --run-ignored only

fuzz: ## the core's property tests with inputs of their own each time; CASES=2000 for each by default
	@scripts/setup test
	PROPTEST_CASES="$(or $(CASES),2000)" cargo nextest run --profile fuzz --workspace --locked -E 'package(spillway-core)'

# TASK=PATH takes a task that is built already; ROWS=COUNT tries it out with small files and writes nothing down.
bench: $(if $(TASK),setup,build-local) ## Spillway beside the bulk loaders, into docs/benchmarks.md; SET=orders-1m,small (or all) ENGINE=... ROUNDS=...
	@scripts/setup bench
	@cargo build --quiet --locked --workspace --bins --tests
	@target="$${CARGO_TARGET_DIR:-target}"; RUST_LIB_BACKTRACE=0 "$$target/debug/bench" task="$(or $(TASK),$$target/lambda/spillway-task/bootstrap)" \
	  set=$(SET) engine=$(ENGINE) rounds=$(ROUNDS) rows=$(ROWS)

bench-large: $(if $(TASK),setup,build-local) ## one transaction beside a staging table, and a kill in it, into docs/large-files.md; TASK and ROWS as above
	@scripts/setup test
	@cargo build --quiet --locked --workspace --bins --tests
	@target="$${CARGO_TARGET_DIR:-target}"; RUST_LIB_BACKTRACE=0 "$$target/debug/bench" large="$(or $(TASK),$$target/lambda/spillway-task/bootstrap)" rows=$(ROWS)

bench-start: setup ## the functions' size, their first answer, the memory of an inline load, into docs/start.md (slow: link-time optimisation)
	@cargo build --quiet --locked --release -p spillway-trigger -p spillway-ingest --bins --example hello
	@cargo build --quiet --locked --workspace --bins --tests
	@target="$${CARGO_TARGET_DIR:-target}"; RUST_LIB_BACKTRACE=0 "$$target/debug/bench" start="$$target/release"

fmt: ## format the code
	cargo fmt --all

lint: setup ## lints, docs and template only
	@scripts/check lint

build: setup ## build the functions as they are deployed (slow: link-time optimisation)
	PATH="$$PWD/$(bin):$$PATH" sam build

build-local: setup ## build functions and task for this machine's tests and demo
	@scripts/deploy-local --build-only

deploy: build ## deploy to AWS, asking for the parameters
	PATH="$$PWD/$(bin):$$PATH" sam deploy --guided

image: ## build the Fargate task's image and say how to push it
	@scripts/image

clean-local: ## remove what local builds and deployments left (not the target folder)
	rm -rf .aws-sam .local

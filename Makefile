# `make demo` shows Spillway at work, `make test` checks it. Both install what they need. `make help` lists the other targets.
#
# All builds share one target folder (target/, or CARGO_TARGET_DIR). Demo, tests and the local deployment run the same binaries
# (build-local), so cargo compiles each dependency once.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup tools demo quick test test-large test-stack test-mysql test-glue test-browser fuzz fuzz-decoders bench bench-large bench-inline bench-sync bench-idle-sync bench-diff compare-results bench-start sabotage docs fmt lint build build-local build-demo build-optimized deploy image clean-local faults soak

bin := .venv/bin
target := $(or $(CARGO_TARGET_DIR),target)
export SAM_CLI_TELEMETRY := 0

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what is missing (Debian packages as root, Python tools in a cache folder)
	@scripts/setup

tools: ## install what `sam build` and `sam deploy` need (SAM CLI, cargo-lambda, Zig), without the databases of the tests
	@scripts/setup tools

demo: build-demo ## deploy to a local AWS, load files, stop the database, replay; ENGINE=postgres for PostgreSQL
	@$(target)/debug/demo $(ENGINE)

quick: ## check what you changed: format, lints and unit tests of the changed crates (BASE=BRANCH to compare with; main)
	@scripts/quick

test: ## check everything: format, lints, docs, template, tests
	@scripts/setup test
	@scripts/check

test-large: build-optimized ## load a file of 10 GB, decompressed, with the task
	@scripts/setup test
	cargo nextest run --profile fuzz --workspace --locked --run-ignored only -E 'test(ten_gigabyte)'

test-stack: ## run the tests of the deployed stack, also the long ones: a night, a burst, two stacks, more combinations of parameters
	@scripts/setup test
	cargo nextest run --profile fuzz --workspace --locked --run-ignored all -E 'package(spillway-tests) & test(/^deploy::/)'

test-mysql: build-local ## run all tests of MariaDB on real MySQL, which is downloaded (200 MB)
	@scripts/setup test
	@scripts/setup-mysql $(or $(MYSQL),)
	SPILLWAY_TEST_MYSQL="$(or $(MYSQL),$${XDG_CACHE_HOME:-$$HOME/.cache}/spillway/mysql)" cargo nextest run --workspace --locked -E 'package(spillway-tests) and test(/^(engines::(mysql|column_types|random)|load::|fallback::|crash::|cli::)/) - test(/[Pp]ostgres/)'

test-browser: ## look at the report page in Chromium: 10 and 10,000 runs, three widths, light and dark (installs Chromium)
	@scripts/setup browser
	cargo nextest run --workspace --locked --run-ignored only -E 'test(/cli::browser/)'

# The job is compared with the task in $(target)/debug.
test-glue: build-local ## run the Glue job with Spark, MariaDB and PostgreSQL: cells, duplicates, kill -9, bad values (400 MB; ten minutes); ROWS=1000000 ONLY=killed
	@scripts/setup glue
	.venv-glue/bin/python tests/glue/run.py --ministack .venv/bin/ministack --target "$(target)" --rows "$(or $(ROWS),1000000)" --only "$(ONLY)"

# Each fault occurs in a run of its own, with its own schema and bucket. SEED and ONLY repeat a run: BATTERY=random ONLY=random/mariadb/Merge SEED=17 RUNS=1
faults: build-local ## kill, halt and cut off workers for SECONDS=3000, then count every row; BATTERY=points,responses,random,wire,concurrency RUNS=... SEED=...
	@scripts/setup test
	@RUST_LIB_BACKTRACE=0 $(target)/debug/faults battery="$(BATTERY)" seconds="$(SECONDS)" runs="$(RUNS)" seed="$(SEED)" only="$(ONLY)" at_once="$(AT_ONCE)"

soak: build-local ## load many files with warm functions for SECONDS=1200, and measure memory, descriptors and connections
	@scripts/setup test
	@RUST_LIB_BACKTRACE=0 $(target)/debug/faults battery=soak seconds="$(or $(SECONDS),1200)" seed="$(SEED)"

fuzz: ## run the property tests with new inputs; CASES=2000 for each by default
	@scripts/setup test
	PROPTEST_CASES="$(or $(CASES),2000)" cargo nextest run --profile fuzz --workspace --locked -E 'package(spillway-core) + package(spillway-formats)'

sabotage: setup ## remove each guard of the promise in a copy of the source; a test must fail each time (compiles once)
	@scripts/setup test
	@scripts/sabotage $(GUARDS)

fuzz-decoders: ## fuzz the decoders with coverage guidance, with a nightly compiler; SECONDS=60 for each by default
	@scripts/fuzz $(or $(SECONDS),60)

# TASK=PATH uses a task that is already built. BASE=PATH compares it with another build, in the same rounds, and writes no pages. ROWS=COUNT makes a trial run with small files that writes no pages.
bench: $(if $(TASK),,build-optimized) build-local ## compare with the bulk loaders, into docs/benchmarks.md; SET=orders-1m,small (or all) ENGINE=... ROUNDS=...
	@scripts/setup bench
	@RUST_LIB_BACKTRACE=0 $(target)/debug/bench task="$(or $(TASK),$(target)/local/spillway-task)" \
	  terminal=$(if $(TASK),,$(target)/local/spillway) baseline=$(BASE) set=$(SET) engine=$(ENGINE) rounds=$(ROUNDS) rows=$(ROWS)

bench-large: $(if $(TASK),,build-optimized) build-local ## compare one transaction with a staging table, into docs/large-files.md; TASK and ROWS as above
	@scripts/setup test
	@RUST_LIB_BACKTRACE=0 $(target)/debug/bench large="$(or $(TASK),$(target)/local/spillway-task)" rows=$(ROWS)

bench-inline: $(if $(TASK),,build-optimized) build-local ## compare loads in the function and in a task, into docs/inline.md; LARGEST=MEGABYTES for a trial run
	@scripts/setup test
	@RUST_LIB_BACKTRACE=0 $(target)/debug/bench inline="$(or $(TASK),$(target)/local/spillway-task)" largest=$(LARGEST)

bench-sync: $(if $(TERMINAL),,build-optimized) build-local ## compare a sync of 300 files with \copy of the same files on PostgreSQL; ROWS=COUNT for all files together
	@scripts/setup test
	@RUST_LIB_BACKTRACE=0 $(target)/debug/bench sync="$(or $(TERMINAL),$(target)/local/spillway)" rows=$(ROWS)

bench-idle-sync: $(if $(TERMINAL),,build-optimized) build-local ## measure syncs that find nothing among 100,000 loaded objects; ROWS=COUNT for the objects
	@scripts/setup test
	@RUST_LIB_BACKTRACE=0 $(target)/debug/bench idle="$(or $(TERMINAL),$(target)/local/spillway)" rows=$(ROWS)

bench-diff: $(if $(TERMINAL),,build-optimized) build-local ## compare two exports of a million rows with `spillway diff`, and with a join in DuckDB; ROWS=COUNT
	@scripts/setup bench
	@RUST_LIB_BACKTRACE=0 $(target)/debug/bench diff="$(or $(TERMINAL),$(target)/local/spillway)" rows=$(ROWS)

compare-results: build-local ## load the files of a folder with this build and another one of the task, and compare tables and places; FILES=FOLDER BASE=PATH
	@scripts/setup test
	@RUST_LIB_BACKTRACE=0 $(target)/debug/bench results="$(or $(TASK),$(target)/debug/spillway-task)" baseline=$(BASE) files=$(FILES)

bench-start: build-local ## measure the functions' size, first response and memory, into docs/size.md (slow: link-time optimization)
	@cargo build --quiet --locked --release -p spillway-trigger -p spillway-ingest --bins --example hello
	@RUST_LIB_BACKTRACE=0 $(target)/debug/bench start=$(target)/release

docs: ## build the guide as a site in .book/ (compiles mdBook once), and check links
	@scripts/docs

fmt: ## format the code
	cargo fmt --all

lint: setup ## check format, lints, docs and template only
	@scripts/check lint

build: tools ## build the functions as they are deployed (slow: link-time optimization); ARCHITECTURE=arm64
	@scripts/build $(ARCHITECTURE)

# The example selects the features of the tests, so that cargo compiles no dependency again for them. The tests are not compiled here.
build-local: setup ## build what demo, tests and scripts/deploy-local run (dev profile)
	@cargo build --locked --workspace --bins --example hello $(if $(wildcard $(target)/debug/demo),--quiet)

# Without the command line and the benchmarks, which the demo does not run.
build-demo: setup
	@cargo build --locked --workspace --exclude spillway-cli --exclude spillway-bench --bins --example hello $(if $(wildcard $(target)/debug/demo),--quiet)

build-optimized: setup ## build the task and the command that the benchmarks measure (profile local)
	@cargo build --quiet --locked --profile local -p spillway-task -p spillway-cli

deploy: build ## deploy to AWS, asking for the parameters; ARCHITECTURE=arm64
	PATH="$$PWD/$(bin):$$PATH" sam deploy --guided

image: ## build the Fargate task's image, and print the commands that push it; ARCHITECTURE=arm64
	@scripts/image $(ARCHITECTURE)

clean-local: ## remove the files of local builds and deployments (not the target folder)
	rm -rf .aws-sam .local

# The one door to every task. `make help` lists them.

CARGO ?= cargo
PROFILE := --release
BIN := target/release
# Tests are built quickly, and optimised enough to run quickly.
QUICK := --profile quick

.DEFAULT_GOAL := help
.PHONY: help setup build demo test test-answers test-day chaos lint bench clean

help: ## List the tasks
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: ## Install what the tests need: redis-server, grpcurl, cargo-deny
	@scripts/setup

build: ## Build all binaries
	$(CARGO) build $(PROFILE) --workspace --bins

demo: ## Watch a fleet share keys for 75 s; REDIS=1 for two brokers on a private redis-server; ARGS="--help" for more
	@$(CARGO) build $(PROFILE) --quiet -p keybroker -p keybroker-tests --bins
	@$(BIN)/demo $(if $(REDIS),--redis) $(ARGS)

test: setup lint ## Run everything; installs what it needs
	$(CARGO) build $(QUICK) --workspace --bins
	$(CARGO) test $(QUICK) --workspace
	@$(MAKE) --no-print-directory test-day

test-answers: ## Play Google's 23 answers through everything and print the table
	@$(CARGO) build $(PROFILE) --quiet -p keybroker -p keybroker-tests --bins
	@$(BIN)/answers

test-day: setup ## Let a whole day go by in virtual time, on both days of the year with a change of daylight time
	$(CARGO) test $(QUICK) -p keybroker-tests --test day

chaos: setup ## Let fleets suffer SEEDS=12 chosen failures and check every promise; SEED=42 for one again; ARGS="--help"
	@$(CARGO) build $(QUICK) --quiet -p keybroker -p keybroker-tests --bins
	@target/quick/chaos $(if $(SEED),--seed $(SEED),$(if $(SEEDS),--seeds $(SEEDS))) $(ARGS)

lint: ## Formatting, lints, documentation, dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(QUICK) --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(QUICK) --workspace --no-deps --quiet
	@scripts/check-dependencies

bench: ## Measure against a tonic echo and raw Redis in one run; ARGS="--quick"
	@scripts/setup
	@$(CARGO) build $(PROFILE) --quiet -p keybroker -p keybroker-tests --bins
	@$(BIN)/bench $(ARGS)

clean: ## Remove what was built
	$(CARGO) clean

# The one door to every task. `make help` lists them.

CARGO ?= cargo
PROFILE := --release
BIN := target/release
# Tests are built quickly, and optimised enough to run quickly.
QUICK := --profile quick

.DEFAULT_GOAL := help
.PHONY: help setup build demo dist test test-answers test-apiserver test-day test-deploy test-exactness test-observe test-openapi test-page test-sdks docs docs-links docs-update lint bench overload fuzz clean sim chaos upgrade

help: ## List the tasks
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

setup: ## Install what the tests need: redis-server, haproxy, grpcurl, cargo-deny
	@scripts/setup

build: ## Build all binaries
	$(CARGO) build $(PROFILE) --workspace --bins

demo: ## Watch a fleet share keys; REDIS=1 for two brokers on a private redis-server; ARGS="--help" for more
	@$(CARGO) build $(PROFILE) --quiet -p keybroker --bins
	@$(BIN)/keybroker demo $(if $(REDIS),--redis) $(ARGS)

dist: ## Build all that is released into dist/, and check it: ARGS="--image" for images as well; ARGS="--help" for more
	@scripts/dist $(ARGS)

# Most tests wait for time to pass, so more of them run at once than there are processors. While lints compile, Cargo lets
# no test begin: those that ask it to begin come before them.
test: setup ## Run everything; installs what it needs
	$(CARGO) fmt --all --check
	$(CARGO) build $(QUICK) --workspace --all-targets
	RUST_TEST_THREADS=6 $(CARGO) test $(QUICK) --workspace
	@$(MAKE) --no-print-directory --jobs 3 --output-sync=target test-exactness test-day test-sdks lint test-page test-openapi test-observe test-deploy docs

test-exactness: setup ## Ask for more than the quota for three minutes, on each ledger, and count what was sent
	@$(CARGO) build $(QUICK) --quiet --workspace --all-targets
	$(CARGO) test $(QUICK) --workspace --test exactness -- --test-threads 5

test-sdks: ## Test the SDKs of Python, Go and JavaScript against the binaries of `make test`; each installs what it needs
	client-sdk/python/run-tests
	client-sdk/go/run-tests
	client-sdk/js/run-tests

test-page: ## Test the page in headless Chromium against the binaries of `make test`; installs what it needs
	tests/page/run-tests

test-openapi: ## Hold the REST API to its OpenAPI document, by requests made up from it; installs what it needs
	tests/openapi/run-tests

test-deploy: setup ## Render the Helm chart over a matrix of values and hold it to Kubernetes' schemas; installs what it needs
	tests/deploy/run-tests

test-apiserver: ## The same against a real kube-apiserver, which is built first (7 minutes); needs etcd-server and kubectl
	tests/deploy/run-apiserver-tests

test-observe: setup ## Play alerts, ask every query of the dashboard, run deploy/compose as processes; installs what it needs
	tests/observe/run-tests

docs: ## Build the book into target/book; a link or an anchor that leads nowhere fails. Installs what it needs
	docs/book/build

docs-links: ## Build the book, and ask for every external link whether it is there
	docs/book/build --links

docs-update: ## Write the tables of docs/configuration.md and docs/cli.md anew, from the code
	UPDATE_DOCS=1 $(CARGO) test $(QUICK) --workspace --test config_reference
	UPDATE_DOCS=1 $(CARGO) test $(QUICK) --workspace --test black_box the_page_tells_every_command

upgrade: ## Replace brokers under load, by another version and back: ARGS="--from OLD_BINARY"; ARGS="--help" for more
	@scripts/setup
	@$(CARGO) build $(PROFILE) --quiet -p keybroker -p keybroker-tests --bins
	@$(BIN)/upgrade $(ARGS)

test-answers: ## Play Google's 23 answers through everything and print the table
	@$(CARGO) build $(PROFILE) --quiet -p keybroker -p keybroker-tests --bins
	@$(BIN)/answers

test-day: setup ## Let a whole day go by in virtual time, on both days of the year with a change of daylight time
	$(CARGO) test $(QUICK) --workspace --test day

sim: ## Simulate a fleet in virtual time: SEED=7, SEEDS=1..1000, or SCALE=1 for 10,000 projects and a million workers
	@$(CARGO) build $(PROFILE) --quiet -p keybroker-tests --bin sim
	@$(BIN)/sim $(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(SCALE),--scale) $(ARGS)

chaos: setup ## Let fleets suffer SEEDS=12 chosen failures and check every promise; SEED=42 for one again; ARGS="--help"
	@$(CARGO) build $(QUICK) --quiet -p keybroker -p keybroker-tests --bins
	@target/quick/chaos $(if $(SEED),--seed $(SEED),$(if $(SEEDS),--seeds $(SEEDS))) $(ARGS)

lint: ## Formatting, lints, documentation, dependencies
	$(CARGO) fmt --all --check
	nice $(CARGO) clippy $(QUICK) --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" nice $(CARGO) doc $(QUICK) --workspace --no-deps --quiet
	@scripts/check-dependencies

bench: ## Measure against a tonic echo and raw Redis in one run; ARGS="--quick"
	@scripts/setup
	@$(CARGO) build $(PROFILE) --quiet -p keybroker -p keybroker-tests --bins
	@$(BIN)/bench $(ARGS)

overload: ## Ask a broker for five times its capacity for a minute, on each ledger; ARGS="--help" for more
	@scripts/setup
	@$(CARGO) build $(PROFILE) --quiet -p keybroker -p keybroker-tests --bins
	@$(BIN)/overload $(ARGS)

fuzz: ## Put hurt input to everything that reads what others wrote; CASES=1000000 for that many
	HOSTILE_CASES=$(or $(CASES),1000000) $(CARGO) test $(QUICK) --workspace --test hostile -- --nocapture

clean: ## Remove what was built
	$(CARGO) clean

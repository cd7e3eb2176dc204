# Everything a developer or CI runs. `make` alone lists the targets.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Two cargo commands at once would only wait for each other's lock.
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules

CONFIG ?= config.toml
# For each target.
FUZZ_SECONDS ?= 60
CHAOS_SEEDS ?= 50
# Further flags, such as "--clients 1500 --seconds-per-fault 10" or "--seed 17 --verbose".
CHAOS ?=
# Absolute, because the client tests run in their own folder.
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))

CLIENT := assets/client/node_modules/ci.stamp
JS_TESTS := js-client-tests/node_modules/ci.stamp
PYTHON := js-client-tests/.venv/ci.stamp

.PHONY: help run build dist test test-js bench chaos fuzz lint deny sbom fmt doc ci cargo npm python chromium redis nginx c++ cargo-deny cargo-cyclonedx

help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

run: $(CLIENT) | cargo ## Build the server and start it with the demo (CONFIG=config.toml)
	cargo run --release --locked -- serve --config "$(CONFIG)" --demo

build: $(CLIENT) | cargo ## Build the server into target/release
	cargo build --release --locked

dist: $(CLIENT) | cargo ## Build what is shipped into target/dist: smaller and faster, slow to build
	cargo build --profile dist --locked

test: $(CLIENT) $(JS_TESTS) $(PYTHON) | cargo chromium redis nginx ## Run all tests
	cargo test --locked
	$(MAKE) --no-print-directory test-js

test-js: $(CLIENT) $(JS_TESTS) $(PYTHON) | cargo chromium redis nginx ## Run the official clients against the debug build
	cargo build --locked
	cd js-client-tests && TIERCAST_BIN="$(TARGET_DIR)/debug/tiercast" npm test

bench: | cargo npm ## Measure this server beside its peers into docs/benchmarks.md (about 12 minutes)
	bench/run

chaos: | cargo redis ## Break a cluster in CHAOS_SEEDS runs (50) and check what its clients received (about 45 minutes)
	cargo build --release --locked
	ulimit -n "$$(ulimit -Hn)"; "$(TARGET_DIR)/release/tiercast" bench chaos --seeds $(CHAOS_SEEDS) --seconds-per-fault 3 $(CHAOS)

fuzz: | cargo c++ ## Feed every reader of foreign bytes for FUZZ_SECONDS each (60)
	fuzz/run $(FUZZ_SECONDS)

lint: | cargo ## Check formatting, lints, documentation and dependencies
	cargo fmt --all --check
	cargo clippy --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items --locked
	@if command -v cargo-deny >/dev/null; then \
		$(MAKE) --no-print-directory deny; \
	else \
		echo "skipped: cargo deny (not installed: make deny installs it)"; \
	fi

# What is known of faults is fetched from where it is kept; all else is checked without a network.
deny: | cargo-deny ## Check the dependencies: licences, sources, known faults
	cargo deny --locked check --hide-inclusion-graph bans licenses sources
	cargo deny --manifest-path fuzz/Cargo.toml --locked check --hide-inclusion-graph bans sources
	@if git ls-remote --quiet https://github.com/RustSec/advisory-db HEAD >/dev/null 2>&1; then \
		echo "cargo deny --locked check advisories"; cargo deny --locked check advisories; \
	else \
		echo "skipped: known faults (https://github.com/RustSec/advisory-db is out of reach)"; \
	fi

sbom: | cargo-cyclonedx npm ## Write what the server is made of into target/sbom, as CycloneDX
	@mkdir -p target/sbom
	cargo cyclonedx --quiet --format json --spec-version 1.5 --describe binaries --no-build-deps --target-in-filename
	mv tiercast_bin_*.cdx.json target/sbom/
	cd assets/client && npm sbom --sbom-format cyclonedx --package-lock-only > "$(CURDIR)/target/sbom/client.cdx.json"

fmt: | cargo ## Format the Rust code
	cargo fmt --all

doc: | cargo ## Build the documentation of the code into target/doc
	cargo doc --no-deps --document-private-items --locked

ci: lint test ## Everything a change must pass

# Installed again only when the manifest or its lock is newer than the last installation.
%/node_modules/ci.stamp: %/package.json %/package-lock.json | npm
	cd $* && npm ci --no-audit --no-fund
	mkdir -p $(@D) && touch $@

$(PYTHON): js-client-tests/python/requirements.txt | python
	python3 -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

cargo:
	@command -v cargo >/dev/null || { echo "Rust 1.95 or newer is needed (cargo is not on the PATH): https://rustup.rs" >&2; exit 1; }

c++:
	@tools/need g++ c++ g++ clang++

cargo-deny cargo-cyclonedx: | cargo
	@command -v $@ >/dev/null || cargo install --locked $@

npm:
	@command -v npm >/dev/null || { echo "Node.js 20 or newer is needed (npm is not on the PATH): https://nodejs.org" >&2; exit 1; }

python:
	@tools/need python3-venv "python3 -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 10))'"

chromium:
	@tools/need chromium chromium chromium-browser google-chrome google-chrome-stable

redis:
	@tools/need redis-server redis-server

# It may be where only root looks for commands.
nginx:
	@tools/need nginx-light "PATH=$$PATH:/usr/sbin:/sbin nginx -v"

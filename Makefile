# What people and CI run. `make demo` and `make test` need nothing but Rust, Python, Node
# and a C++ compiler; what else they need they get themselves.

# How DuckDB is found: auto, download (the official library) or build (from its source).
DUCKDB ?= auto
CACHE  := $(or $(AGNES_CACHE),$(HOME)/.cache/agnes)
export CARGO_TARGET_DIR ?= $(CACHE)/target

# Runs the rest of a recipe's line with DuckDB linked: as a shared library, or static.
with_shared = link=$$(.ci/duckdb shared $(DUCKDB)) && eval "$$link" &&
with_static = link=$$(.ci/duckdb static $(filter-out download,$(DUCKDB))) && eval "$$link" &&

# How long `make fuzz` runs, in seconds.
SECONDS ?= 600

.PHONY: demo test test-rust test-large test-python test-module test-node module wheel addon node-packages lint docs bench bench-module bench-node oracle fuzz release duckdb clean-demo

demo: ## See Agnes work on real data
	@$(with_shared) cargo run --quiet --package agnes-server -- demo

test: test-rust test-python test-module test-node ## All tests of all languages

test-rust:
	@$(with_shared) cargo test --workspace --features agnes-core/conformance,agnes-server/otel

test-large: ## Results of gigabytes, which take 5 GB of memory; make test leaves them out
	@$(with_shared) cargo test --package agnes-core --features conformance --test core -- --ignored

# Checks from outside: clients of other DuckDB versions, killed processes, the examples.
test-python: .venv/ready
	@$(with_shared) cargo build --workspace --bins --examples --features agnes-server/otel
	@AGNES=$(CARGO_TARGET_DIR)/debug/agnes \
	  LD_LIBRARY_PATH="$$(link=$$(.ci/duckdb shared $(DUCKDB) 2>/dev/null) && eval "$$link" && echo "$$DUCKDB_LIB_DIR"):$$(ls -d $(CARGO_TARGET_DIR)/debug/build/libduckdb-sys-*/out 2>/dev/null | tr '\n' ':')$$LD_LIBRARY_PATH" \
	  .venv/bin/python -m pytest tests/python -q -rs -n auto --dist worksteal --ignore tests/python/module

# The module as people install it: a release build, with DuckDB's static archive in it.
test-module: module
	@DUCKDB_1_5=$(CURDIR)/.venv/duckdb-1.5 .venv/bin/python -m pytest tests/python/module -q -rs -n auto --dist worksteal

module: export PATH := $(CURDIR)/.venv/bin:$(PATH)
module: .venv/ready ## The Python module, in .venv
	@$(with_static) .venv/bin/python -m pip install --quiet --disable-pip-version-check \
	  --no-build-isolation --no-deps --force-reinstall ./agnes-py

wheel: export PATH := $(CURDIR)/.venv/bin:$(PATH)
wheel: .venv/ready ## The Python module as a wheel, in dist
	@$(with_static) .venv/bin/python -m pip wheel --quiet --disable-pip-version-check \
	  --no-build-isolation --no-deps --wheel-dir dist ./agnes-py
	@ls -l dist

test-node: addon
	@node --test --test-timeout 300000 tests/node/*.test.mjs

addon: agnes-node/node_modules/ready ## The Node addon, in agnes-node
	@$(with_static) node agnes-node/build.mjs

node-packages: addon ## The Node package and the one for this platform, in dist
	@node agnes-node/pack.js dist

agnes-node/node_modules/ready: agnes-node/package-lock.json
	@npm ci --prefix agnes-node --silent --no-audit --no-fund
	@touch $@

.venv/ready: tests/python/requirements.txt
	@python3 -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/python/requirements.txt
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade \
	  --target .venv/duckdb-1.5 duckdb==1.5.5
	@touch $@

lint: ## Formatting and clippy
	@cargo fmt --all --check
	@$(with_shared) cargo clippy --workspace --all-targets --features agnes-core/conformance -- -D warnings

docs: ## The library's documentation
	@$(with_shared) RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

bench: ## The figures of benches/README.md
	@$(with_static) cargo build --release --package agnes-server && cargo bench --quiet --package agnes-benches --bench figures --bench access --bench metadata --bench profile --bench workers --bench server -- $(BENCH)

bench-module: module ## The figures about the Python module
	@.venv/bin/python benches/module.py

bench-node: addon ## The figures about the Node package
	@node benches/node.mjs

oracle: ## 20,000 random statements give what a plain DuckDB gives; make test runs 500
	@$(with_shared) ORACLE=20000 cargo test --quiet --package agnes-tests oracle

# Instrumented code goes into a folder of its own; cargo-fuzz needs an option that is unstable.
fuzz: export CARGO_TARGET_DIR := $(CARGO_TARGET_DIR)-fuzz
fuzz: ## Random statements against the guard, for SECONDS=600
	@cargo fuzz --version > /dev/null 2>&1 || cargo install --quiet --locked cargo-fuzz
	@$(with_shared) RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none --fuzz-dir fuzz guard -- \
	  -max_total_time=$(SECONDS) -timeout=20 -rss_limit_mb=3000 -max_len=4096 -print_final_stats=1

release: ## One file that runs on another machine
	@$(with_static) cargo build --release --package agnes-server
	@ls -l $(CARGO_TARGET_DIR)/release/agnes

duckdb: ## Build DuckDB if no library of it is at hand
	@.ci/duckdb shared $(DUCKDB) > /dev/null

clean-demo:
	rm -rf agnes-demo

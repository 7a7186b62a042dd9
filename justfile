# What is done daily; `just` alone lists it. The README's two commands need none of this.

_default:
    @just --list --unsorted

# The live demonstration: nothing but Rust and a C compiler is needed.
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# All tests, the end-to-end ones on a real Apache Kafka (Java 17 and Maven).
test *ARGS:
    cargo test {{ARGS}}

# The end-to-end tests alone, or those whose names contain a text.
e2e *FILTER:
    cargo test -p sandpiper --test e2e -- {{FILTER}}

# The fault matrix: each row a failure under load, twenty minutes; `just chaos short` is what `cargo test` runs of it.
chaos FORM="long" *FILTER:
    SANDPIPER_CHAOS={{FORM}} cargo test -p sandpiper --test chaos --locked -- {{FILTER}}

# One daemon for rounds of calm, faults and recovery, three times a minute each: memory, files, threads and latency as a picture.
soak ROUNDS="3" SECONDS="60":
    SANDPIPER_SOAK_ROUNDS={{ROUNDS}} SANDPIPER_SOAK_SECONDS={{SECONDS}} cargo test -p sandpiper --test soak --locked

# The hostile corpus: components and files that misbehave, without Kafka. `SANDPIPER_CHAOS=long` flips 10,000 bits.
hostile *FILTER:
    cargo test -p sandpiper --test hostile -- {{FILTER}}

# Each fuzz target for a minute: needs a nightly toolchain and `cargo install cargo-fuzz`.
fuzz SECONDS="60":
    #!/usr/bin/env bash
    set -euo pipefail
    for target in admin config join label letter prediction pointer component answer history; do
        mkdir -p "tests/fuzz/corpus/$target"
        cargo +nightly fuzz run --fuzz-dir tests/fuzz --dev -s none "$target" "tests/fuzz/corpus/$target" \
            "tests/fuzz/seeds/$target" -- -max_total_time={{SECONDS}} -timeout=20
    done

# Ratios measured side by side in one run; the tables are docs/benchmarks.md, the data target/stages.json and target/bench.json.
bench *ARGS: (stages ARGS)
    cargo bench -p sandpiper --bench figures -- {{ARGS}}

# What parser and classifier cost in the sandbox: builds and runs without Kafka's client.
stages *ARGS:
    cargo bench -p sandpiper-sandbox --bench stages -- {{ARGS}}

# Format and lint as CI does.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo clippy -p sandpiper --test soak -- -D warnings

# Dependencies: licences, sources, known holes (`cargo install --locked cargo-deny`; the RustSec database is fetched from GitHub).
audit:
    cargo deny --locked check

# The stock plugins alone, for wasm32-wasip2.
plugins:
    cargo build --profile plugin --target wasm32-wasip2 --target-dir target/plugins -p sandpiper-csv -p sandpiper-json -p sandpiper-logistic -p sandpiper-tree -p sandpiper-loss -p sandpiper-route

# What CI runs.
ci:
    .ci/run

# Shortcuts; each is one command, and none of them is needed.

# the whole path on this machine, nothing else installed
demo:
    ./dev demo

# every test, against the real parts
test *args:
    ./dev test {{args}}

# formatting, lints, licences
lint:
    cargo fmt --check && cargo clippy --locked --all-targets -- -D warnings && cargo deny check licenses bans sources

# the book (docs/book) and the crate's own documentation (target/doc)
docs:
    mdbook build docs && cargo doc --locked --no-deps --document-private-items --lib

# one fuzz target, without a nightly toolchain
fuzz target *args:
    RUSTC_BOOTSTRAP=1 cargo fuzz run {{target}} {{args}}

# idkeep against the operator's script, and its cost per node
bench *args:
    ./dev parts && cargo bench --locked --bench sync {{args}}

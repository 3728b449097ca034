# What CI runs, in its order. Everything uses the one optimised profile.
check: fmt-check clippy test doc-test doc deny typos

fmt-check:
    cargo fmt --all --check

clippy:
    cargo clippy --release --workspace --all-targets --locked -- -D warnings

test:
    cargo test --release --locked --workspace --lib --bins --tests --examples

doc-test:
    cargo test --release --locked --workspace --doc

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --workspace --no-deps

deny:
    cargo deny --locked check bans licenses sources

typos:
    typos

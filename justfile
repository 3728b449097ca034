# What CI runs, in its order. Everything uses the one optimised profile.
check: fmt-check clippy test doc deny typos

fmt-check:
    cargo fmt --all --check

clippy:
    cargo clippy --release --workspace --all-targets --locked -- -D warnings

# Doc tests included.
test:
    cargo test --release --locked --workspace

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --workspace --no-deps

deny:
    cargo deny --locked check bans licenses sources

typos:
    typos

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

# The page's source, and that what is committed is what it builds; needs Node. `cd web && npm run dev` shows it while you write,
# in front of a `foveate serve`; `npm run build` writes crates/serve/page.
web:
    web/check

# The page in Chromium, in front of the program that was built.
page:
    tests/page/run

# The kernels' tests under valgrind, which knows no AVX-512: the portable and the AVX2 loops. Left out are a test of
# speed and one that asks the system what is in memory, which valgrind answers differently.
valgrind:
    PROPTEST_CASES=2 CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="valgrind -q --error-exitcode=99 --leak-check=no" \
        cargo test --release --locked -p foveate-kernels --tests -- --test-threads=1 --skip calibrate --skip released_bytes

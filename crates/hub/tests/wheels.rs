//! Wheels made here: sound ones are unpacked and used again, others leave nothing behind.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foveate_hub::{HubError, Located, Network, Options, Settings, Source, locate};
use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

const NAME: &str = "p-1.0-py3-none-any.whl";
const RECORD: &str = "p-1.0.dist-info/RECORD";

/// A wheel in the making: files, and rows of RECORD.
struct Wheel {
    folder: tempfile::TempDir,
    files: Vec<(String, Vec<u8>)>,
    rows: Vec<String>,
}

fn row(name: &str, content: &[u8]) -> String {
    format!("{name},sha256={},{}", URL_SAFE_NO_PAD.encode(Sha256::digest(content)), content.len())
}

impl Wheel {
    fn new() -> Wheel {
        Wheel { folder: tempfile::tempdir().unwrap(), files: vec![], rows: vec![] }
            .with("p/__init__.py", b"")
            .with("p/models/m.gguf", &b"GGUF weights".repeat(100))
    }

    fn with(mut self, name: &str, content: &[u8]) -> Wheel {
        self.rows.push(row(name, content));
        self.unlisted(name, content)
    }

    fn unlisted(mut self, name: &str, content: &[u8]) -> Wheel {
        self.files.push((name.into(), content.to_vec()));
        self
    }

    /// The same with its rows changed.
    fn rows(mut self, change: impl FnOnce(&mut Vec<String>)) -> Wheel {
        change(&mut self.rows);
        self
    }

    fn write(&self) -> PathBuf {
        let path = self.folder.path().join(NAME);
        let mut zip = ZipWriter::new(File::create(&path).unwrap());
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        let record = format!("{}\n{RECORD},,\n", self.rows.join("\n"));
        let record = (RECORD.to_string(), record.into_bytes());
        for (name, content) in self.files.iter().chain([&record]) {
            zip.start_file(name.as_str(), options).unwrap();
            zip.write_all(content).unwrap();
        }
        zip.finish().unwrap();
        path
    }

    fn options(&self) -> Options<'static> {
        let mut settings = Settings::from_environment().unwrap();
        settings.foveate_home = self.folder.path().join("home");
        let mut options = Options::new(settings);
        options.network = Network::Never;
        options
    }

    fn open(&self, options: &Options<'_>) -> Result<Located, HubError> {
        locate(&Source::Wheel(self.write()), options)
    }

    /// The refusal, after looking that nothing but the lock is left.
    fn refusal(&self, options: &Options<'_>) -> HubError {
        let error = self.open(options).unwrap_err();
        for entry in fs::read_dir(self.folder.path().join("home/wheels")).into_iter().flatten() {
            assert_eq!(entry.unwrap().file_name(), ".p.lock", "{error}");
        }
        error
    }
}

#[test]
fn a_sound_wheel_is_unpacked_once() {
    let wheel = Wheel::new();
    let options = wheel.options();
    let found = wheel.open(&options).unwrap();
    assert_eq!(fs::read(&found.path).unwrap(), b"GGUF weights".repeat(100));
    assert!(found.path.ends_with("p/models/m.gguf") && found.revision.as_deref() == Some("1.0"));
    // What is unpacked is not written again: a mark of ours stays.
    fs::write(&found.path, "mark").unwrap();
    assert_eq!(wheel.open(&options).unwrap(), found);
    assert_eq!(fs::read(&found.path).unwrap(), b"mark");
    let elsewhere = Wheel::new().with("p/more.txt", b"more").open(&options).unwrap();
    assert_ne!(elsewhere.path, found.path, "another wheel of the same name has its own folder");
    // Neither answers for an index.
    let error = locate(&"pypi:p==1.0".parse().unwrap(), &options).unwrap_err();
    assert!(matches!(error, HubError::Offline { .. }), "{error}");
}

#[test]
fn what_a_killed_process_left_is_no_hindrance() {
    let wheel = Wheel::new();
    let options = wheel.options();
    let found = wheel.open(&options).unwrap();
    let unpacked = found.path.ancestors().nth(3).unwrap();
    let name = unpacked.file_name().unwrap().to_str().unwrap();
    fs::rename(unpacked, unpacked.with_file_name(format!(".{name}.partial"))).unwrap();
    assert_eq!(wheel.open(&options).unwrap(), found);
    assert!(found.path.is_file());
}

#[test]
fn contents_that_record_does_not_vouch_for() {
    let twisted = |from: &'static str, to: &'static str| {
        Wheel::new().rows(move |rows| rows[1] = rows[1].replacen(from, to, 1))
    };
    let wrong = Wheel::new().rows(|rows| rows[1] = row("p/models/m.gguf", &b"gguf weights".repeat(100)));
    let message = wrong.refusal(&wrong.options()).to_string();
    // Both hashes, and no word of a download that there was not.
    let [found, said] = [b"GGUF weights", b"gguf weights"]
        .map(|content| URL_SAFE_NO_PAD.encode(Sha256::digest(content.repeat(100))));
    let wanted = format!("{NAME}: p/models/m.gguf: SHA-256 is {found}; RECORD says {said}");
    assert!(message.ends_with(&wanted), "{message}");
    for (wheel, wanted) in [
        (Wheel::new().unlisted("p/evil.py", b"import os"), "p/evil.py is not listed in RECORD"),
        (
            Wheel::new().rows(|rows| rows.push(row("p/absent", b""))),
            "RECORD lists p/absent, which is not there",
        ),
        (twisted(",1200", ",1199"), "p/models/m.gguf: longer than RECORD says"),
        (twisted(",1200", ",1201"), "p/models/m.gguf: 1200 bytes; RECORD says 1201"),
        (twisted("sha256=", "md5="), "p/models/m.gguf has the hash \"md5="),
        (Wheel::new().with("q-1.dist-info/RECORD", b""), "2 files NAME.dist-info/RECORD; one is needed"),
    ] {
        let error = wheel.refusal(&wheel.options());
        assert!(error.is_users() && error.to_string().contains(wanted), "{error} lacks {wanted}");
    }
}

#[test]
fn names_that_leave_the_folder() {
    for name in ["../p/x", "p/../../p/x", "/tmp/foveate-escape", "C:/x", "p\\..\\..\\x", "p/nul"] {
        let wheel = Wheel::new().with(name, b"escaped");
        let error = wheel.refusal(&wheel.options());
        let wanted = format!("it holds a file named {name:?}: ");
        assert!(error.is_users() && error.to_string().contains(&wanted), "{error}");
    }
    assert!(!Path::new("/tmp/foveate-escape").exists());
}

#[test]
fn a_home_that_is_a_file_is_the_users() {
    let wheel = Wheel::new();
    fs::write(wheel.folder.path().join("home"), "no folder").unwrap();
    let error = wheel.open(&wheel.options()).unwrap_err();
    assert!(matches!(error, HubError::Cache { .. }) && error.is_users(), "{error}");
    assert!(
        error.to_string().contains("home/wheels") && error.to_string().contains("FOVEATE_HOME"),
        "{error}"
    );
}

#[test]
fn symbolic_links_are_refused() {
    let wheel = Wheel::new();
    let path = wheel.folder.path().join(NAME);
    let mut zip = ZipWriter::new(File::create(&path).unwrap());
    zip.add_symlink("p/link", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    zip.start_file(RECORD, SimpleFileOptions::default()).unwrap();
    zip.write_all(format!("{}\n", row("p/link", b"/etc/passwd")).as_bytes()).unwrap();
    zip.finish().unwrap();
    let error = locate(&Source::Wheel(path), &wheel.options()).unwrap_err().to_string();
    assert!(error.contains("p/link is a symbolic link"), "{error}");
}

#[test]
fn bombs_burst_within_limits() {
    // 256 MiB of zeros in a quarter of a MiB, with a RECORD that is true.
    let zeros = vec![0; 256 << 20];
    let bomb = Wheel::new().with("p/zeros.bin", &zeros);
    let error = bomb.refusal(&bomb.options()).to_string();
    assert!(error.contains("p/zeros.bin: the wheel unpacks to more than"), "{error}");
    let mut options = bomb.options();
    options.limits.entries = 3;
    let error = bomb.refusal(&options).to_string();
    assert!(error.contains("4 entries; at most 3 are unpacked"), "{error}");
}

#[test]
fn files_that_are_no_wheels() {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        let mut settings = Settings::from_environment().unwrap();
        settings.foveate_home = folder.path().join("home");
        locate(&Source::Wheel(path), &Options::new(settings)).unwrap_err()
    };
    assert!(open(NAME, b"PK").to_string().contains("no sound zip archive"));
    assert!(open("model.whl", b"").to_string().contains("a wheel is called"));
    let sound = fs::read(Wheel::new().write()).unwrap();
    for length in (0..sound.len()).step_by(7) {
        let error = open(NAME, &sound[..length]);
        assert!(error.is_users(), "cut at {length}: {error}");
    }
}

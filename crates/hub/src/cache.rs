//! One repository in the Hugging Face cache, as the Python library lays it out, so that either finds what the other
//! fetched: `models--owner--name/{blobs,refs,snapshots}` and `.locks/models--owner--name`.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::choose::{choose, shards};
use crate::error::HubError;
use crate::progress::{Event, Progress};
use crate::safe_path;
use crate::source::Repository;

/// Longest index of shards that is read.
const MAX_INDEX: u64 = 64 << 20;

/// The folders of a repository.
pub(crate) struct RepositoryCache {
    folder: PathBuf,
    locks: PathBuf,
}

impl RepositoryCache {
    pub(crate) fn new(hub_cache: &Path, repository: &Repository) -> RepositoryCache {
        let name = format!("models--{}--{}", repository.owner(), repository.name());
        RepositoryCache { locks: hub_cache.join(".locks").join(&name), folder: hub_cache.join(name) }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the content with this ETag is kept.
    pub(crate) fn blob(&self, etag: &Etag) -> PathBuf {
        self.folder.join("blobs").join(&etag.0)
    }

    /// Where a download of it grows.
    pub(crate) fn partial(&self, etag: &Etag) -> PathBuf {
        self.folder.join("blobs").join(format!("{}.incomplete", etag.0))
    }

    pub(crate) fn snapshot(&self, commit: &Commit) -> PathBuf {
        self.folder.join("snapshots").join(&commit.0)
    }

    /// Keeps other processes, the Python library's included, from fetching the same content.
    pub(crate) fn lock(&self, etag: &Etag, name: &str, progress: &dyn Progress) -> Result<File, HubError> {
        lock(&self.locks.join(format!("{}.lock", etag.0)), name, progress)
    }

    /// Shows the content under its name in a snapshot.
    pub(crate) fn link(&self, commit: &Commit, name: &Path, etag: &Etag) -> Result<PathBuf, HubError> {
        let (blob, pointer) = (self.blob(etag), self.snapshot(commit).join(name));
        // Up to the repository's folder: one step a part of the name, and `snapshots/COMMIT`.
        let mut target = PathBuf::new();
        for _ in 0..name.components().count() + 1 {
            target.push("..");
        }
        target.push("blobs");
        target.push(&etag.0);
        if points_to(&pointer, &target, &blob) {
            return Ok(pointer);
        }
        create_parent(&pointer)?;
        let staged = temporary(&pointer);
        show(&target, &blob, &staged)
            .and_then(|()| fs::rename(&staged, &pointer))
            .map_err(HubError::cache(&pointer))?;
        Ok(pointer)
    }

    /// Notes that a revision is `commit`.
    pub(crate) fn set_revision(&self, revision: &str, commit: &Commit) -> Result<(), HubError> {
        if revision == commit.0 {
            return Ok(());
        }
        let path = self.revision_file(revision)?;
        if fs::read_to_string(&path).is_ok_and(|known| known.trim() == commit.0) {
            return Ok(());
        }
        create_parent(&path)?;
        let staged = temporary(&path);
        fs::write(&staged, &commit.0)
            .and_then(|()| fs::rename(&staged, &path))
            .map_err(HubError::cache(&path))
    }

    /// The commit that a revision was when it was last asked for.
    pub(crate) fn commit(&self, revision: &str) -> Result<Option<Commit>, HubError> {
        match fs::read_to_string(self.revision_file(revision)?) {
            Ok(known) => Ok(Commit::parse(known.trim())),
            Err(_) => Ok(Commit::parse(revision).filter(|commit| self.snapshot(commit).is_dir())),
        }
    }

    /// The files of the model at `revision`, or what is missing.
    pub(crate) fn find(
        &self,
        repository: &Repository,
        requested: &[String],
    ) -> Result<(Commit, Vec<PathBuf>), String> {
        let revision = repository.revision();
        let commit = self
            .commit(revision)
            .map_err(|error| error.to_string())?
            .ok_or_else(|| format!("revision {revision} was never fetched"))?;
        let snapshot = self.snapshot(&commit);
        let mut names = Vec::new();
        list(&snapshot, "", &mut names).map_err(|error| error.to_string())?;
        names.sort();
        let missing = |name: &str| format!("{name} of revision {revision} is missing");
        if let Some(name) = requested.iter().find(|name| !names.contains(name)) {
            return Err(missing(name));
        }
        let chosen =
            choose(&names, requested, &repository.to_string()).map_err(|_| missing("a file of weights"))?;
        let whole = requested.is_empty() && !chosen.iter().any(|name| name.ends_with(".gguf"));
        if whole && !names.iter().any(|name| name == "config.json") {
            return Err(missing("config.json"));
        }
        for index in chosen.iter().filter(|name| whole && name.ends_with(".index.json")) {
            let path = snapshot.join(index);
            let small = fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= MAX_INDEX);
            let wanted = fs::read(&path).ok().filter(|_| small).and_then(|bytes| shards(&bytes));
            let wanted = wanted.ok_or_else(|| format!("{index} is no index of shards"))?;
            if let Some(shard) = wanted.iter().find(|shard| !chosen.contains(shard)) {
                return Err(missing(shard));
            }
        }
        Ok((commit, chosen.iter().map(|name| snapshot.join(name)).collect()))
    }

    fn revision_file(&self, revision: &str) -> Result<PathBuf, HubError> {
        let path = safe_path::relative(revision).map_err(|reason| HubError::UnsafeName {
            owner: self.folder.display().to_string(),
            name: revision.into(),
            reason,
        })?;
        Ok(self.folder.join("refs").join(path))
    }
}

/// A commit, safe as a name of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit(String);

impl Commit {
    /// 40 or 64 hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Commit> {
        let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        (digits && matches!(text.len(), 40 | 64)).then(|| Commit(text.to_string()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// An ETag, safe as a name of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Etag(String);

impl Etag {
    /// The tag of a header without quotes and weakness.
    pub(crate) fn parse(header: &str) -> Option<Etag> {
        let tag = header.trim();
        let tag = tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"');
        let sound = tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        (sound && (1..=128).contains(&tag.len())).then(|| Etag(tag.to_string()))
    }

    /// The SHA-256 of the content in lower-case hexadecimal, where the tag is one: the hub tags large files so.
    pub(crate) fn sha256(&self) -> Option<String> {
        let digits = self.0.bytes().all(|byte| byte.is_ascii_hexdigit());
        (digits && self.0.len() == 64).then(|| self.0.to_ascii_lowercase())
    }
}

/// Takes a lock that ends with the returned file, or with the process.
pub(crate) fn lock(path: &Path, name: &str, progress: &dyn Progress) -> Result<File, HubError> {
    create_parent(path)?;
    let file =
        File::options().create(true).truncate(false).write(true).open(path).map_err(HubError::cache(path))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => progress.on(Event::Waiting { name }),
        Err(TryLockError::Error(source)) => return Err(HubError::Cache { path: path.into(), source }),
    }
    file.lock().map_err(HubError::cache(path))?;
    Ok(file)
}

/// Creates the folder that `path` lies in.
pub(crate) fn create_parent(path: &Path) -> Result<(), HubError> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(HubError::cache(folder))
}

/// A name beside `path` that no other process uses.
fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

#[cfg(unix)]
fn points_to(pointer: &Path, target: &Path, _blob: &Path) -> bool {
    fs::read_link(pointer).is_ok_and(|found| found == target)
}

#[cfg(unix)]
fn show(target: &Path, _blob: &Path, staged: &Path) -> std::io::Result<()> {
    let _ = fs::remove_file(staged);
    std::os::unix::fs::symlink(target, staged)
}

/// Windows gives symbolic links to administrators only: the content itself is moved to its name in the snapshot's
/// stead by a hard link, or copied where the file system has none.
#[cfg(not(unix))]
fn points_to(pointer: &Path, _target: &Path, blob: &Path) -> bool {
    let size = |path: &Path| fs::metadata(path).map(|metadata| metadata.len()).ok();
    size(pointer).is_some() && size(pointer) == size(blob)
}

#[cfg(not(unix))]
fn show(_target: &Path, blob: &Path, staged: &Path) -> std::io::Result<()> {
    let _ = fs::remove_file(staged);
    fs::hard_link(blob, staged).or_else(|_| fs::copy(blob, staged).map(|_| ()))
}

/// Names of the readable files below a folder, with slashes; links to blobs that are gone are not files.
pub(crate) fn list(folder: &Path, prefix: &str, names: &mut Vec<String>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let name = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{name}/"), names)?;
        } else if entry.path().is_file() {
            names.push(name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn tags_and_commits_that_are_no_names() {
        assert_eq!(Etag::parse("\"abc\""), Etag::parse("W/\"abc\""));
        for header in ["", "\"\"", "../x", "a/b", "a.incomplete", "\"a b\"", &"a".repeat(129)] {
            assert_eq!(Etag::parse(header), None, "{header}");
        }
        assert_eq!(Etag::parse(COMMIT).unwrap().sha256(), None);
        assert_eq!(Etag::parse(&"AB".repeat(32)).unwrap().sha256(), Some("ab".repeat(32)));
        assert!(Commit::parse(COMMIT).is_some());
        for text in ["", "main", "..", &COMMIT[1..], &COMMIT.replace('0', "g")] {
            assert_eq!(Commit::parse(text), None, "{text}");
        }
    }

    fn repository() -> (tempfile::TempDir, RepositoryCache, Repository, Commit) {
        let folder = tempfile::tempdir().unwrap();
        let repository: Repository = "o/n".parse().unwrap();
        let cache = RepositoryCache::new(folder.path(), &repository);
        (folder, cache, repository, Commit::parse(COMMIT).unwrap())
    }

    fn put(cache: &RepositoryCache, commit: &Commit, name: &str, content: &str) -> PathBuf {
        let etag = Etag::parse(&format!("tag-{}", name.replace(['/', '.'], "-"))).unwrap();
        create_parent(&cache.blob(&etag)).unwrap();
        fs::write(cache.blob(&etag), content).unwrap();
        cache.link(commit, Path::new(name), &etag).unwrap()
    }

    #[test]
    fn names_in_a_snapshot_show_the_blobs_and_move_with_the_cache() {
        let (folder, cache, _, commit) = repository();
        let shallow = put(&cache, &commit, "config.json", "{}");
        let deep = put(&cache, &commit, "onnx/deep/model.onnx", "weights");
        assert_eq!(fs::read_to_string(shallow).unwrap(), "{}");
        assert_eq!(fs::read_to_string(&deep).unwrap(), "weights");
        assert_eq!(
            put(&cache, &commit, "onnx/deep/model.onnx", "weights"),
            deep,
            "once more changes nothing"
        );
        let elsewhere = folder.path().join("elsewhere");
        fs::rename(cache.folder(), &elsewhere).unwrap();
        let moved = elsewhere.join(format!("snapshots/{COMMIT}/onnx/deep/model.onnx"));
        assert_eq!(fs::read_to_string(moved).unwrap(), "weights");
    }

    #[test]
    fn what_is_missing_is_named() {
        let (_folder, cache, repository, commit) = repository();
        let find = || cache.find(&repository, &[]).map(|(_, files)| files.len());
        assert_eq!(find(), Err("revision main was never fetched".into()));
        cache.set_revision("main", &commit).unwrap();
        assert!(find().is_err());
        put(
            &cache,
            &commit,
            "model.safetensors.index.json",
            r#"{"weight_map": {"a": "model-1.safetensors"}}"#,
        );
        assert_eq!(find(), Err("config.json of revision main is missing".into()));
        put(&cache, &commit, "config.json", "{}");
        assert_eq!(find(), Err("model-1.safetensors of revision main is missing".into()));
        let shard = put(&cache, &commit, "model-1.safetensors", "weights");
        assert_eq!(find(), Ok(3));
        let requested = ["x.gguf".to_string()];
        assert_eq!(cache.find(&repository, &requested), Err("x.gguf of revision main is missing".into()));
        let pinned: Repository = format!("o/n@{COMMIT}").parse().unwrap();
        assert_eq!(cache.find(&pinned, &[]).unwrap().0, commit);
        // A blob that someone deleted leaves a name that leads nowhere.
        fs::remove_file(fs::canonicalize(shard).unwrap()).unwrap();
        assert_eq!(find(), Err("model-1.safetensors of revision main is missing".into()));
    }

    #[test]
    fn revisions_with_slashes_are_noted() {
        let (_folder, cache, _, commit) = repository();
        cache.set_revision("refs/pr/1", &commit).unwrap();
        assert_eq!(fs::read_to_string(cache.folder().join("refs/refs/pr/1")).unwrap(), COMMIT);
        assert_eq!(cache.commit("refs/pr/1").unwrap(), Some(commit));
        assert_eq!(cache.commit("other").unwrap(), None);
    }
}

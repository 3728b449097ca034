//! A repository of the hub: what it holds, and how that comes here.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use crate::cache::{Commit, Etag, RepositoryCache};
use crate::choose::choose;
use crate::download::{Announced, download};
use crate::error::HubError;
use crate::http::{Client, Reply, escape};
use crate::source::Repository;
use crate::{Located, Network, Options, safe_path};

/// What the hub tells about a repository at a revision (`GET /api/models/OWNER/NAME/revision/REVISION`).
#[derive(Deserialize)]
struct Information {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    /// Told with `?blobs=true`.
    size: Option<u64>,
}

/// Finds or fetches the files of a repository.
pub(crate) fn fetch(repository: &Repository, options: &Options<'_>) -> Result<Located, HubError> {
    let cache = RepositoryCache::new(&options.settings.hub_cache, repository);
    if options.network != Network::Always {
        match cache.find(repository, &options.files) {
            Ok((commit, files)) => return Ok(located(&cache, &commit, files, options)),
            Err(reason) if options.network == Network::Never => {
                return Err(HubError::Offline {
                    what: repository.to_string(),
                    cache: cache.folder().to_path_buf(),
                    reason,
                });
            }
            Err(_) => {}
        }
    }
    let client = Client::new(options.settings.token.as_ref(), options.clock, options.progress);
    let (commit, information) = information(&client, repository, options)?;
    let names: Vec<String> = information.siblings.iter().map(|sibling| sibling.rfilename.clone()).collect();
    let mut files = Vec::new();
    for name in choose(&names, &options.files, &repository.to_string())? {
        let size = information
            .siblings
            .iter()
            .find(|sibling| sibling.rfilename == name)
            .and_then(|sibling| sibling.size);
        files.push(file(&client, &cache, repository, &commit, &name, size, options)?);
    }
    // Last, so that a revision that is noted has been fetched whole.
    cache.set_revision(repository.revision(), &commit)?;
    Ok(located(&cache, &commit, files, options))
}

/// The commit and the file list of a revision.
fn information(
    client: &Client<'_>,
    repository: &Repository,
    options: &Options<'_>,
) -> Result<(Commit, Information), HubError> {
    let url = format!(
        "{}/api/models/{}/{}/revision/{}?blobs=true",
        options.settings.endpoint.as_str(),
        repository.owner(),
        repository.name(),
        escape(repository.revision(), false),
    );
    let what = What { repository, file: None }.to_string();
    let document = client.document(&url, &what)?;
    let information: Information =
        serde_json::from_slice(&document).map_err(|error| HubError::answer(&what, error.to_string()))?;
    let commit = Commit::parse(&information.sha)
        .ok_or_else(|| HubError::answer(&what, format!("{:?} is no commit", information.sha)))?;
    // Every name is judged, also of files that are not taken: such a list is not to be trusted.
    for sibling in &information.siblings {
        safe_path::relative(&sibling.rfilename).map_err(|reason| HubError::UnsafeName {
            owner: what.clone(),
            name: sibling.rfilename.clone(),
            reason,
        })?;
    }
    Ok((commit, information))
}

/// Fetches one file and shows it in its snapshot.
fn file(
    client: &Client<'_>,
    cache: &RepositoryCache,
    repository: &Repository,
    commit: &Commit,
    name: &str,
    listed: Option<u64>,
    options: &Options<'_>,
) -> Result<PathBuf, HubError> {
    let what = What { repository, file: Some(name) }.to_string();
    let path = safe_path::relative(name).map_err(|reason| HubError::UnsafeName {
        owner: what.clone(),
        name: name.into(),
        reason,
    })?;
    let url = format!(
        "{}/{}/{}/resolve/{}/{}",
        options.settings.endpoint.as_str(),
        repository.owner(),
        repository.name(),
        commit.as_str(),
        escape(name, true),
    );
    let (etag, size) = description(&client.describe(&url, &what)?, listed, &what)?;
    let announced = Announced { name, what: &what, url: &url, etag, size };
    let _lock = cache.lock(&announced.etag, name, options.progress)?;
    download(client, cache, &announced, options.progress)?;
    cache.link(commit, &path, &announced.etag)
}

/// ETag and size of a file. Behind a redirect to a store they are those of the link, not those of the redirect.
fn description(reply: &Reply, listed: Option<u64>, what: &str) -> Result<(Etag, u64), HubError> {
    let linked = reply.first("x-linked-etag");
    let tag = linked
        .or_else(|| reply.last("etag"))
        .ok_or_else(|| HubError::answer(what, "it has no ETag; is HF_ENDPOINT a hub?"))?;
    let etag =
        Etag::parse(tag).ok_or_else(|| HubError::answer(what, format!("its ETag {tag:?} is no name")))?;
    let told = match linked {
        Some(_) => reply.first("x-linked-size"),
        None => reply.last("content-length"),
    };
    let size = told.and_then(|size| size.trim().parse().ok()).or(listed);
    Ok((etag, size.ok_or_else(|| HubError::answer(what, "it does not say how long the file is"))?))
}

fn located(cache: &RepositoryCache, commit: &Commit, files: Vec<PathBuf>, options: &Options<'_>) -> Located {
    let is_gguf = |file: &&PathBuf| file.extension().is_some_and(|extension| extension == "gguf");
    let path = if options.files.is_empty() {
        files.iter().find(is_gguf).cloned().unwrap_or_else(|| cache.snapshot(commit))
    } else {
        files[0].clone()
    };
    Located { path, files, revision: Some(commit.as_str().to_string()) }
}

/// Repository, revision and file in words.
struct What<'a> {
    repository: &'a Repository,
    file: Option<&'a str>,
}

impl fmt::Display for What<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (owner, name) = (self.repository.owner(), self.repository.name());
        if let Some(file) = self.file {
            write!(formatter, "file {file} in ")?;
        }
        write!(formatter, "repository {owner}/{name} at revision {}", self.repository.revision())
    }
}

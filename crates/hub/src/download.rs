//! One file of a repository into its blob: begun where an earlier try ended, and named only once it is verified.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::cache::{Etag, RepositoryCache, create_parent};
use crate::error::HubError;
use crate::http::{Client, Reply};
use crate::patience::Patience;
use crate::progress::{Event, Progress};

const CHUNK: usize = 1 << 18;

/// A file as the hub announces it.
pub(crate) struct Announced<'a> {
    /// Name in the repository.
    pub(crate) name: &'a str,
    /// Repository, revision and name, for messages.
    pub(crate) what: &'a str,
    /// Where to ask for it.
    pub(crate) url: &'a str,
    pub(crate) etag: Etag,
    pub(crate) size: u64,
}

/// Makes sure that the blob of a file is there. The caller holds its lock.
pub(crate) fn download(
    client: &Client<'_>,
    cache: &RepositoryCache,
    file: &Announced<'_>,
    progress: &dyn Progress,
) -> Result<(), HubError> {
    let blob = cache.blob(&file.etag);
    match fs::metadata(&blob) {
        Ok(metadata) if metadata.len() == file.size => return Ok(()),
        // A blob of another size is not what its tag says.
        Ok(_) => fs::remove_file(&blob).map_err(HubError::cache(&blob))?,
        Err(_) => {}
    }
    let path = cache.partial(&file.etag);
    create_parent(&path)?;
    let mut partial = Partial::open(&path, file)?;
    progress.on(Event::Started { name: file.name, present: partial.length, total: Some(file.size) });
    let mut patience = Patience::new();
    while partial.length < file.size {
        let before = partial.length;
        let ended = partial.receive(client, file, progress)?;
        if partial.length > before {
            patience.renew();
        }
        if partial.length < file.size {
            let reason =
                ended.unwrap_or_else(|| format!("cut after {} of {} bytes", partial.length, file.size));
            if let Err(end) = client.wait(&mut patience, None, file.name, &reason) {
                return Err(HubError::Connection {
                    what: file.what.into(),
                    reason: format!("{reason}; {end}"),
                });
            }
        }
    }
    partial.verify(file)?;
    fs::rename(&path, &blob).map_err(HubError::cache(&blob))?;
    progress.on(Event::Finished);
    Ok(())
}

/// A download that grows, with the hash of what is there.
struct Partial<'a> {
    path: &'a Path,
    file: File,
    length: u64,
    hash: Sha256,
}

impl<'a> Partial<'a> {
    /// What an earlier try left, or an empty file.
    fn open(path: &'a Path, announced: &Announced<'_>) -> Result<Partial<'a>, HubError> {
        let failed = || HubError::cache(path);
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(failed())?;
        let mut hash = Sha256::new();
        let mut length = file.metadata().map_err(failed())?.len();
        if length > announced.size {
            file.set_len(0).map_err(failed())?;
            length = 0;
        } else if announced.etag.sha256().is_some() {
            length = std::io::copy(&mut file, &mut Hashed(&mut hash)).map_err(failed())?;
        }
        file.seek(SeekFrom::Start(length)).map_err(failed())?;
        Ok(Partial { path, file, length, hash })
    }

    /// Asks for the rest and takes what comes; returns why it ended early, if the connection says so.
    fn receive(
        &mut self,
        client: &Client<'_>,
        announced: &Announced<'_>,
        progress: &dyn Progress,
    ) -> Result<Option<String>, HubError> {
        let reply = client.content(announced.url, self.length, announced.what)?;
        if self.length > 0 && !continues(&reply, self.length, announced)? {
            self.restart(progress)?;
            if reply.status.as_u16() != 200 {
                return Ok(Some(format!("the server cannot continue (status {})", reply.status.as_u16())));
            }
        }
        let mut reader = reply.reader();
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Some(error.to_string())),
            };
            let found = self.length + count as u64;
            if found > announced.size {
                return Err(self.discard(HubError::Size {
                    what: announced.what.into(),
                    expected: announced.size,
                    found,
                }));
            }
            let bytes = &buffer[..count];
            self.file.write_all(bytes).map_err(HubError::cache(self.path))?;
            self.hash.update(bytes);
            self.length = found;
            progress.on(Event::Advanced { bytes: count as u64 });
        }
    }

    /// Begins again: what is here does not belong to what comes.
    fn restart(&mut self, progress: &dyn Progress) -> Result<(), HubError> {
        self.file.set_len(0).map_err(HubError::cache(self.path))?;
        self.file.seek(SeekFrom::Start(0)).map_err(HubError::cache(self.path))?;
        self.length = 0;
        self.hash = Sha256::new();
        progress.on(Event::Restarted);
        Ok(())
    }

    /// Compares with the announced checksum, where there is one, and makes the bytes last.
    fn verify(self, announced: &Announced<'_>) -> Result<(), HubError> {
        if let Some(expected) = announced.etag.sha256() {
            let found = hexadecimal(&self.hash.clone().finalize());
            if found != expected {
                return Err(self.discard(HubError::Checksum {
                    what: announced.what.into(),
                    expected,
                    found,
                }));
            }
        }
        self.file.sync_all().map_err(HubError::cache(self.path))
    }

    /// Deletes what must not be built upon, and passes the reason on.
    fn discard(&self, reason: HubError) -> HubError {
        match fs::remove_file(self.path) {
            Ok(()) => reason,
            Err(source) => HubError::Cache { path: self.path.into(), source },
        }
    }
}

/// Whether an answer continues at byte `from`; one that says it does and begins elsewhere is refused.
fn continues(reply: &Reply, from: u64, announced: &Announced<'_>) -> Result<bool, HubError> {
    if reply.status.as_u16() != 206 {
        return Ok(false);
    }
    let range = reply.last("content-range").unwrap_or("nothing");
    let begins = range.strip_prefix("bytes ").and_then(|range| range.split_once('-')).map(|(begin, _)| begin);
    if begins == Some(from.to_string().as_str()) {
        return Ok(true);
    }
    Err(HubError::answer(announced.what, format!("bytes from {from} on were asked for and {range} comes")))
}

/// A hash as a place to write to.
struct Hashed<'a>(&'a mut Sha256);

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

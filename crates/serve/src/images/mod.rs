//! Where the images of a request come from.

mod address;
mod remote;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub(crate) use remote::Fetcher;

use crate::files::{FileId, Files};

/// An image that was named, not fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// In the request, as base64.
    Inline(String),
    /// Uploaded before.
    File(FileId),
    /// On the network.
    Remote(String),
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// More bytes than an image may have.
    #[error("more than {allowed} bytes, which is the most of an image")]
    TooLarge { allowed: u64 },
    #[error("no base64: {0}")]
    Base64(base64::DecodeError),
    #[error("there is no file {0}")]
    NoFile(FileId),
    #[error(
        "this server fetches no images (--allow-remote-images lets it); send data:image/…;base64,… or upload a file"
    )]
    RemoteRefused,
    /// What the network or the guard of its addresses said.
    #[error("{0}")]
    Remote(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Source {
    /// What `image_url.url` may hold: a data URL, the id of a file, an address.
    pub(crate) fn of_url(url: String) -> Result<Self, String> {
        const WORDS: usize = 40;
        if let Some(rest) = strip_prefix(&url, "data:") {
            let (kind, _) = rest.split_once(',').ok_or("a data URL has a comma in front of its data")?;
            let mut words = kind.split(';');
            let media = words.next().unwrap_or_default();
            if !media.is_empty() && strip_prefix(media, "image/").is_none() {
                let media: String = media.chars().take(WORDS).collect();
                return Err(format!("{media:?} is no image"));
            }
            if !words.any(|word| word.trim().eq_ignore_ascii_case("base64")) {
                return Err("a data URL with base64 is needed: data:image/png;base64,…".to_owned());
            }
            let at = url.len() - rest.len() + kind.len() + 1;
            let mut data = url;
            data.drain(..at);
            return Ok(Self::Inline(data));
        }
        if url.starts_with("file-") {
            return Self::of_file(&url);
        }
        if strip_prefix(&url, "http://").or_else(|| strip_prefix(&url, "https://")).is_some() {
            return Ok(Self::Remote(url));
        }
        let start: String = url.chars().take(WORDS).collect();
        Err(format!("{start:?} is no data URL, no id of an uploaded file and no http(s) address"))
    }

    pub(crate) fn of_file(id: &str) -> Result<Self, String> {
        id.parse().map(Self::File)
    }

    /// The bytes, which takes time: to be called where waiting is allowed.
    pub(crate) fn load(
        self,
        files: &Files,
        fetcher: Option<&Fetcher>,
        most_bytes: u64,
    ) -> Result<Vec<u8>, SourceError> {
        let too_large = SourceError::TooLarge { allowed: most_bytes };
        let bytes = match self {
            Self::Inline(text) => {
                // Before anything is copied.
                if text.len() as u64 / 4 * 3 > most_bytes.saturating_add(2) {
                    return Err(too_large);
                }
                STANDARD.decode(text.trim_ascii()).map_err(SourceError::Base64)?
            }
            Self::File(id) => files.read(&id)?.ok_or(SourceError::NoFile(id))?,
            Self::Remote(url) => {
                fetcher.ok_or(SourceError::RemoteRefused)?.fetch(&url).map_err(SourceError::Remote)?
            }
        };
        if bytes.len() as u64 > most_bytes { Err(too_large) } else { Ok(bytes) }
    }
}

fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let start = text.get(..prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::options::FileOptions;

    #[test]
    fn urls_are_told_apart() {
        let of = |url: &str| Source::of_url(url.to_owned());
        assert_eq!(of("data:image/png;base64,AAAA"), Ok(Source::Inline("AAAA".into())));
        assert_eq!(of("DATA:;BASE64,AA=="), Ok(Source::Inline("AA==".into())));
        assert_eq!(of("HTTPS://example.org/a.png"), Ok(Source::Remote("HTTPS://example.org/a.png".into())));
        assert!(matches!(of("file-0123456789abcdef01234567"), Ok(Source::File(_))));
        for wrong in [
            "",
            "data:image/png",
            "data:image/png,AAAA",
            "data:text/html;base64,AAAA",
            "file:///etc/passwd",
            "file-../x",
            "ftp://example.org/x",
            "/etc/passwd",
            "é",
            "javascript:alert(1)",
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_checked_before_and_after() {
        let files = Files::open(&FileOptions::default()).unwrap();
        let load = |text: &str, most| Source::Inline(text.to_owned()).load(&files, None, most);
        assert_eq!(load(" AAEC\n", 3).unwrap(), [0, 1, 2]);
        assert!(matches!(load("AAECAwQF", 3), Err(SourceError::TooLarge { allowed: 3 })));
        assert!(matches!(load("AA=B", 30), Err(SourceError::Base64(_))));
        let record = files.add("a", "vision", &[7; 5]).unwrap();
        assert_eq!(Source::File(record.id.clone()).load(&files, None, 5).unwrap(), [7; 5]);
        assert!(matches!(Source::File(record.id).load(&files, None, 4), Err(SourceError::TooLarge { .. })));
        let remote = Source::Remote("http://127.0.0.1/".to_owned());
        assert!(matches!(remote.load(&files, None, 4), Err(SourceError::RemoteRefused)));
    }
}

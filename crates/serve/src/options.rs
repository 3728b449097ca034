//! What the operator decides.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use foveate_compress::Budget;
use foveate_law::PlannedLaw;
use foveate_law::auto::ErrorTable;
use foveate_law::cost::Rates;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// How a model is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one, which the log names.
    pub address: SocketAddr,
    /// What the model is called in requests and replies.
    pub model: String,
    /// Names that the server answers to besides its own. A server that listens at a loopback address, or was given names,
    /// answers to no others: a web page that lets its name point to this machine gets nothing.
    pub allowed_hosts: Vec<HostName>,
    /// What clients must know; `None` lets everybody in.
    pub key: Option<ApiKey>,
    /// What is refused before any work.
    pub limits: Limits,
    /// How work is ordered.
    pub schedule: Schedule,
    /// The visual tokens of requests that say nothing about them; the compressor's own where this is `None`.
    pub budget: Option<Budget>,
    /// What `auto` chooses by; where this is `None` it stands for the most tokens, or the most that are in time.
    pub auto: Option<AutoOptions>,
    /// Images by address.
    pub remote: RemoteImages,
    /// Uploaded images.
    pub files: FileOptions,
    /// An answer that takes longer is ended with an error.
    pub deadline: Duration,
    /// How long accepted work may go on after the order to stop.
    pub grace: Duration,
    /// The law that `/v1/plan` plans with where the request names no published one.
    pub law: Option<PlannedLaw>,
    /// What this machine sustains, for budgets of time in `/v1/plan`.
    pub rates: Option<Rates>,
    /// Pictures that the page at `/` offers to try.
    pub examples: Vec<Example>,
    /// Whether prompts and answers may be logged.
    pub log_content: bool,
}

impl Default for Options {
    /// On port 8080 of this machine alone, without a key.
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            model: "foveate".to_owned(),
            allowed_hosts: Vec::new(),
            key: None,
            limits: Limits::default(),
            schedule: Schedule::default(),
            budget: None,
            auto: None,
            remote: RemoteImages::Refused,
            files: FileOptions::default(),
            deadline: Duration::from_secs(120),
            grace: Duration::from_secs(30),
            law: None,
            rates: None,
            examples: Vec::new(),
            log_content: false,
        }
    }
}

/// What is refused before any work.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Bytes of all bodies that are being read or worked on at once.
    pub all_bodies_bytes: usize,
    /// Time for a body to arrive.
    pub body_time: Duration,
    /// Time for a request's head to arrive.
    pub head_time: Duration,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Open connections; more wait.
    pub connections: usize,
    /// Bytes of an image file.
    pub image_bytes: u64,
    /// Pixels of an image.
    pub image_pixels: u64,
    /// Images of a request.
    pub images: usize,
    /// Positions of a prompt; the context where it is less.
    pub prompt_tokens: usize,
    /// New tokens of an answer: the most that may be asked for, and what is meant where nothing is.
    pub answer_tokens: usize,
}

impl Default for Limits {
    /// 32 MiB in 30 seconds; 20 MiB and 33 megapixels an image, 16 images; 1024 new tokens.
    fn default() -> Self {
        Self {
            body_bytes: 32 << 20,
            all_bodies_bytes: 256 << 20,
            body_time: Duration::from_secs(30),
            head_time: Duration::from_secs(10),
            head_bytes: 32 << 10,
            connections: 512,
            image_bytes: 20 << 20,
            image_pixels: 1 << 25,
            images: 16,
            prompt_tokens: usize::MAX,
            answer_tokens: 1024,
        }
    }
}

/// How work is ordered.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Answers in progress at once.
    pub parallel: usize,
    /// Accepted requests that wait for a place among them; more are sent away.
    pub queue: usize,
    /// Bytes of what was read that are kept for prompts that begin alike.
    pub prefix_bytes: usize,
    /// Positions of prompts that ride along with each step: more finish prompts sooner, fewer delay the others less.
    pub piece: usize,
}

impl Default for Schedule {
    /// 16 answers, 64 waiting, 256 MiB, pieces of 256 positions.
    fn default() -> Self {
        Self { parallel: 16, queue: 64, prefix_bytes: 256 << 20, piece: 256 }
    }
}

/// What a number of visual tokens is chosen by where a request says `auto`. The model guesses the family of a question.
#[derive(Clone, Debug)]
pub struct AutoOptions {
    /// The model's error by family and number of tokens.
    pub errors: ErrorTable,
    /// How far the error may lie above the least one of the ladder, where that is cheaper. A request with a latency gets the
    /// least error that is in time.
    pub tolerance: f64,
}

/// Whether images may be named by an address on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteImages {
    /// No.
    Refused,
    /// From public addresses, within this time each.
    Public(Duration),
}

/// Uploaded images.
#[derive(Clone, Debug)]
pub struct FileOptions {
    /// Where they are kept; a temporary folder that ends with the process where this is `None`.
    pub folder: Option<PathBuf>,
    /// How long they are kept; `None` keeps them until they are deleted.
    pub keep: Option<Duration>,
    /// Bytes of all of them.
    pub bytes: u64,
}

impl Default for FileOptions {
    /// A day, 1 GiB.
    fn default() -> Self {
        Self { folder: None, keep: Some(Duration::from_secs(24 * 3600)), bytes: 1 << 30 }
    }
}

/// A picture to try.
#[derive(Clone, Debug)]
pub struct Example {
    /// What it is called.
    pub name: String,
    /// The content of its file.
    pub png: Vec<u8>,
    /// Questions about it, each with its right answer.
    pub questions: Vec<(String, String)>,
}

/// The name of a machine as browsers send it, without a port: small letters, digits, `-`, `_` and dots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

/// What is no name of a machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a machine: letters, digits, - and dots, without scheme and port")]
pub struct HostNameError(String);

impl HostName {
    /// In small letters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = HostNameError;

    fn from_str(name: &str) -> Result<Self, HostNameError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let part = |part: &str| !part.is_empty() && part.bytes().all(plain);
        let lower = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        match lower.split('.').all(part) {
            true => Ok(Self(lower)),
            false => Err(HostNameError(name.to_owned())),
        }
    }
}

/// What clients must know. Only a digest is kept.
#[derive(Clone, Copy)]
pub struct ApiKey([u8; 32]);

impl ApiKey {
    /// `None` for an empty key, which would let everybody in who sends one.
    pub fn new(key: &str) -> Option<Self> {
        (!key.is_empty()).then(|| Self(Sha256::digest(key).into()))
    }

    /// Whether `found` is the key, in a time that depends on neither.
    pub fn is(&self, found: &str) -> bool {
        let found: [u8; 32] = Sha256::digest(found).into();
        self.0.ct_eq(&found).into()
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_of_machines_are_names() {
        assert_eq!("Box.Local.".parse::<HostName>().unwrap().as_str(), "box.local");
        for wrong in ["", ".", "a..b", "http://a", "a:80", "a/b", "a b", "*.a", "münchen.example"] {
            assert!(wrong.parse::<HostName>().unwrap_err().to_string().contains(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_key_is_itself_and_never_shown() {
        let key = ApiKey::new("secret").unwrap();
        assert!(key.is("secret") && !key.is("secre") && !key.is("secret ") && !key.is(""));
        assert_eq!(format!("{key:?}"), "ApiKey(…)");
        assert!(ApiKey::new("").is_none());
    }
}

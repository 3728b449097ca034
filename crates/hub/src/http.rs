//! Requests to the hub: redirects that keep the token at home, and waiting where the hub says so.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use ureq::http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use crate::error::HubError;
use crate::patience::{Patience, retry_after};
use crate::progress::{Clock, Event, Progress};
use crate::settings::Token;

const MAX_REDIRECTS: usize = 8;
const CONNECT: Duration = Duration::from_secs(30);
/// A connection without a byte for this long is dead.
const SILENCE: Duration = Duration::from_secs(60);
/// Longest answer of the API; file lists of large repositories have a few hundred kB.
const MAX_DOCUMENT: u64 = 32 << 20;

/// A client of one hub.
pub(crate) struct Client<'a> {
    agent: Agent,
    token: Option<&'a Token>,
    clock: &'a dyn Clock,
    progress: &'a dyn Progress,
}

/// One answer, success or not, after redirects.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// Headers of every hop, the first one first.
    hops: Vec<HeaderMap>,
    body: Body,
}

/// How far redirects are followed.
#[derive(Clone, Copy, PartialEq)]
enum Follow {
    /// To the file.
    Everywhere,
    /// Until a hop tells what the file is, which the hub does before it sends us to its store.
    UntilDescribed,
}

impl Reply {
    /// A header, from the first hop that has it.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.hops.iter().find_map(|headers| headers.get(name)?.to_str().ok())
    }

    /// A header of the last hop.
    pub(crate) fn last(&self, name: &str) -> Option<&str> {
        self.hops.last()?.get(name)?.to_str().ok()
    }

    pub(crate) fn reader(self) -> impl Read {
        self.body.into_reader()
    }
}

impl<'a> Client<'a> {
    pub(crate) fn new(
        token: Option<&'a Token>,
        clock: &'a dyn Clock,
        progress: &'a dyn Progress,
    ) -> Client<'a> {
        // Certificates that cannot be read are not trusted; a server that needs one of them is then refused.
        let certificates = rustls_native_certs::load_native_certs().certs;
        let roots: RootCerts =
            certificates.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).into();
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .accept_encoding("identity")
            .user_agent(concat!("foveate/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .build();
        Client { agent: config.into(), token, clock, progress }
    }

    /// What the hub says about a file, without the file.
    pub(crate) fn describe(&self, url: &str, what: &str) -> Result<Reply, HubError> {
        let reply = self.ask(&Method::HEAD, url, None, Follow::UntilDescribed, what)?;
        self.accept(reply, what)
    }

    /// A document of the API.
    pub(crate) fn document(&self, url: &str, what: &str) -> Result<Vec<u8>, HubError> {
        let reply = self.ask(&Method::GET, url, None, Follow::Everywhere, what)?;
        let mut bytes = Vec::new();
        let read = self.accept(reply, what)?.reader().take(MAX_DOCUMENT + 1).read_to_end(&mut bytes);
        read.map_err(|error| HubError::Connection { what: what.into(), reason: error.to_string() })?;
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(HubError::answer(what, format!("it is longer than {MAX_DOCUMENT} bytes")));
        }
        Ok(bytes)
    }

    /// A file from byte `from` on; 416 is an answer as well.
    pub(crate) fn content(&self, url: &str, from: u64, what: &str) -> Result<Reply, HubError> {
        let reply = self.ask(&Method::GET, url, Some(from), Follow::Everywhere, what)?;
        match reply.status {
            StatusCode::RANGE_NOT_SATISFIABLE => Ok(reply),
            _ => self.accept(reply, what),
        }
    }

    /// Waits as `patience` allows, or gives its reason not to.
    pub(crate) fn wait(
        &self,
        patience: &mut Patience,
        asked: Option<Duration>,
        name: &str,
        reason: &str,
    ) -> Result<(), String> {
        let wait = patience.next(asked)?;
        self.progress.on(Event::Retrying { name, wait, reason });
        self.clock.sleep(wait);
        Ok(())
    }

    /// Success, or the error that the status stands for.
    fn accept(&self, reply: Reply, what: &str) -> Result<Reply, HubError> {
        match reply.status.as_u16() {
            200..=299 => Ok(reply),
            status @ (401 | 403) => Err(HubError::Denied {
                what: what.into(),
                status,
                hint: match self.token {
                    None => "it is private, gated or not there; set HF_TOKEN to a token that may read it",
                    Some(_) => {
                        "the token in HF_TOKEN may not read it, its terms are not accepted, or it is not there"
                    }
                },
            }),
            404 => Err(HubError::NotFound { what: what.into() }),
            300..=399 if self.described(&reply) => Ok(reply),
            status => Err(HubError::answer(what, format!("its status is {status}"))),
        }
    }

    fn described(&self, reply: &Reply) -> bool {
        reply.hops.last().is_some_and(|headers| headers.contains_key("x-linked-etag"))
    }

    /// Asks until the answer is one that asking again would not change.
    fn ask(
        &self,
        method: &Method,
        url: &str,
        from: Option<u64>,
        follow: Follow,
        what: &str,
    ) -> Result<Reply, HubError> {
        let mut patience = Patience::new();
        loop {
            let reason = match self.once(method, url, from, follow, what) {
                Ok(reply) => match reply.status.as_u16() {
                    status @ (429 | 500 | 502 | 503 | 504) => {
                        let asked =
                            reply.last("retry-after").and_then(|text| retry_after(text, self.clock.now()));
                        let reason = format!("status {status}");
                        match self.wait(&mut patience, asked, what, &reason) {
                            Ok(()) => continue,
                            Err(reason) => return Err(HubError::Busy { what: what.into(), status, reason }),
                        }
                    }
                    _ => return Ok(reply),
                },
                Err(Broken::Passing(reason)) => reason,
                Err(Broken::Lasting(error)) => return Err(error),
            };
            if let Err(end) = self.wait(&mut patience, None, what, &reason) {
                return Err(HubError::Connection { what: what.into(), reason: format!("{reason}; {end}") });
            }
        }
    }

    /// One request and its redirects.
    fn once(
        &self,
        method: &Method,
        url: &str,
        from: Option<u64>,
        follow: Follow,
        what: &str,
    ) -> Result<Reply, Broken> {
        let lasting = |reason: String| Broken::Lasting(HubError::answer(what, reason));
        let mut address: Uri = url.parse().map_err(|_| lasting(format!("{url:?} is no address")))?;
        let home = origin(&address);
        let mut hops = Vec::new();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = Request::builder().method(method.clone()).uri(address.clone());
            if let Some(from) = from.filter(|from| *from > 0) {
                request = request.header(header::RANGE, format!("bytes={from}-"));
            }
            // The hub sends files from stores of other companies: the token is none of their business.
            if let Some(token) = self.token.filter(|_| origin(&address) == home) {
                request = request.header(header::AUTHORIZATION, token.header());
            }
            let request = request.body(()).map_err(|error| lasting(error.to_string()))?;
            let (parts, body) =
                self.agent.run(request).map_err(|error| Broken::from_error(&error, what))?.into_parts();
            let described = parts.headers.contains_key("x-linked-etag");
            let location = parts
                .headers
                .get(header::LOCATION)
                .and_then(|location| location.to_str().ok())
                .map(String::from);
            hops.push(parts.headers);
            let (true, Some(location)) = (parts.status.is_redirection(), location) else {
                return Ok(Reply { status: parts.status, hops, body });
            };
            if follow == Follow::UntilDescribed && described {
                return Ok(Reply { status: parts.status, hops, body });
            }
            let next = join(&address, &location)
                .ok_or_else(|| lasting(format!("it redirects to {location:?}, which is no address")))?;
            if address.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(lasting(format!("it redirects from https to {location:?}")));
            }
            address = next;
        }
        Err(lasting(format!("it redirects more than {MAX_REDIRECTS} times")))
    }
}

/// A request without an answer.
enum Broken {
    /// Asking again may help.
    Passing(String),
    /// It will not.
    Lasting(HubError),
}

impl Broken {
    fn from_error(error: &ureq::Error, what: &str) -> Broken {
        let lasting = |reason: String| Broken::Lasting(HubError::Connection { what: what.into(), reason });
        match error {
            // A connection that broke may hold the next time. That nobody listens, or that the name is unknown, a wait
            // of seconds does not change.
            ureq::Error::Io(error) if breaks(error.kind()) => Broken::Passing(error.to_string()),
            ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed => Broken::Passing(error.to_string()),
            // The server closed before its answer was whole.
            ureq::Error::Protocol(_) => Broken::Passing(error.to_string()),
            _ => lasting(error.to_string()),
        }
    }
}

/// Whether an error is the end of a connection that was there.
fn breaks(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof
            | ErrorKind::TimedOut
            | ErrorKind::WouldBlock
    )
}

/// Scheme, host and port: what a token is for.
fn origin(address: &Uri) -> (Option<String>, Option<String>, Option<u16>) {
    let scheme = address.scheme_str().map(str::to_ascii_lowercase);
    let port = address.port_u16().or(match scheme.as_deref() {
        Some("https") => Some(443),
        Some("http") => Some(80),
        _ => None,
    });
    (scheme, address.host().map(str::to_ascii_lowercase), port)
}

/// A `Location` as seen from `base` (RFC 3986, 5.2, without dot segments, which servers do not send).
fn join(base: &Uri, location: &str) -> Option<Uri> {
    let scheme = base.scheme_str()?;
    let authority = base.authority()?;
    let location = location.split('#').next().unwrap_or(location);
    let text = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_string()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let address: Uri = text.parse().ok()?;
    (address.host().is_some() && matches!(address.scheme_str(), Some("http" | "https"))).then_some(address)
}

/// A path of a URL: every byte escaped that is not unreserved (RFC 3986, 2.3), slashes kept if `slashes`.
pub(crate) fn escape(text: &str, slashes: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (slashes && byte == b'/') {
            escaped.push(char::from(byte));
        } else {
            escaped += &format!("%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn locations_of_every_kind() {
        let base: Uri = "https://hub.example/a/b?c".parse().unwrap();
        for (location, wanted) in [
            ("https://store.example:8/x?y=1#z", "https://store.example:8/x?y=1"),
            ("//store.example/x", "https://store.example/x"),
            ("/x/y", "https://hub.example/x/y"),
            ("x", "https://hub.example/a/x"),
        ] {
            assert_eq!(join(&base, location).unwrap().to_string(), wanted, "{location}");
        }
        assert_eq!(join(&base, "https://"), None);
        assert_eq!(join(&base, "//\u{0}"), None);
    }

    #[test]
    fn origins_differ_by_scheme_host_and_port() {
        let at = |text: &str| origin(&text.parse().unwrap());
        assert_eq!(at("https://Hub.example/a"), at("https://hub.example:443/b"));
        for other in ["http://hub.example", "https://hub.example:444", "https://hub.example.evil.example"] {
            assert_ne!(at("https://hub.example"), at(other), "{other}");
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(escape("refs/pr/1", false), "refs%2Fpr%2F1");
        assert_eq!(escape("a b/ü?.json", true), "a%20b/%C3%BC%3F.json");
    }
}

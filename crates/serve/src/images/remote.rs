//! Images by address, from the public internet alone.
//!
//! A name is looked up once for each hop, every address that it stands for must be public, and the connection goes to just
//! those: what a name stands for a moment later does not matter. Redirects are followed here, three at most, and each is
//! looked at like the first address. No proxy, no cookies, no credentials, no compression; bytes and time are bounded.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::{Uri, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error};

use super::address::is_public;

const MOST_REDIRECTS: usize = 3;
const LONGEST_URL: usize = 4096;

/// Fetches images.
#[derive(Debug)]
pub(crate) struct Fetcher {
    agent: Agent,
    time: Duration,
    most_bytes: u64,
}

impl Fetcher {
    /// Each within `time` and of `most_bytes` at most.
    pub(crate) fn new(time: Duration, most_bytes: u64) -> Self {
        let lookup = |name: &str| Ok(name.to_socket_addrs()?.collect());
        Self::with(
            time,
            most_bytes,
            Guard { lookup: Arc::new(lookup), allowed: Arc::new(|at| is_public(at.ip())) },
        )
    }

    fn with(time: Duration, most_bytes: u64, guard: Guard) -> Self {
        // Certificates that cannot be read are not trusted; a server that needs one of them is then refused.
        let certificates = rustls_native_certs::load_native_certs().certs;
        let roots: RootCerts =
            certificates.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).into();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // One would look names up by itself.
            .proxy(None)
            .accept_encoding("identity")
            .user_agent(concat!("foveate/", env!("CARGO_PKG_VERSION")))
            // A connection that is kept was looked up for another request.
            .max_idle_connections(0)
            .build();
        Self { agent: Agent::with_parts(config, DefaultConnector::default(), guard), time, most_bytes }
    }

    /// The bytes at `url`, or why there are none: nothing that would tell what lies behind a refused address.
    pub(crate) fn fetch(&self, url: &str) -> Result<Vec<u8>, String> {
        let end = Instant::now() + self.time;
        let mut uri = parse(url)?;
        for _ in 0..=MOST_REDIRECTS {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(told(&Error::Timeout(ureq::Timeout::Global)));
            }
            let request = self.agent.get(uri.clone()).config().timeout_global(Some(left)).build();
            let mut response = request.call().map_err(|error| told(&error))?;
            let status = response.status().as_u16();
            if matches!(status, 301 | 302 | 303 | 307 | 308) {
                let to = response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
                uri = joined(&uri, to.ok_or("a redirect to nowhere")?)?;
                continue;
            }
            if status != 200 {
                return Err(format!("the other server answered with status {status}"));
            }
            let body = response.body_mut().with_config().limit(self.most_bytes);
            return body.read_to_vec().map_err(|error| match error {
                Error::BodyExceedsLimit(most) => {
                    format!("more than {most} bytes, which is the most of an image")
                }
                error => told(&error),
            });
        }
        Err(format!("more than {MOST_REDIRECTS} redirects"))
    }
}

/// An address that may be asked: http or https, a host, no credentials.
fn parse(url: &str) -> Result<Uri, String> {
    if url.len() > LONGEST_URL {
        return Err(format!("an address of more than {LONGEST_URL} bytes"));
    }
    // What follows a # is the client's own.
    let url = url.split('#').next().unwrap_or_default();
    let uri: Uri = url.parse().map_err(|error| format!("no address: {error}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("only http and https are fetched".to_owned());
    }
    let authority = uri.authority().ok_or("an address without a host")?;
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err("an address with a user, or without a host".to_owned());
    }
    Ok(uri)
}

/// Where a redirect leads: a whole address, or a path on the same host.
fn joined(from: &Uri, to: &str) -> Result<Uri, String> {
    if !to.starts_with('/') {
        return parse(to);
    }
    let scheme = from.scheme_str().unwrap_or("https");
    if to.starts_with("//") {
        return parse(&format!("{scheme}:{to}"));
    }
    let authority = from.authority().map(|authority| authority.as_str()).unwrap_or_default();
    parse(&format!("{scheme}://{authority}{to}"))
}

/// An error in words that name no address.
fn told(error: &Error) -> String {
    match error {
        Error::Timeout(_) => "it took too long".to_owned(),
        Error::Other(other) if other.is::<NotPublic>() => other.to_string(),
        Error::HostNotFound | Error::Io(_) | Error::ConnectionFailed => "it cannot be reached".to_owned(),
        _ => "the other server cannot be understood".to_owned(),
    }
}

/// A host that is not on the public internet, or not only.
#[derive(Debug, thiserror::Error)]
#[error("only addresses on the public internet are fetched")]
struct NotPublic;

type Lookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;
type Allowed = dyn Fn(SocketAddr) -> bool + Send + Sync;

/// Looks names up, and lets through those of which every address may be connected to.
struct Guard {
    lookup: Arc<Lookup>,
    allowed: Arc<Allowed>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

impl Resolver for Guard {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let authority = uri.authority().ok_or(Error::HostNotFound)?;
        let usual = if uri.scheme_str() == Some("http") { 80 } else { 443 };
        let name = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(usual));
        let found = (self.lookup)(&name).map_err(|_| Error::HostNotFound)?;
        if !found.iter().all(|address| (self.allowed)(*address)) {
            return Err(Error::Other(Box::new(NotPublic)));
        }
        let mut resolved = self.empty();
        // As many as the connector looks at.
        for address in found.into_iter().take(16) {
            resolved.push(address);
        }
        if resolved.is_empty() { Err(Error::HostNotFound) } else { Ok(resolved) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const TIME: Duration = Duration::from_secs(5);

    /// A server that answers every request with `answer`, and how many it got.
    fn server(answer: impl Fn(SocketAddr) -> Vec<u8> + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                let mut head = [0; 2048];
                _ = stream.read(&mut head);
                _ = stream.write_all(&answer(address));
            }
        });
        (address, asked)
    }

    fn says(body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    fn sends_to(url: &str) -> Vec<u8> {
        let head = "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nConnection: close\r\n";
        format!("{head}Location: {url}\r\n\r\n").into_bytes()
    }

    /// A fetcher for which `public` is the public internet.
    fn fetcher(public: SocketAddr) -> Fetcher {
        let lookup = Arc::new(|name: &str| Ok(name.to_socket_addrs()?.collect()));
        Fetcher::with(TIME, 10, Guard { lookup, allowed: Arc::new(move |at| at == public) })
    }

    #[test]
    fn an_image_comes_within_its_bounds() {
        let (address, _) = server(|_| says(b"0123456789"));
        let url = format!("http://{address}/a.png?b=c#d");
        assert_eq!(fetcher(address).fetch(&url).unwrap(), b"0123456789");
        let (address, _) = server(|_| says(b"0123456789+"));
        let told = fetcher(address).fetch(&format!("http://{address}/")).unwrap_err();
        assert!(told.contains("more than 10 bytes"), "{told}");
        let (address, _) = server(|_| b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".to_vec());
        let told = fetcher(address).fetch(&format!("http://{address}/")).unwrap_err();
        assert!(told.contains("status 404"), "{told}");
    }

    #[test]
    fn nothing_but_the_public_internet_is_connected_to() {
        let (address, asked) = server(|_| says(b"secret"));
        let port = address.port();
        let real = Fetcher::new(TIME, 10);
        for host in [
            "127.0.0.1",
            "localhost",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "127.1",
            "0.0.0.0",
            "0",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::]",
            "[::127.0.0.1]",
        ] {
            let told = real.fetch(&format!("http://{host}:{port}/")).unwrap_err();
            assert!(told.contains("public internet") || told.contains("cannot be reached"), "{host}: {told}");
        }
        for url in [
            format!("http://user@127.0.0.1:{port}/"),
            format!("ftp://127.0.0.1:{port}/"),
            "http://".into(),
            format!("gopher://127.0.0.1:{port}/"),
            "file:///etc/passwd".into(),
            "x".repeat(5000),
        ] {
            assert!(real.fetch(&url).is_err(), "{url}");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 0, "nobody was connected to");
    }

    #[test]
    fn a_redirect_is_looked_at_like_the_first_address() {
        let (secret, asked) = server(|_| says(b"secret"));
        let (address, _) = server(move |_| sends_to(&format!("http://{secret}/")));
        let told = fetcher(address).fetch(&format!("http://{address}/")).unwrap_err();
        assert!(told.contains("public internet"), "{told}");
        assert_eq!(asked.load(Ordering::SeqCst), 0);
        let (address, _) = server(|_| sends_to("ftp://127.0.0.1/etc/passwd"));
        assert!(fetcher(address).fetch(&format!("http://{address}/")).unwrap_err().contains("only http"));
        // In a circle.
        let (address, asked) = server(|address| sends_to(&format!("//{address}/again")));
        assert!(fetcher(address).fetch(&format!("http://{address}/")).unwrap_err().contains("redirects"));
        assert_eq!(asked.load(Ordering::SeqCst), 4);
    }

    #[test]
    fn a_name_that_changes_its_mind_is_looked_up_once() {
        let (public, _) = server(|_| says(b"picture"));
        let (secret, asked) = server(|_| says(b"secret"));
        let lookups = Arc::new(AtomicUsize::new(0));
        let counted = lookups.clone();
        // The first answer is the public server, every later one the secret one.
        let lookup = Arc::new(move |_: &str| {
            let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
            Ok(vec![if first { public } else { secret }])
        });
        let allowed = Arc::new(move |at| at == public);
        let fetcher = Fetcher::with(TIME, 10, Guard { lookup, allowed });
        assert_eq!(fetcher.fetch("http://rebind.example/a.png").unwrap(), b"picture");
        assert_eq!(lookups.load(Ordering::SeqCst), 1);
        assert!(fetcher.fetch("http://rebind.example/a.png").unwrap_err().contains("public internet"));
        // One public address among others makes none of them public.
        let lookup = Arc::new(move |_: &str| Ok(vec![public, secret]));
        let fetcher = Fetcher::with(TIME, 10, Guard { lookup, allowed: Arc::new(move |at| at == public) });
        assert!(fetcher.fetch("http://both.example/").unwrap_err().contains("public internet"));
        assert_eq!(asked.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_server_that_says_nothing_is_given_up() {
        let (address, _) = server(|_| {
            // Until the client goes.
            std::thread::park_timeout(Duration::from_secs(30));
            Vec::new()
        });
        let lookup = Arc::new(|name: &str| Ok(name.to_socket_addrs()?.collect()));
        let guard = Guard { lookup, allowed: Arc::new(|_| true) };
        let fetcher = Fetcher::with(Duration::from_millis(200), 10, guard);
        assert!(fetcher.fetch(&format!("http://{address}/")).unwrap_err().contains("too long"));
    }
}

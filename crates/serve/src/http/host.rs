//! By which names this server may be called.
//!
//! A web page from anywhere can let its own name point to this machine (DNS rebinding) and would then be let in as if it were this
//! server's own page. What it cannot do is send another name than its own. So a server that listens for this machine alone
//! answers to this machine's names, and one that was given names answers to those.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::App;
use super::error::{Answer, ApiError};
use crate::options::HostName;

/// Lets a request through that calls this server by one of its names. One that says no name comes from no browser.
pub(crate) async fn check(State(app): State<App>, request: Request, next: Next) -> Answer<Response> {
    let options = &app.options;
    let says = |name: &str| is_ours(name, options.address, &options.allowed_hosts);
    let of_target = request.uri().authority().map(Authority::as_str);
    let of_header = request.headers().get_all(header::HOST).iter().map(|value| value.to_str().unwrap_or(""));
    match of_target.into_iter().chain(of_header).find(|name| !says(name)) {
        None => Ok(next.run(request).await),
        Some(name) => {
            let name: String = name.chars().take(100).collect();
            let message =
                format!("this server is not called {name:?}; --allowed-host lets it answer to a name");
            Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, message).code("unknown_host"))
        }
    }
}

/// Whether a request to `name`, with a port or without, is for a server that listens at `address`.
fn is_ours(name: &str, address: SocketAddr, allowed: &[HostName]) -> bool {
    if !address.ip().is_loopback() && allowed.is_empty() {
        return true;
    }
    let host = without_port(name);
    if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        // Behind 0.0.0.0 this is one of the machine's own, and no name at all.
        return ip.is_loopback() || ip == address.ip() || address.ip().is_unspecified();
    }
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost") || allowed.iter().any(|name| name.as_str() == host)
}

/// `[::1]:80`, `[::1]`, `name:80` and `name` without what follows the host.
fn without_port(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !host.ends_with(':') => {
            // The last part of a bare IPv6 address is no port.
            if host.contains(':') && !host.starts_with('[') { name } else { host }
        }
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ours(name: &str, address: &str, allowed: &[&str]) -> bool {
        let allowed: Vec<HostName> = allowed.iter().map(|name| name.parse().unwrap()).collect();
        is_ours(name, address.parse().unwrap(), &allowed)
    }

    #[test]
    fn this_machine_has_few_names() {
        let names = [
            "localhost",
            "LocalHost:8080",
            "localhost.",
            "foveate.localhost:1",
            "127.0.0.1:8080",
            "127.8.9.1",
            "[::1]:9000",
            "[::1]",
            "::1",
        ];
        for name in names {
            assert!(ours(name, "127.0.0.1:8080", &[]) && ours(name, "[::1]:8080", &[]), "{name}");
        }
        let others = [
            "",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "evillocalhost",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "10.0.0.1",
            "[fe80::1]:8080",
            "0.0.0.0",
            "localhost:80:80",
            "localhost/evil",
        ];
        for name in others {
            assert!(!ours(name, "127.0.0.1:8080", &[]), "{name}");
        }
    }

    #[test]
    fn names_are_allowed_one_by_one() {
        assert!(ours("Box.Local:8080", "127.0.0.1:8080", &["box.local"]));
        assert!(!ours("www.box.local", "127.0.0.1:8080", &["box.local"]));
        // Where anybody may connect the operator says by which names, or nothing.
        assert!(ours("evil.example", "0.0.0.0:80", &[]));
        for (name, let_in) in [("box.local", true), ("10.0.0.7:80", true), ("evil.example", false)] {
            assert_eq!(ours(name, "0.0.0.0:80", &["box.local"]), let_in, "{name}");
        }
        for (name, let_in) in [("10.0.0.7:80", true), ("10.0.0.8", false), ("localhost", true)] {
            assert_eq!(ours(name, "10.0.0.7:80", &["box.local"]), let_in, "{name}");
        }
    }
}

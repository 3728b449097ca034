//! Where the hub and the caches are: the variables that Hugging Face's own library reads, and ours.

use std::fmt;
use std::path::PathBuf;

use ureq::http::{HeaderValue, Uri};

use crate::error::HubError;

const PUBLIC_HUB: &str = "https://huggingface.co";

/// Places and credentials.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// The hub.
    pub endpoint: Endpoint,
    /// Who asks, for private and gated repositories.
    pub token: Option<Token>,
    /// Root of the Hugging Face cache: it holds `models--owner--name`.
    pub hub_cache: PathBuf,
    /// Root of foveate's own cache: it holds `wheels`.
    pub foveate_home: PathBuf,
    /// `HF_HUB_OFFLINE` is set.
    pub offline: bool,
}

impl Settings {
    /// Reads `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_CACHE`, `HF_HOME`, `HF_HUB_OFFLINE`, `FOVEATE_HOME` and
    /// `XDG_CACHE_HOME`.
    ///
    /// # Errors
    /// [`HubError::Setting`] for an endpoint that is no address, a token that cannot be sent, or no home folder.
    pub fn from_environment() -> Result<Settings, HubError> {
        Settings::from_variables(|name| std::env::var(name).ok(), std::env::home_dir())
    }

    /// The same from any source of variables; empty ones count as unset.
    pub(crate) fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
        home: Option<PathBuf>,
    ) -> Result<Settings, HubError> {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let path = |name: &str| set(name).map(PathBuf::from);
        let caches = || match (path("XDG_CACHE_HOME"), &home) {
            (Some(caches), _) => Ok(caches),
            (None, Some(home)) => Ok(home.join(".cache")),
            (None, None) => Err(HubError::Setting {
                variable: "HOME",
                value: String::new(),
                reason: "without a home folder, HF_HUB_CACHE and FOVEATE_HOME must say where models are kept"
                    .into(),
            }),
        };
        let hub_cache = match (path("HF_HUB_CACHE"), path("HF_HOME")) {
            (Some(cache), _) => cache,
            (None, Some(home)) => home.join("hub"),
            (None, None) => caches()?.join("huggingface").join("hub"),
        };
        let foveate_home = match path("FOVEATE_HOME") {
            Some(home) => home,
            None => caches()?.join("foveate"),
        };
        Ok(Settings {
            endpoint: Endpoint::parse(set("HF_ENDPOINT").as_deref().unwrap_or(PUBLIC_HUB))?,
            token: set("HF_TOKEN").map(|token| Token::new(&token)).transpose()?,
            hub_cache,
            foveate_home,
            offline: set("HF_HUB_OFFLINE").is_some_and(|value| {
                matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
            }),
        })
    }
}

/// Address of a hub, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// `http://…` or `https://…`, with a path if the hub is not at the root.
    ///
    /// # Errors
    /// [`HubError::Setting`] for anything else.
    pub fn parse(text: &str) -> Result<Endpoint, HubError> {
        let refuse = |reason: &str| HubError::Setting {
            variable: "HF_ENDPOINT",
            value: text.to_string(),
            reason: format!("{reason}; an address like {PUBLIC_HUB} is needed"),
        };
        let trimmed = text.trim().trim_end_matches('/');
        let address: Uri = trimmed.parse().map_err(|_| refuse("it is no address"))?;
        match (address.scheme_str(), address.authority(), address.query()) {
            (Some("http" | "https"), Some(authority), None) if !authority.as_str().contains('@') => {
                Ok(Endpoint(trimmed.to_string()))
            }
            _ => Err(refuse("it must begin with http:// or https:// and hold no question mark or password")),
        }
    }

    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A bearer token; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(HeaderValue);

impl Token {
    /// A token, without the space around it.
    ///
    /// # Errors
    /// [`HubError::Setting`] if it cannot be sent in a header; the message does not show it.
    pub fn new(text: &str) -> Result<Token, HubError> {
        let mut value =
            HeaderValue::from_str(&format!("Bearer {}", text.trim())).map_err(|_| HubError::Setting {
                variable: "HF_TOKEN",
                value: "(not shown)".into(),
                reason: "a token has only letters, digits and signs of one line".into(),
            })?;
        value.set_sensitive(true);
        Ok(Token(value))
    }

    pub(crate) fn header(&self) -> &HeaderValue {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, HubError> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_string())
        };
        Settings::from_variables(variable, Some("/home/someone".into()))
    }

    #[test]
    fn places_in_their_order() {
        for (variables, hub, ours) in [
            (&[][..], "/home/someone/.cache/huggingface/hub", "/home/someone/.cache/foveate"),
            (&[("XDG_CACHE_HOME", "/c")], "/c/huggingface/hub", "/c/foveate"),
            (&[("HF_HOME", "/h"), ("FOVEATE_HOME", "/f")], "/h/hub", "/f"),
            (&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/hub")], "/hub", "/home/someone/.cache/foveate"),
            (&[("HF_HOME", "")], "/home/someone/.cache/huggingface/hub", "/home/someone/.cache/foveate"),
        ] {
            let found = settings(variables).unwrap();
            assert_eq!(found.hub_cache, Path::new(hub));
            assert_eq!(found.foveate_home, Path::new(ours));
            assert_eq!(found.endpoint.as_str(), PUBLIC_HUB);
            assert!(!found.offline && found.token.is_none());
        }
        assert!(Settings::from_variables(|_| None, None).unwrap_err().to_string().contains("FOVEATE_HOME"));
    }

    #[test]
    fn offline_in_the_words_that_the_python_library_reads() {
        for (value, offline) in [("1", true), ("true", true), ("YES", true), ("on", true), ("0", false)] {
            assert_eq!(settings(&[("HF_HUB_OFFLINE", value)]).unwrap().offline, offline, "{value}");
        }
    }

    #[test]
    fn endpoints() {
        let parsed = |text| Endpoint::parse(text).map(|endpoint| endpoint.as_str().to_string());
        assert_eq!(parsed("http://127.0.0.1:8000/").unwrap(), "http://127.0.0.1:8000");
        assert_eq!(parsed("https://mirror.example/hub/").unwrap(), "https://mirror.example/hub");
        for text in
            ["mirror.example", "ftp://mirror.example", "", "https://", "https://a:b@c", "https://a/?b"]
        {
            assert!(parsed(text).unwrap_err().to_string().starts_with("HF_ENDPOINT is "), "{text}");
        }
    }

    #[test]
    fn tokens_are_never_shown() {
        let found = settings(&[("HF_TOKEN", " hf_secret\n")]).unwrap();
        assert_eq!(found.token.as_ref().unwrap().header().as_bytes(), b"Bearer hf_secret");
        assert!(!format!("{found:?}").contains("secret"));
        let refused = settings(&[("HF_TOKEN", "hf_se\ncret")]).unwrap_err();
        assert!(refused.is_users() && !format!("{refused:?} {refused}").contains("cret\""));
        assert!(!refused.to_string().contains("hf_se"));
    }
}

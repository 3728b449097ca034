//! The hub client against a stand-in: cuts, wrong bytes, refusals, waits, redirects, no network at all.
#![allow(clippy::unwrap_used)]

mod stand_in;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use foveate_hub::{Clock, Endpoint, HubError, Located, Network, Options, Settings, Source, Token, locate};
use stand_in::{Answer, COMMIT, Request, StandIn, information, serve, sha256};

/// A clock that notes the waits and does not wait.
#[derive(Default)]
struct Noted {
    waits: RefCell<Vec<u64>>,
}

impl Clock for Noted {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(784_887_151)
    }

    fn sleep(&self, wait: Duration) {
        self.waits.borrow_mut().push(wait.as_secs());
    }
}

/// A cache of its own, and what was waited.
struct Place {
    folder: tempfile::TempDir,
    clock: Noted,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap(), clock: Noted::default() }
    }

    fn settings(&self, url: &str) -> Settings {
        let mut settings = Settings::from_environment().unwrap();
        settings.endpoint = Endpoint::parse(url).unwrap();
        settings.token = Some(Token::new("hf_secret").unwrap());
        settings.hub_cache = self.folder.path().join("hub");
        settings.foveate_home = self.folder.path().join("foveate");
        settings
    }

    fn pull(&self, url: &str, network: Network) -> Result<Located, HubError> {
        self.pull_word(url, network, "o/n", &[])
    }

    fn pull_word(
        &self,
        url: &str,
        network: Network,
        word: &str,
        files: &[&str],
    ) -> Result<Located, HubError> {
        let source: Source = word.parse().unwrap();
        let mut options = Options::new(self.settings(url));
        options.network = network;
        options.clock = &self.clock;
        options.files = files.iter().map(|name| (*name).to_string()).collect();
        locate(&source, &options)
    }

    fn blobs(&self) -> Vec<PathBuf> {
        let folder = self.folder.path().join("hub/models--o--n/blobs");
        std::fs::read_dir(folder)
            .map_or(vec![], |entries| entries.map(|entry| entry.unwrap().path()).collect())
    }

    fn waits(&self) -> Vec<u64> {
        self.clock.waits.borrow().clone()
    }
}

const CONFIG: &[u8] = b"{\"model_type\": \"llama\"}";
const WEIGHTS: &str = "model.safetensors";

/// Bytes in which every offset shows.
fn weights() -> Vec<u8> {
    (0..200_000_u32).flat_map(|number| number.to_le_bytes()).collect()
}

/// A repository of a configuration and weights; `answer` may answer for the weights itself.
fn hub(answer: impl Fn(&Request, usize, &[u8]) -> Option<Answer> + Send + Sync + 'static) -> StandIn {
    let (weights, tag) = (weights(), sha256(&weights()));
    StandIn::start(move |request, before| {
        if request.path.starts_with("/api/models/o/n/revision/") {
            return information(&["config.json", WEIGHTS, "README.md"]);
        }
        if request.path.ends_with("/config.json") {
            return serve(request, CONFIG, "abc123");
        }
        assert_eq!(request.path, format!("/o/n/resolve/{COMMIT}/{WEIGHTS}"));
        answer(request, before, &weights).unwrap_or_else(|| serve(request, &weights, &tag))
    })
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap()
}

#[test]
fn a_repository_comes_in_the_layout_of_the_ecosystem() {
    let (hub, place) = (hub(|_, _, _| None), Place::new());
    let found = place.pull(&hub.url(), Network::Always).unwrap();
    let root = place.folder.path().join("hub/models--o--n");
    assert_eq!(found.path, root.join("snapshots").join(COMMIT));
    assert_eq!(found.revision.as_deref(), Some(COMMIT));
    assert_eq!(read(&found.path, "config.json"), CONFIG);
    assert_eq!(read(&found.path, WEIGHTS), weights());
    assert_eq!(read(&root, "blobs/abc123"), CONFIG);
    assert_eq!(read(&root, "refs/main"), COMMIT.as_bytes());
    assert_eq!(place.blobs().len(), 2, "the README is not fetched");
    #[cfg(unix)]
    assert_eq!(
        std::fs::read_link(found.path.join("config.json")).unwrap(),
        Path::new("../../blobs/abc123"),
        "as huggingface_hub links"
    );
    assert!(hub.requests().iter().all(|asked| asked.header("authorization") == Some("Bearer hf_secret")));
    // Once more: the list and the tags are asked for, no content is.
    let contents = |hub: &StandIn| hub.of("GET", "config.json").len() + hub.of("GET", WEIGHTS).len();
    assert_eq!((place.pull(&hub.url(), Network::Always).unwrap(), contents(&hub)), (found.clone(), 2));
    let before = hub.connections();
    assert_eq!(place.pull(&hub.url(), Network::WhenMissing).unwrap(), found);
    assert_eq!(hub.connections(), before, "what is whole is not asked for");
}

#[test]
fn a_cut_is_continued_where_it_was() {
    let tag = sha256(&weights());
    let hub = hub(move |request, before, weights| {
        let cuts = [100_000, 0, 250_000];
        let cut = *cuts.get(before)?;
        (request.method == "GET").then(|| serve(request, weights, &tag).cut(cut))
    });
    let place = Place::new();
    let found = place.pull(&hub.url(), Network::Always).unwrap();
    assert_eq!(read(&found.path, WEIGHTS), weights());
    let begins: Vec<u64> = hub.of("GET", WEIGHTS).iter().map(Request::from).collect();
    assert_eq!(begins, [0, 100_000, 100_000, 350_000]);
    assert_eq!(place.waits(), [1, 2, 1], "a try that brought something makes patience new");
}

#[test]
fn cuts_without_end_are_given_up_and_continued_by_the_next_run() {
    let tag = sha256(&weights());
    let hub = hub(move |request, before, weights| {
        let cut = match before {
            0 => 100_000,
            1..=5 => 0,
            _ => return None,
        };
        (request.method == "GET").then(|| serve(request, weights, &tag).cut(cut))
    });
    let place = Place::new();
    let error = place.pull(&hub.url(), Network::Always).unwrap_err();
    assert!(!error.is_users() && error.to_string().contains("gave up after 5 tries"), "{error}");
    let refs = place.folder.path().join("hub/models--o--n/refs/main");
    assert!(!refs.exists(), "a revision is noted when it is whole");
    let found = place.pull(&hub.url(), Network::Always).unwrap();
    assert_eq!(read(&found.path, WEIGHTS), weights());
    assert_eq!(hub.of("GET", WEIGHTS).last().unwrap().from(), 100_000);
}

#[test]
fn a_server_that_cannot_continue_begins_again() {
    let tag = sha256(&weights());
    let hub = hub(move |request, before, weights| {
        let whole = Answer::new(200).header("ETag", &tag).body(weights);
        Some(if before == 0 && request.method == "GET" { whole.cut(1000) } else { whole })
    });
    let place = Place::new();
    assert_eq!(read(&place.pull(&hub.url(), Network::Always).unwrap().path, WEIGHTS), weights());
    assert_eq!(hub.of("GET", WEIGHTS)[1].from(), 1000);
}

#[test]
fn an_answer_from_another_offset_is_refused() {
    let tag = sha256(&weights());
    let hub = hub(move |request, before, weights| match (request.method.as_str(), before) {
        ("GET", 0) => Some(serve(request, weights, &tag).cut(1000)),
        ("GET", _) => {
            Some(Answer::new(206).header("Content-Range", "bytes 999-799999/800000").body(&weights[999..]))
        }
        _ => None,
    });
    let error = Place::new().pull(&hub.url(), Network::Always).unwrap_err().to_string();
    assert!(error.contains("bytes from 1000 on were asked for and bytes 999-799999/800000 comes"), "{error}");
}

#[test]
fn wrong_bytes_are_deleted() {
    let tag = sha256(&weights());
    let hub = hub(move |request, _, weights| {
        let mut other = weights.to_vec();
        other[5] ^= 1;
        Some(serve(request, &other, &tag))
    });
    let place = Place::new();
    let error = place.pull(&hub.url(), Network::Always).unwrap_err();
    assert!(
        matches!(&error, HubError::Checksum { expected, .. } if *expected == sha256(&weights())),
        "{error}"
    );
    assert!(!error.is_users());
    assert_eq!(place.blobs(), [place.folder.path().join("hub/models--o--n/blobs/abc123")]);
}

#[test]
fn wrong_sizes_are_deleted() {
    let hub = hub(|request, _, weights| {
        let length = (weights.len() - 1).to_string();
        Some(serve(request, weights, "tag").header("X-Linked-Etag", "tag").header("X-Linked-Size", &length))
    });
    let place = Place::new();
    let error = place.pull(&hub.url(), Network::Always).unwrap_err();
    assert!(matches!(error, HubError::Size { expected: 799_999, .. }), "{error}");
    assert_eq!(place.blobs().len(), 1);
}

#[test]
fn refusals_say_what_to_do() {
    for status in [401, 403] {
        let hub = StandIn::start(move |_, _| Answer::new(status));
        let place = Place::new();
        let error = place.pull(&hub.url(), Network::Always).unwrap_err();
        assert!(error.is_users() && error.to_string().contains("HF_TOKEN"), "{error}");
        assert!(error.to_string().contains("repository o/n at revision main"), "{error}");
        assert!(!format!("{error} {error:?}").contains("secret"));
        assert!(hub.requests().len() == 1 && place.waits().is_empty(), "asking again would not help");
    }
}

#[test]
fn what_is_not_there_is_named() {
    let absent = StandIn::start(|_, _| Answer::new(404));
    let place = Place::new();
    let error = place.pull_word(&absent.url(), Network::Always, "o/n@v2", &[]).unwrap_err();
    assert!(error.is_users());
    assert_eq!(error.to_string(), "the hub has no repository o/n at revision v2 (status 404)");
    let hub = hub(|_, _, _| Some(Answer::new(404)));
    let error = place.pull(&hub.url(), Network::Always).unwrap_err().to_string();
    assert_eq!(
        error,
        "the hub has no file model.safetensors in repository o/n at revision main (status 404)"
    );
    let error = place.pull_word(&hub.url(), Network::Always, "o/n", &["x.gguf"]).unwrap_err().to_string();
    assert!(error.contains("no file \"x.gguf\"; it has config.json"), "{error}");
}

#[test]
fn a_busy_hub_is_waited_for_as_long_as_it_says() {
    let hub = hub(|_, before, _| match before {
        0 => Some(Answer::new(429).header("Retry-After", "7")),
        1 => Some(Answer::new(503).header("Retry-After", "Tue, 15 Nov 1994 08:12:43 GMT")),
        2 => Some(Answer::new(500)),
        _ => None,
    });
    let place = Place::new();
    place.pull(&hub.url(), Network::Always).unwrap();
    // HEAD meets all three, then GET, counted apart, meets them again.
    assert_eq!(place.waits(), [7, 12, 4, 7, 12, 4]);
}

#[test]
fn a_hub_that_stays_busy_is_left() {
    for (header, wanted, asked) in [("1", "gave up after 5 tries", 5), ("301", "it asks to wait 301 s", 1)] {
        let hub = StandIn::start(move |_, _| Answer::new(429).header("Retry-After", header));
        let error = Place::new().pull(&hub.url(), Network::Always).unwrap_err();
        assert!(!error.is_users() && error.to_string().contains(wanted), "{error}");
        assert_eq!(hub.requests().len(), asked);
    }
}

#[test]
fn a_store_elsewhere_gets_no_token_and_gives_the_bytes() {
    let (content, tag) = (weights(), sha256(&weights()));
    let store = Arc::new(StandIn::start(move |request, before| {
        let answer = serve(request, &content, "a-tag-of-the-store");
        if before == 0 { answer.cut(3000) } else { answer }
    }));
    let address = store.url();
    let hub = hub(move |_, _, weights| {
        let answer = Answer::new(302).header("Location", &format!("{address}/signed?x=y"));
        Some(
            answer
                .header("X-Linked-Etag", &format!("\"{tag}\""))
                .header("X-Linked-Size", &weights.len().to_string()),
        )
    });
    let place = Place::new();
    let found = place.pull(&hub.url(), Network::Always).unwrap();
    assert_eq!(read(&found.path, WEIGHTS), weights());
    let asked = store.requests();
    assert_eq!(asked.iter().map(Request::from).collect::<Vec<_>>(), [0, 3000]);
    for request in asked {
        assert!(request.method == "GET" && request.header("authorization").is_none(), "{request:?}");
    }
    assert!(hub.requests().iter().all(|asked| asked.header("authorization").is_some()));
}

#[test]
fn a_renamed_repository_is_followed_with_the_token() {
    let hub = StandIn::start(|request, _| match request.path.as_str() {
        path if path.starts_with("/api/models/o/n/") => {
            Answer::new(307).header("Location", "/api/models/o/new/revision/main?blobs=true")
        }
        path if path.starts_with("/api/models/o/new/") => information(&["m.gguf"]),
        path if path.starts_with("/o/n/") => {
            Answer::new(307).header("Location", &format!("/o/new/resolve/{COMMIT}/m.gguf"))
        }
        _ => serve(request, b"GGUF", "tag"),
    });
    let place = Place::new();
    let found = place.pull(&hub.url(), Network::Always).unwrap();
    assert!(found.path.ends_with("m.gguf"), "one GGUF file is the model");
    assert_eq!(std::fs::read(&found.path).unwrap(), b"GGUF");
    assert!(hub.requests().iter().all(|asked| asked.header("authorization").is_some()));
}

#[test]
fn redirects_without_end() {
    let hub = StandIn::start(|_, _| Answer::new(302).header("Location", "/again"));
    let error = Place::new().pull(&hub.url(), Network::Always).unwrap_err().to_string();
    assert!(error.contains("redirects more than 8 times"), "{error}");
}

#[test]
fn hostile_lists_are_refused_before_anything_is_written() {
    for name in ["../../x.safetensors", "/etc/x.safetensors", "C:/x.safetensors", "a\\\\b.safetensors"] {
        let hub = StandIn::start(move |_, _| {
            let text = format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{{\"rfilename\": \"{name}\"}}]}}");
            Answer::new(200).body(text.as_bytes())
        });
        let place = Place::new();
        let error = place.pull(&hub.url(), Network::Always).unwrap_err();
        assert!(matches!(error, HubError::UnsafeName { .. }), "{name}: {error}");
        assert_eq!(hub.requests().len(), 1);
        assert_eq!(std::fs::read_dir(place.folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn answers_of_something_that_is_no_hub() {
    for (body, wanted) in [
        ("<html>", "expected value"),
        ("{\"sha\": \"../..\"}", "\"../..\" is no commit"),
        ("{\"siblings\": []}", "missing field `sha`"),
    ] {
        let hub = StandIn::start(move |_, _| Answer::new(200).body(body.as_bytes()));
        let error = Place::new().pull(&hub.url(), Network::Always).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    let hub = hub(|request, _, weights| Some(serve(request, weights, "../../escape")));
    let error = Place::new().pull(&hub.url(), Network::Always).unwrap_err().to_string();
    assert!(error.contains("its ETag \"\\\"../../escape\\\"\" is no name"), "{error}");
}

#[test]
fn offline_opens_no_socket() {
    let hub = hub(|_, _, _| None);
    let place = Place::new();
    let error = place.pull(&hub.url(), Network::Never).unwrap_err();
    assert!(error.is_users() && error.to_string().contains("revision main was never fetched"), "{error}");
    assert_eq!(hub.connections(), 0);
    let found = place.pull(&hub.url(), Network::Always).unwrap();
    let before = hub.connections();
    assert_eq!(place.pull(&hub.url(), Network::Never).unwrap(), found);
    let error = place.pull_word(&hub.url(), Network::Never, "o/n@v2", &[]).unwrap_err();
    assert!(error.to_string().contains("revision v2 was never fetched"), "{error}");
    assert_eq!(hub.connections(), before);
    // Nobody listens there: a single connection would be an error.
    let closed = hub.url();
    drop(hub);
    assert_eq!(place.pull(&closed, Network::Never).unwrap(), found);
    let error = place.pull(&closed, Network::Always).unwrap_err();
    assert!(matches!(error, HubError::Connection { .. }) && place.waits().is_empty(), "{error}");
}

//! `foveate serve`: a model behind OpenAI's API.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use foveate_law::Budget;
use foveate_serve::{
    ApiKey, Example, FileOptions, HostName, Limits, LogFormat, Options, RemoteImages, Schedule, ServeError,
    serve, start_log,
};

use super::demo::exhibits;
use super::law_source;
use crate::Outcome;
use crate::auto;
use crate::failure::Failure;
use crate::generation::Threads;
use crate::looking::Compression;
use crate::machine;
use crate::model::Place;

/// The pictures of `foveate demo` that the page offers to try.
const EXAMPLES: [&str; 3] = ["scene-1.png", "scene-2.png", "text-1.png"];
/// The longest file with a key, in bytes.
const MOST_KEY_BYTES: u64 = 4096;
/// Where a key is looked for that no process list shows.
const KEY_VARIABLE: &str = "FOVEATE_API_KEY";

/// Serve a model with the API of OpenAI (chat with images, streams, uploaded files) and a page to see it at `/`.
///
/// Requests say how many visual tokens they buy (`visual_tokens`) or how long an answer may take (`max_latency_ms`);
/// `/v1/count` says what a request would cost, `/docs` shows all of it. Many answers are written at once, each the same as alone.
/// SIGTERM and Ctrl-C let accepted requests end. With FOVEATE_API_KEY set, or --api-key-file, clients must know the key.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    compression: Compression,
    /// The address to listen at; 0.0.0.0 is every one that this machine has.
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// The port; 0 takes a free one, which the log names.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// What the model is called in requests [default: MODEL, of a path its last part].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A name that the server answers to besides those of this machine; may be repeated. Other names are refused where it
    /// listens at a loopback address, and wherever this is given.
    #[arg(long, value_name = "NAME")]
    allowed_host: Vec<HostName>,
    /// A file that holds the key which clients must send.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Answers in progress at once; each may hold the keys and values of a whole context.
    #[arg(long, value_name = "N", default_value_t = Schedule::default().parallel, value_parser = positive)]
    parallel: usize,
    /// Requests that wait for a place among them; more get status 429.
    #[arg(long, value_name = "N", default_value_t = Schedule::default().queue)]
    queue: usize,
    /// Memory for prompts that begin alike.
    #[arg(long, value_name = "BYTES", default_value = "256MiB", value_parser = size)]
    prefix_cache: u64,
    /// The most new tokens of an answer, and what is meant where a request says nothing.
    #[arg(long, value_name = "N", default_value_t = Limits::default().answer_tokens, value_parser = positive)]
    max_new_tokens: usize,
    /// The longest prompt, in tokens [default: the model's context].
    #[arg(long, value_name = "N", value_parser = positive)]
    max_prompt_tokens: Option<usize>,
    /// The most images of a request.
    #[arg(long, value_name = "N", default_value_t = Limits::default().images)]
    max_images: usize,
    /// The largest image file.
    #[arg(long, value_name = "BYTES", default_value = "20MiB", value_parser = size)]
    max_image_bytes: u64,
    /// The most pixels of an image.
    #[arg(long, value_name = "N", default_value_t = Limits::default().image_pixels)]
    max_image_pixels: u64,
    /// The largest request.
    #[arg(long, value_name = "BYTES", default_value = "32MiB", value_parser = size)]
    max_body_bytes: u64,
    /// How long a request may take to arrive.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    body_timeout: Duration,
    /// How long an answer may take; after that the request fails.
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = time)]
    deadline: Duration,
    /// How long accepted requests may go on after the order to stop.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    grace: Duration,
    /// Fetch images that requests name by http(s) addresses on the public internet.
    #[arg(long)]
    allow_remote_images: bool,
    /// How long fetching one may take.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time, requires = "allow_remote_images")]
    remote_timeout: Duration,
    /// Where uploaded images are kept [default: a temporary folder that ends with the server].
    #[arg(long, value_name = "FOLDER")]
    files: Option<PathBuf>,
    /// How long they are kept; `never` keeps them until they are deleted.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = keep)]
    file_ttl: Keep,
    /// What they may take together.
    #[arg(long, value_name = "BYTES", default_value = "1GiB", value_parser = size)]
    max_file_bytes: u64,
    /// The law that /v1/plan plans with, as `foveate fit --out` writes it [default: published measurements].
    #[arg(long, value_name = "law.json")]
    law: Option<PathBuf>,
    /// The errors by kind of question that `visual_tokens: "auto"` chooses by, as `foveate calibrate` writes them [default:
    /// laws.json in MODEL; without one `auto` means the most tokens].
    #[arg(long, value_name = "FILE")]
    laws: Option<PathBuf>,
    /// For `auto` without a latency: how far the predicted error may lie above the least one, where that is cheaper.
    #[arg(long, value_name = "ERROR", default_value_t = auto::TOLERANCE, value_parser = auto::tolerance)]
    tolerance: f64,
    /// The task to plan for, where the file holds several.
    #[arg(long, requires = "law")]
    task: Option<String>,
    /// Rates of the machine for /v1/plan, as `foveate bench` writes them [default: its last profile].
    #[arg(long, value_name = "FILE")]
    machine: Option<PathBuf>,
    /// How lines of the log look, which goes to standard error.
    #[arg(long, value_enum, default_value_t = LogName::Text)]
    log_format: LogName,
    /// Log what is asked and answered, which is left out otherwise.
    #[arg(long)]
    log_content: bool,
    #[command(flatten)]
    threads: Threads,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum LogName {
    Text,
    Json,
}

/// How long files are kept.
#[derive(Clone, Copy)]
struct Keep(Option<Duration>);

impl Arguments {
    pub(crate) fn run(self) -> Outcome {
        let key = self.key()?;
        self.threads.apply()?;
        let law = self.law.as_deref().map(|path| law_source::read(path, self.task.as_deref())).transpose()?;
        let profile = || machine::profile_path().filter(|path| path.exists());
        let rates = self.machine.clone().or_else(profile).map(|path| machine::read(&path)).transpose()?;
        let mut model = self.place.open()?;
        model.require_template()?;
        let own = self.compression.visual_tokens.is_some();
        let budget = self.compression.apply(&mut model)?.filter(|_| own);
        start_log(match self.log_format {
            LogName::Text => LogFormat::Text,
            LogName::Json => LogFormat::Json,
        });
        let options = Options {
            address: SocketAddr::new(self.host, self.port),
            model: self.name.clone().unwrap_or_else(|| name_of(&self.place.model)),
            allowed_hosts: self.allowed_host.clone(),
            key,
            limits: self.limits(),
            schedule: Schedule {
                parallel: self.parallel,
                queue: self.queue,
                prefix_bytes: whole(self.prefix_cache),
                ..Schedule::default()
            },
            budget,
            auto: auto::served(&model, self.laws.as_deref(), self.tolerance)?,
            remote: match self.allow_remote_images {
                true => RemoteImages::Public(self.remote_timeout),
                false => RemoteImages::Refused,
            },
            files: FileOptions { folder: self.files, keep: self.file_ttl.0, bytes: self.max_file_bytes },
            deadline: self.deadline,
            grace: self.grace,
            law,
            rates,
            examples: examples()?,
            log_content: self.log_content,
        };
        serve(Arc::new(model), options).map_err(|error| match error {
            ServeError::Listen { .. } | ServeError::Files(_) => Failure::user(error),
            error => Failure::Other(error.into()),
        })
    }

    fn limits(&self) -> Limits {
        let body_bytes = whole(self.max_body_bytes);
        let usual = Limits::default();
        Limits {
            body_bytes,
            all_bodies_bytes: usual.all_bodies_bytes.max(2 * body_bytes),
            body_time: self.body_timeout,
            image_bytes: self.max_image_bytes,
            image_pixels: self.max_image_pixels,
            images: self.max_images,
            prompt_tokens: self.max_prompt_tokens.unwrap_or(usual.prompt_tokens),
            answer_tokens: self.max_new_tokens,
            ..usual
        }
    }

    /// The key: of the file, else of the environment.
    fn key(&self) -> Result<Option<ApiKey>, Failure> {
        let (key, from) = match &self.api_key_file {
            Some(path) => (read_key(path)?, path.display().to_string()),
            None => match std::env::var(KEY_VARIABLE) {
                Ok(key) => (key, KEY_VARIABLE.to_owned()),
                Err(std::env::VarError::NotPresent) => return Ok(None),
                Err(error) => return Err(Failure::user(format!("{KEY_VARIABLE}: {error}"))),
            },
        };
        let key = ApiKey::new(key.trim());
        key.map(Some).ok_or_else(|| Failure::user(format!("{from}: an empty key would let everybody in")))
    }
}

/// Pictures to try, with questions whose answers are known.
fn examples() -> Result<Vec<Example>, Failure> {
    let chosen = exhibits::all()?.into_iter().filter(|exhibit| EXAMPLES.contains(&exhibit.file.as_str()));
    let example = |exhibit: exhibits::Exhibit| Example {
        name: exhibit.file,
        png: exhibit.png,
        questions: exhibit.questions.into_iter().map(|asked| (asked.text, asked.answer)).collect(),
    };
    Ok(chosen.map(example).collect())
}

fn read_key(path: &Path) -> Result<String, Failure> {
    use std::io::Read;
    let failed = |error: std::io::Error| Failure::user(format!("{}: {error}", path.display()));
    let mut key = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MOST_KEY_BYTES).read_to_string(&mut key).map_err(failed)?;
    Ok(key)
}

/// What a model is called: a path tells clients more than they need.
fn name_of(word: &str) -> String {
    let path = Path::new(word);
    let last = path.file_name().and_then(|name| name.to_str()).filter(|_| path.exists());
    last.unwrap_or(word).to_owned()
}

/// Sizes fit into the memory that they are taken from.
fn whole(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "a whole number of at least 1".to_owned())
}

fn size(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(Budget::Bytes(bytes)) => Ok(bytes as u64),
        _ => Err("bytes are needed, for example 32MiB".to_owned()),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 5] = [("ms", 1e-3), ("min", 60.0), ("s", 1.0), ("h", 3600.0), ("d", 86_400.0)];
    let told = || "a time is needed, for example 500ms, 30s, 5min, 24h or 7d".to_owned();
    let (number, unit) = UNITS
        .iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))
        .ok_or_else(told)?;
    let seconds: f64 = number.trim().parse().map_err(|_| told())?;
    // A century: additions to the clock stay far from its end.
    let allowed = (0.0..=3.2e9).contains(&(seconds * unit)) && seconds > 0.0;
    if allowed { Ok(Duration::from_secs_f64(seconds * unit)) } else { Err(told()) }
}

fn keep(text: &str) -> Result<Keep, String> {
    if text == "never" { Ok(Keep(None)) } else { time(text).map(|time| Keep(Some(time))) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_and_sizes_have_units() {
        for (text, seconds) in
            [("500ms", 0.5), ("30s", 30.0), ("5min", 300.0), ("24h", 86_400.0), ("1.5 d", 129_600.0)]
        {
            assert_eq!(time(text).unwrap().as_secs_f64(), seconds, "{text}");
        }
        for wrong in ["", "5", "s", "-1s", "0s", "nan s", "inf h", "1e30d", "5 weeks"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
        assert_eq!(size("32MiB"), Ok(32 << 20));
        assert!(size("32").is_err() && size("2s").is_err() && positive("0").is_err());
        assert!(keep("never").unwrap().0.is_none() && keep("1s").unwrap().0.is_some());
    }

    #[test]
    fn a_path_is_called_by_its_end() {
        let folder = env!("CARGO_MANIFEST_DIR");
        assert_eq!((name_of(folder).as_str(), name_of("owner/name").as_str()), ("cli", "owner/name"));
        assert_eq!(name_of("foveate-nano"), "foveate-nano");
    }
}

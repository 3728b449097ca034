//! A hub for tests: answers HTTP/1.1 on a local port as a script of each test says, and keeps what it was asked.
#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses a part")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use sha2::{Digest, Sha256};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What a client sent.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// First byte of the range that is asked for.
    pub(crate) fn from(&self) -> u64 {
        let range = self.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        range.map_or(0, |from| from.parse().unwrap())
    }
}

/// What comes back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The connection is closed after so many bytes of the body.
    cut: Option<usize>,
    /// After the cut the connection stays open, silent, until the client goes.
    stall: bool,
}

impl Answer {
    pub(crate) fn new(status: u16) -> Answer {
        Answer { status, headers: Vec::new(), body: Vec::new(), cut: None, stall: false }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Answer {
        self.body = body.to_vec();
        self
    }

    pub(crate) fn cut(mut self, bytes: usize) -> Answer {
        self.cut = Some(bytes);
        self
    }

    pub(crate) fn stall(mut self, bytes: usize) -> Answer {
        self.cut = Some(bytes);
        self.stall = true;
        self
    }
}

/// A file as a hub serves it: HEAD tells tag and size, GET honours ranges.
pub(crate) fn serve(request: &Request, content: &[u8], etag: &str) -> Answer {
    let from = request.from() as usize;
    let tag = format!("\"{etag}\"");
    if from == 0 {
        return Answer::new(200).header("ETag", &tag).body(content);
    } else if from >= content.len() {
        return Answer::new(416);
    }
    let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
    Answer::new(206).header("ETag", &tag).header("Content-Range", &range).body(&content[from..])
}

/// The answer of the API for these files.
pub(crate) fn information(names: &[&str]) -> Answer {
    let siblings: Vec<String> = names.iter().map(|name| format!("{{\"rfilename\": {name:?}}}")).collect();
    let text = format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{}]}}", siblings.join(", "));
    Answer::new(200).header("Content-Type", "application/json").body(text.as_bytes())
}

pub(crate) fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

type Script = dyn Fn(&Request, usize) -> Answer + Send + Sync;

/// A running server; it ends with this value.
pub(crate) struct StandIn {
    port: u16,
    asked: Arc<(Mutex<Vec<Request>>, Condvar)>,
    connections: Arc<Mutex<usize>>,
    closing: Arc<AtomicBool>,
}

impl StandIn {
    /// `script` answers a request, told how many with the same method and path came before it.
    pub(crate) fn start(script: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let connections = Arc::new(Mutex::new(0));
        let closing = Arc::new(AtomicBool::new(false));
        let script: Arc<Script> = Arc::new(script);
        let stand_in = StandIn {
            port,
            asked: asked.clone(),
            connections: connections.clone(),
            closing: closing.clone(),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if closing.load(Ordering::SeqCst) {
                    break;
                }
                *connections.lock().unwrap() += 1;
                let (asked, script) = (asked.clone(), script.clone());
                // A client that is killed breaks its connection; that is part of the tests.
                std::thread::spawn(move || converse(stream, &asked, &*script));
            }
        });
        stand_in
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.asked.0.lock().unwrap().clone()
    }

    /// Requests with this method and end of the path.
    pub(crate) fn of(&self, method: &str, end: &str) -> Vec<Request> {
        self.requests()
            .into_iter()
            .filter(|asked| asked.method == method && asked.path.ends_with(end))
            .collect()
    }

    /// Connections that were made, used or not.
    pub(crate) fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        // The listener waits for one more.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn converse(stream: TcpStream, asked: &(Mutex<Vec<Request>>, Condvar), script: &Script) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let mut words = line.split_whitespace();
        let (method, path) = (words.next()?.to_string(), words.next()?.to_string());
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_string(), value.trim().to_string()));
        }
        let request = Request { method, path, headers };
        let before = {
            let mut all = asked.0.lock().unwrap();
            let same = |other: &&Request| other.method == request.method && other.path == request.path;
            let before = all.iter().filter(same).count();
            all.push(request.clone());
            before
        };
        asked.1.notify_all();
        let answer = script(&request, before);
        let mut head =
            format!("HTTP/1.1 {} Status\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        writer.write_all(format!("{head}\r\n").as_bytes()).ok()?;
        if request.method == "HEAD" {
            continue;
        }
        let body = &answer.body[..answer.cut.unwrap_or(answer.body.len())];
        writer.write_all(body).ok()?;
        writer.flush().ok()?;
        if answer.stall {
            // Returns when the client is gone.
            let _ = reader.read_line(&mut String::new());
        }
        if answer.cut.is_some() {
            return None;
        }
    }
}

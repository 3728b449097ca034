//! A server as a process, and the plainest client there is: what is sent and what comes back is all in sight.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::fixture;

/// Longer than anything here takes: a test that waits in vain should end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; it ends with this value.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    /// Behind a lock, since clients in several threads share the server.
    log: Mutex<Receiver<Value>>,
    seen: Vec<Value>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(of, _)| of.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub(crate) fn error(&self) -> Value {
        self.json()["error"].clone()
    }

    /// The answer's text.
    pub(crate) fn text(&self) -> String {
        let document = self.json();
        document["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{self}")).to_owned()
    }

    /// The documents of a stream.
    pub(crate) fn events(&self) -> Vec<Value> {
        let text = String::from_utf8(self.body.clone()).unwrap();
        let data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert_eq!(data.last(), Some(&"[DONE]"), "{text}");
        data[..data.len() - 1].iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n{}", self.head, String::from_utf8_lossy(&self.body))
    }
}

impl Server {
    /// Starts `foveate serve` with these arguments, and waits until it answers.
    pub(crate) fn start(arguments: &[&str]) -> Server {
        Server::start_with(arguments, &[])
    }

    pub(crate) fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_foveate"));
        // No profile of this machine either.
        command.env_remove("FOVEATE_API_KEY").env("XDG_CACHE_HOME", "/dev/null/nowhere");
        command.envs(environment.iter().copied());
        command.args(["serve", "--port", "0", "--log-format", "json"]).args(arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap());
        let (send, log) = channel();
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                _ = send.send(line);
            }
        });
        let mut server = Server { child, address: String::new(), log: Mutex::new(log), seen: Vec::new() };
        server.address = server.hears("listening")["address"].as_str().unwrap().to_owned();
        server.hears("ready");
        server
    }

    /// The next line of the log that says `message`.
    pub(crate) fn hears(&mut self, message: &str) -> Value {
        loop {
            let line = self.log.get_mut().unwrap().recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no {message:?} in the log: {:?}", self.seen));
            self.seen.push(line.clone());
            if line["message"] == message {
                return line;
            }
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends these bytes and reads what comes until the server closes the connection.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect();
        // A server that has heard enough may close before all is sent.
        _ = stream.write_all(bytes);
        read(&mut stream)
    }

    pub(crate) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.raw(&request(method, path, headers, body))
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.request("GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        let headers = [("Content-Type", "application/json")];
        self.request("POST", path, &headers, body.to_string().as_bytes())
    }

    pub(crate) fn chat(&self, body: &Value) -> Reply {
        self.post("/v1/chat/completions", body)
    }

    /// Uploads a file under a name.
    pub(crate) fn upload(&self, name: &str, bytes: &[u8]) -> Reply {
        let mut body =
            b"--edge\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nvision\r\n".to_vec();
        let head =
            format!("--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n--edge--\r\n");
        let headers = [("Content-Type", "multipart/form-data; boundary=edge")];
        self.request("POST", "/v1/files", &headers, &body)
    }

    /// The value of a line of the metrics; 0 where there is none.
    pub(crate) fn metric(&self, line: &str) -> f64 {
        let text = String::from_utf8(self.get("/metrics").body).unwrap();
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end, and gives all that it logged.
    pub(crate) fn end(mut self) -> (ExitStatus, Vec<Value>) {
        let status = self.child.wait().unwrap();
        let mut lines = std::mem::take(&mut self.seen);
        lines.extend(self.log.get_mut().unwrap().iter());
        (status, lines)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    [format!("{head}\r\n").as_bytes(), body].concat()
}

/// A whole reply; chunks are put together.
pub(crate) fn read(stream: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    // A reset after the reply is no matter.
    _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(&bytes)));
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut rest = &bytes[end + 4..];
    let mut body = Vec::new();
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        while let Some(line) = rest.windows(2).position(|window| window == b"\r\n") {
            let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
            body.extend_from_slice(&rest[line + 2..line + 2 + length]);
            rest = &rest[line + 4 + length..];
        }
    } else {
        body = rest.to_vec();
    }
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head, body }
}

/// A file of `fixtures/images` as a data URL.
pub(crate) fn picture(name: &str) -> String {
    let bytes = std::fs::read(fixture(&format!("images/{name}"))).unwrap();
    format!("data:image/png;base64,{}", STANDARD.encode(bytes))
}

/// A greedy question about pictures, which are URLs.
pub(crate) fn question(model: &str, text: &str, urls: &[&str]) -> Value {
    let images = urls.iter().map(|url| json!({"type": "image_url", "image_url": {"url": url}}));
    let content: Vec<Value> = [json!({"type": "text", "text": text})].into_iter().chain(images).collect();
    json!({"model": model, "temperature": 0, "max_tokens": 32, "messages": [{"role": "user", "content": content}]})
}

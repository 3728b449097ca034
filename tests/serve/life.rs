//! From the first line of the log to the last.

use std::io::{BufRead, BufReader, Write};

use serde_json::{Value, json};

use super::fixture;
use super::server::{Server, picture, question, request};

const CHAT: &str = "/v1/chat/completions";
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A stream that has begun, after its first line.
fn begun(server: &Server, body: &Value) -> BufReader<std::net::TcpStream> {
    let mut stream = server.connect();
    stream.write_all(&request("POST", CHAT, &[JSON], body.to_string().as_bytes())).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while !line.starts_with("data: ") {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the stream ended before it began");
    }
    reader
}

fn long(nth: usize) -> Value {
    let mut body = question("llava-1.5", &format!("Tell me {nth}."), &[]);
    body["max_tokens"] = json!(450);
    body["stream"] = json!(true);
    body
}

#[test]
fn the_order_to_stop_lets_accepted_requests_end() {
    let server = Server::start(&[&fixture("models/llava-1.5"), "--parallel", "2"]);
    // Two in progress, four that wait.
    let streams: Vec<_> = (0..2).map(|nth| begun(&server, &long(nth))).collect();
    let waiting: Vec<_> = (2..6)
        .map(|nth| {
            let mut stream = server.connect();
            stream.write_all(&request("POST", CHAT, &[JSON], long(nth).to_string().as_bytes())).unwrap();
            stream
        })
        .collect();
    let accepted = || {
        let jobs = ["waiting", "looking", "writing"]
            .map(|state| server.metric(&format!("foveate_jobs{{state=\"{state}\"}}")));
        jobs.iter().sum::<f64>() + server.metric("foveate_stage_seconds_count{stage=\"total\"}")
    };
    while accepted() < 6.0 {}
    server.signal("TERM");
    for mut stream in streams.into_iter().chain(waiting.into_iter().map(BufReader::new)) {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
        assert!(text.contains("\"finish_reason\":\"length\"") && text.contains("data: [DONE]"), "{text}");
    }
    let address = server.address.clone();
    let (status, log) = server.end();
    assert!(status.success(), "{log:?}");
    let last = log.last().unwrap();
    assert_eq!((&last["message"], &last["whole"]), (&json!("stopped"), &json!(true)), "{log:?}");
    assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn when_the_time_to_stop_is_over_clients_are_told() {
    let server = Server::start(&[&fixture("models/llava-1.5"), "--grace", "1ms", "--parallel", "1"]);
    let streams: Vec<_> = (0..1).map(|nth| begun(&server, &long(nth))).collect();
    server.signal("TERM");
    let (status, _) = server.end();
    assert!(status.success());
    for mut stream in streams {
        let mut text = String::new();
        // Whole where it was quicker, else with an error at its end.
        _ = std::io::Read::read_to_string(&mut stream, &mut text);
        assert!(text.contains("[DONE]") || text.contains("server_error"), "{text}");
    }
}

#[test]
fn a_full_server_says_so_and_no_request_is_lost() {
    let server = Server::start(&[&fixture("models/llava-1.5"), "--parallel", "1", "--queue", "1"]);
    let mut body = long(0);
    body["stream"] = json!(false);
    let expected = server.chat(&body).text();
    let replies: Vec<_> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..24).map(|_| scope.spawn(|| server.chat(&body))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let (answered, refused): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status == 200);
    assert!(answered.len() >= 2 && !refused.is_empty(), "{} answered", answered.len());
    assert!(answered.iter().all(|reply| reply.text() == expected));
    for reply in refused {
        assert_eq!((reply.status, &reply.error()["type"]), (429, &json!("rate_limit_error")), "{reply}");
        assert!((1..=60).contains(&reply.header("retry-after").unwrap().parse::<u64>().unwrap()));
    }
    assert_eq!(server.chat(&body).text(), expected);
}

#[test]
fn an_answer_that_takes_too_long_is_ended() {
    let server = Server::start(&[&fixture("models/llava-1.5"), "--deadline", "1ms"]);
    let mut body = long(0);
    body["stream"] = json!(false);
    let reply = server.chat(&body);
    assert_eq!((reply.status, &reply.error()["code"]), (504, &json!("deadline")), "{reply}");
    // Nothing goes on.
    while server.metric("foveate_jobs{state=\"writing\"}") > 0.0 {}
}

#[test]
fn the_log_tells_what_happened_and_not_what_was_said() {
    let secret = "xylophone";
    let chat = |server: &Server| {
        let mut body = question("llava-1.5", &format!("Is there a {secret}?"), &[&picture("icon.png")]);
        body["user"] = json!(secret);
        let reply =
            server.request("POST", CHAT, &[JSON, ("X-Request-Id", "mine")], body.to_string().as_bytes());
        let answer = reply.text();
        let bytes = std::fs::read(fixture("images/icon.png")).unwrap();
        server.upload(&format!("{secret}.png"), &bytes);
        server.get(&format!("/{secret}"));
        server.request("POST", CHAT, &[JSON], format!("{{\"{secret}\": 1}}").as_bytes());
        server.signal("TERM");
        answer
    };
    let folder = fixture("models/llava-1.5");
    let server = Server::start(&[&folder]);
    let answer = chat(&server);
    let (_, log) = server.end();
    let text = log.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    assert!(!text.contains(secret) && !text.contains(&answer), "{text}");
    let answered = log.iter().find(|line| line["message"] == "answered").unwrap();
    assert_eq!(
        (&answered["id"], &answered["images"], &answered["rung"]),
        (&json!("mine"), &json!(1), &json!("16"))
    );
    assert_eq!(answered["new_tokens"], 32);
    let routes: Vec<&str> = log.iter().filter_map(|line| line["route"].as_str()).collect();
    assert_eq!(routes, [CHAT, "/v1/files", "unknown", CHAT]);

    let server = Server::start(&[&folder, "--log-content"]);
    let answer = chat(&server);
    let (_, log) = server.end();
    let content = log.iter().find(|line| line["message"] == "content").unwrap();
    assert_eq!(content["answer"], answer.as_str());
    assert!(content["question"].as_str().unwrap().contains(secret));
}

#[test]
fn what_cannot_be_served_is_refused_at_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let refuses = super::super::refuses;
    for (arguments, wanted) in [
        (&["serve", "--parallel", "0"][..], "at least 1"),
        (&["serve", "--deadline", "5"], "30s"),
        (&["serve", "--host", "nowhere"], "invalid"),
        (&["serve", "--visual-tokens", "5"], "144, 36, 16, 9, 4, 1"),
        (&["serve", "--remote-timeout", "5s"], "--allow-remote-images"),
        (&["serve", "--files", "/dev/null/x"], "files"),
        (&["serve", "./nowhere"], "no such folder or file"),
    ] {
        let errors = refuses(arguments);
        assert!(errors.contains(wanted), "{arguments:?}: {errors}");
    }
    let output = super::super::foveate(&["serve", "--port", &port]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && errors.contains("cannot listen at 127.0.0.1"), "{errors}");
}

//! What nobody should send: a proper status, nothing told that is nobody's business, and a server that goes on.

use std::io::Write;

use serde_json::json;

use super::fixture;
use super::server::{Reply, Server, picture, question, read, request};

const CHAT: &str = "/v1/chat/completions";
const JSON: (&str, &str) = ("Content-Type", "application/json");

fn post(server: &Server, body: &[u8]) -> Reply {
    server.request("POST", CHAT, &[JSON], body)
}

/// Whether it still answers.
fn lives(server: &Server) {
    let reply = server.chat(&question("foveate-nano", "How many?", &[&picture("icon.png")]));
    assert_eq!(reply.status, 200, "{reply}");
}

#[test]
fn bodies_that_are_too_large_too_slow_or_cut_short() {
    let server = Server::start(&["--max-body-bytes", "100KiB", "--body-timeout", "300ms"]);
    let long =
        json!({"model": "foveate-nano", "messages": [{"role": "user", "content": "a".repeat(200_000)}]});
    let reply = post(&server, long.to_string().as_bytes());
    assert_eq!((reply.status, &reply.error()["code"]), (413, &json!("body_too_large")), "{reply}");
    // Stated and not sent; not stated and sent.
    let head = format!("POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n");
    let reply = server.raw(format!("{head}Content-Length: 99999999999\r\n\r\n").as_bytes());
    assert_eq!(reply.status, 413, "{reply}");
    let chunk = format!("{:x}\r\n{}\r\n", 60_000, "b".repeat(60_000));
    let chunks = format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}{chunk}{chunk}");
    assert_eq!(server.raw(chunks.as_bytes()).status, 413);
    let upload = server.upload("x.png", &vec![0; 200_000]);
    assert_eq!(upload.status, 413, "{upload}");
    // One that never ends, and one whose client leaves.
    let reply = server.raw(format!("{head}Content-Length: 1000\r\n\r\n{{\"model\"").as_bytes());
    assert_eq!((reply.status, &reply.error()["type"]), (408, &json!("timeout_error")), "{reply}");
    let mut stream = server.connect();
    stream.write_all(format!("{head}Content-Length: 1000\r\n\r\n{{").as_bytes()).unwrap();
    drop(stream);
    let mut stream = server.connect();
    stream.write_all(format!("{head}Content-Length: 1000\r\n\r\n{{").as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    lives(&server);
}

#[test]
fn heads_that_are_no_heads() {
    let server = Server::start(&[]);
    let bomb: String = (0..5000).map(|nth| format!("X-{nth}: {}\r\n", "a".repeat(100))).collect();
    let reply = server.raw(format!("GET /v1/models HTTP/1.1\r\nHost: localhost\r\n{bomb}\r\n").as_bytes());
    assert_eq!(reply.status, 431, "{reply}");
    let reply =
        server.raw(format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(100_000)).as_bytes());
    assert!(matches!(reply.status, 414 | 431), "{reply}");
    for wrong in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET / HTTP/1.1\r\nHost x\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ] {
        assert_eq!(server.raw(wrong).status, 400);
    }
    // A second body in the first one's wake.
    let smuggled = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET"
    );
    assert!(server.raw(smuggled.as_bytes()).status >= 400);
    let reply = server.request("GET", "/v1/models", &[("X-Request-Id", "a b\x01c")], b"");
    assert!(reply.status == 400 || reply.header("x-request-id").unwrap().len() == 24, "{reply}");
    let named = server.request("GET", "/v1/models", &[("X-Request-Id", "my-id.7")], b"");
    assert_eq!(named.header("x-request-id"), Some("my-id.7"));
    for (method, path, status) in
        [("PUT", CHAT, 405), ("GET", CHAT, 405), ("GET", "/nowhere", 404), ("BREW", "/", 405)]
    {
        let reply = server.request(method, path, &[], b"");
        assert_eq!(reply.status, status, "{reply}");
        assert!(reply.error()["message"].is_string());
    }
    lives(&server);
}

#[test]
fn bodies_that_are_no_requests() {
    let server = Server::start(&[]);
    let deep = format!(
        "{{\"model\": \"foveate-nano\", \"metadata\": {}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let many = format!(
        "{{\"model\": \"foveate-nano\", \"messages\": [{}]}}",
        vec!["{\"role\": \"user\", \"content\": \"\"}"; 50_000].join(",")
    );
    let text = |text: &str| {
        json!({"model": "foveate-nano", "messages": [{"role": "user", "content": text}]}).to_string()
    };
    for (body, told) in [
        (deep.into_bytes(), "recursion limit"),
        (many.into_bytes(), "1 to 2048"),
        (b"{\"model\": \"foveate-nano\"".to_vec(), "EOF"),
        (b"[]".to_vec(), "invalid"),
        (b"\xff\xfe".to_vec(), "expected value"),
        (b"{} {}".to_vec(), "missing field"),
        (text(&"long ".repeat(400)).into_bytes(), "at most 511 are read"),
        (text("<image> where?").into_bytes(), "place"),
        (format!("{} x", text("a")).into_bytes(), "trailing characters"),
    ] {
        let reply = post(&server, &body);
        assert_eq!(reply.status, 400, "{told}: {reply}");
        assert!(reply.error()["message"].as_str().unwrap().contains(told), "{told}: {reply}");
    }
    let reply = server.request("POST", CHAT, &[("Content-Type", "text/plain")], text("a").as_bytes());
    assert_eq!(reply.status, 415, "what a web page may send without asking: {reply}");
    let mut greedy = question("foveate-nano", "a", &[]);
    greedy["max_tokens"] = json!(usize::MAX);
    assert_eq!(server.chat(&greedy).error()["param"], "max_tokens");
    greedy["max_tokens"] = json!(511);
    assert_eq!(server.chat(&greedy).error()["code"], "context_length_exceeded");
    lives(&server);
}

#[test]
fn pictures_that_are_bombs() {
    use base64::Engine as _;
    let encode = |bytes: &[u8]| {
        let data = base64::engine::general_purpose::STANDARD.encode(bytes);
        format!("data:image/png;base64,{data}")
    };
    let server = Server::start(&["--max-images", "2", "--max-image-bytes", "100KB"]);
    // 50,000 × 50,000 pixels, by its header; the rest is not there, nor looked for.
    let mut bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    bomb.extend_from_slice(&[0, 0, 0xc3, 0x50, 0, 0, 0xc3, 0x50, 8, 6, 0, 0, 0, 0, 0, 0, 0]);
    let cat = std::fs::read(fixture("images/cat.png")).unwrap();
    for (bytes, told) in [
        (&bomb[..], "50000 x 50000"),
        (&cat[..cat.len() / 2], "PNG"),
        (&cat[..30], "PNG"),
        (b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", "signature of none"),
        (b"", "no byte"),
        (&vec![0; 150_000], "100000 bytes"),
    ] {
        let reply = server.chat(&question("foveate-nano", "What?", &[&encode(bytes)]));
        assert_eq!((reply.status, &reply.error()["code"]), (400, &json!("invalid_image")), "{reply}");
        assert!(reply.error()["message"].as_str().unwrap().contains(told), "{told}: {reply}");
        assert_eq!(reply.error()["param"], "messages[0].content[1]");
        if bytes.len() < 100_000 {
            assert_eq!(server.upload("bomb.png", bytes).status, 400);
        }
    }
    let icon = picture("icon.png");
    let reply = server.chat(&question("foveate-nano", "What?", &[&icon, &icon, &icon]));
    assert_eq!((reply.status, &reply.error()["code"]), (400, &json!("too_many_images")), "{reply}");
    lives(&server);
}

#[test]
fn images_by_address_are_refused_or_public() {
    let secret = super::super::stand_in::StandIn::start(|_, _| {
        super::super::stand_in::Answer::new(200).body(b"secret")
    });
    let port = secret.url().rsplit(':').next().unwrap().to_owned();
    let ask = |server: &Server, url: &str| {
        let reply = server.chat(&question("foveate-nano", "What?", &[url]));
        assert_eq!(reply.status, 400, "{url}: {reply}");
        let told = reply.error()["message"].as_str().unwrap().to_owned();
        assert!(!told.contains("secret") && !told.contains(&port), "{told}");
        told
    };
    let closed = Server::start(&[]);
    assert!(ask(&closed, &secret.url()).contains("--allow-remote-images"));
    let open = Server::start(&["--allow-remote-images", "--remote-timeout", "2s"]);
    for host in [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "017700000001",
        "127.1",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "10.0.0.1",
        "169.254.169.254",
        "192.168.0.1",
        "100.64.0.1",
        "[fe80::1]",
        "[fd00::1]",
        "224.0.0.1",
    ] {
        let told = ask(&open, &format!("http://{host}:{port}/a.png"));
        assert!(told.contains("public internet") || told.contains("cannot be reached"), "{host}: {told}");
    }
    for url in [
        format!("http://me:word@127.0.0.1:{port}/"),
        "file:///etc/passwd".into(),
        "gopher://127.0.0.1/".into(),
    ] {
        ask(&open, &url);
    }
    assert_eq!(secret.connections(), 0, "nobody was connected to");
    lives(&open);
}

#[test]
fn a_key_is_asked_for_everywhere_but_at_the_door() {
    let server = Server::start_with(&[], &[("FOVEATE_API_KEY", "open sesame")]);
    let with = |key: &str, path: &str| server.request("GET", path, &[("Authorization", key)], b"");
    for path in ["/v1/models", "/v1/files", "/v1/files/x", "/metrics", "/v1/models/x"] {
        for wrong in ["", "Bearer ", "Bearer open", "Bearer open sesame!", "Basic open sesame", "open sesame"]
        {
            let reply = with(wrong, path);
            assert_eq!(
                (reply.status, &reply.error()["code"]),
                (401, &json!("invalid_api_key")),
                "{path} {wrong}"
            );
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        }
    }
    for (path, body) in
        [(CHAT, "{}"), ("/v1/count", "{}"), ("/v1/plan", "{}"), ("/v1/look", "{}"), ("/v1/files", "x")]
    {
        // Refused before a byte of the body is read: the stated rest never comes.
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 9999\r\n\r\n{body}"
        );
        assert_eq!(server.raw(head.as_bytes()).status, 401, "{path}");
    }
    assert_eq!(with("Bearer open sesame", "/v1/models").status, 200);
    assert_eq!(with("bearer open sesame", "/metrics").status, 200);
    for open in ["/health", "/ready", "/openapi.json", "/", "/page/page.js", "/page/examples.json"] {
        assert_eq!(server.get(open).status, 200, "{open}");
    }
    let errors = super::super::refuses(&["serve", "--api-key-file", "/nowhere/key"]);
    assert!(errors.contains("/nowhere/key"), "{errors}");
}

#[test]
fn names_that_are_not_its_own_are_refused() {
    let called = |server: &Server, target: &str, host: &str| {
        let head = format!("GET {target} HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
        server.raw(head.as_bytes())
    };
    let server = Server::start(&[]);
    let port = server.address.rsplit(':').next().unwrap();
    for path in ["/", "/v1/models", "/page/examples.json", "/metrics", "/nowhere"] {
        for host in
            ["evil.example", &format!("evil.example:{port}"), "localhost.evil.example", "10.0.0.1", ""]
        {
            let reply = called(&server, path, &format!("Host: {host}\r\n"));
            assert_eq!(
                (reply.status, &reply.error()["code"]),
                (421, &json!("unknown_host")),
                "{path} {reply}"
            );
            assert!(reply.error()["message"].as_str().unwrap().contains("--allowed-host"), "{reply}");
        }
    }
    // Two names, or a second one in front of the path.
    let two = called(&server, "/v1/models", "Host: localhost\r\nHost: evil.example\r\n");
    assert!(two.status == 421 || two.status == 400, "{two}");
    assert_eq!(called(&server, "http://evil.example/v1/models", "Host: localhost\r\n").status, 421);
    for host in ["localhost", "127.0.0.1", "[::1]:9", &format!("LOCALHOST:{port}"), "foveate.localhost"] {
        assert_eq!(called(&server, "/v1/models", &format!("Host: {host}\r\n")).status, 200, "{host}");
    }

    let named = Server::start(&["--allowed-host", "Box.example", "--allowed-host", "eye.example"]);
    for (host, status) in
        [("box.example:80", 200), ("eye.example", 200), ("127.0.0.1", 200), ("x.box.example", 421)]
    {
        assert_eq!(called(&named, "/", &format!("Host: {host}\r\n")).status, status, "{host}");
    }
    // For everybody: by any name, until names are given.
    let open = Server::start(&["--host", "0.0.0.0"]);
    assert_eq!(called(&open, "/", "Host: box.example\r\n").status, 200);
    let errors = super::super::refuses(&["serve", "--allowed-host", "http://box.example"]);
    assert!(errors.contains("without scheme and port"), "{errors}");
}

#[test]
fn a_connection_that_says_nothing_is_closed_and_others_are_served() {
    let server = Server::start(&[]);
    let idle: Vec<_> = (0..40).map(|_| server.connect()).collect();
    let mut half = server.connect();
    half.write_all(b"GET /v1/models HTTP/1.1\r\nHo").unwrap();
    lives(&server);
    // The rest of its head in time: it is answered.
    half.write_all(b"st: localhost\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(read(&mut half).status, 200);
    drop(idle);
    let mut two = server.connect();
    let one = request("GET", "/health", &[], b"");
    two.write_all(&one).unwrap();
    assert_eq!(read(&mut two).status, 200);
}

//! Uploaded images.

use serde_json::json;

use super::fixture;
use super::server::{Server, picture, question};

#[test]
fn an_uploaded_image_is_shown_by_its_id() {
    let server = Server::start(&[]);
    let bytes = std::fs::read(fixture("images/cat.png")).unwrap();
    let file = server.upload("cat.png", &bytes);
    assert_eq!(file.status, 200, "{file}");
    let file = file.json();
    assert_eq!((&file["bytes"], &file["filename"]), (&json!(bytes.len()), &json!("cat.png")));
    let id = file["id"].as_str().unwrap();
    assert!(file["expires_at"].as_u64() > file["created_at"].as_u64());

    let inline = server.chat(&question("foveate-nano", "How many?", &[&picture("cat.png")]));
    let mut by_id = question("foveate-nano", "How many?", &[id]);
    assert_eq!(server.chat(&by_id).text(), inline.text());
    by_id["messages"][0]["content"][1] = json!({"type": "file", "file": {"file_id": id}});
    assert_eq!(server.chat(&by_id).text(), inline.text());
    assert_eq!(
        server.metric("foveate_cache_misses_total{cache=\"tokens\"}"),
        2.0,
        "the warm-up's and the cat"
    );

    assert_eq!(server.get(&format!("/v1/files/{id}")).json(), file);
    assert_eq!(server.get("/v1/files").json()["data"], json!([file]));
    let content = server.get(&format!("/v1/files/{id}/content"));
    assert_eq!((content.header("content-type"), &content.body), (Some("image/png"), &bytes));
    assert_eq!(content.header("x-content-type-options"), Some("nosniff"));
    let deleted = server.request("DELETE", &format!("/v1/files/{id}"), &[], b"");
    assert_eq!(deleted.json(), json!({"id": id, "object": "file", "deleted": true}));
    for reply in [
        server.get(&format!("/v1/files/{id}")),
        server.get(&format!("/v1/files/{id}/content")),
        server.request("DELETE", &format!("/v1/files/{id}"), &[], b""),
        server.chat(&by_id),
    ] {
        assert_eq!((reply.status, &reply.error()["code"]), (404, &json!("no_such_file")), "{reply}");
    }
}

#[test]
fn names_are_no_paths() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let server = Server::start(&["--files", store.to_str().unwrap()]);
    let bytes = std::fs::read(fixture("images/icon.png")).unwrap();
    for (name, kept) in [
        ("../../../evil.png", "evil.png"),
        ("/etc/cron.d/evil", "evil"),
        ("..\\\\evil.png", "evil.png"),
        ("..", ".."),
    ] {
        assert_eq!(server.upload(name, &bytes).json()["filename"], kept);
    }
    for path in [
        "/v1/files/../../etc/passwd",
        "/v1/files/..%2f..%2fetc%2fpasswd",
        "/v1/files/%2e%2e",
        "/v1/files/file-..",
        "/v1/files/..%2fstore/content",
        "/docs/../../etc/passwd",
        "/docs/..%2f..%2fCargo.toml",
    ] {
        let reply = server.get(path);
        assert_eq!(reply.status, 404, "{path}: {reply}");
    }
    // No text at all.
    for path in ["/v1/files/%ff", "/v1/files/%ff/content", "/v1/models/%ff"] {
        let reply = server.get(path);
        assert!(reply.status == 404 && reply.error()["message"].is_string(), "{path}: {reply}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing beside the store");
    assert_eq!(std::fs::read_dir(&store).unwrap().count(), 4);
    // A page or a program is no image.
    for bytes in [&b"<html><script>alert(1)</script></html>"[..], b"#!/bin/sh", b""] {
        let reply = server.upload("page.png", bytes);
        assert_eq!((reply.status, &reply.error()["param"]), (400, &json!("file")), "{reply}");
    }
    assert_eq!(std::fs::read_dir(&store).unwrap().count(), 4);
}

#[test]
fn a_killed_server_leaves_whole_files() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--files", folder.path().to_str().unwrap(), "--file-ttl", "never"];
    let bytes = std::fs::read(fixture("images/cat.png")).unwrap();
    let server = Server::start(&arguments);
    let id = server.upload("cat.png", &bytes).json()["id"].as_str().unwrap().to_owned();
    // Many uploads at once, in the middle of which it is killed.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                use std::io::Write;
                for _ in 0..20 {
                    let Ok(mut stream) = std::net::TcpStream::connect(&server.address) else { return };
                    let body = [
                        &b"--e\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nvision\r\n--e\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n"[..],
                        &bytes,
                        b"\r\n--e--\r\n",
                    ]
                    .concat();
                    let headers = [("Content-Type", "multipart/form-data; boundary=e")];
                    _ = stream.write_all(&super::server::request("POST", "/v1/files", &headers, &body));
                    _ = std::io::Read::read_to_end(&mut stream, &mut Vec::new());
                }
            });
        }
        server.upload("last.png", &bytes);
        server.signal("KILL");
    });
    drop(server);
    let server = Server::start(&arguments);
    let files = server.get("/v1/files").json()["data"].as_array().unwrap().clone();
    assert!(files.iter().any(|file| file["id"] == id.as_str()), "{files:?}");
    for file in &files {
        let content = server.get(&format!("/v1/files/{}/content", file["id"].as_str().unwrap()));
        assert_eq!(content.body, bytes);
    }
    let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.filter(|name| !name.to_string_lossy().ends_with(".image")).count(), 0, "no remains");
}

#[test]
fn files_go_when_their_time_or_their_room_is_over() {
    let bytes = std::fs::read(fixture("images/cat.png")).unwrap();
    let room = format!("{}KB", bytes.len() * 3 / 2 / 1000);
    let server = Server::start(&["--file-ttl", "1ms", "--max-file-bytes", &room]);
    let file = server.upload("cat.png", &bytes).json();
    assert_eq!(file["expires_at"], file["created_at"], "a millisecond is less than the second that is told");
    assert_eq!(server.get("/v1/files").json()["data"], json!([]));
    // What is over makes room.
    assert_eq!(server.upload("cat.png", &bytes).status, 200);
    let server = Server::start(&["--max-file-bytes", &room]);
    assert_eq!(server.upload("cat.png", &bytes).status, 200);
    let full = server.upload("cat.png", &bytes);
    assert_eq!((full.status, &full.error()["code"]), (413, &json!("storage_full")), "{full}");
}

//! The page's files: what browsers may do with them, and that they need no key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::server::{Server, question};

#[test]
fn the_page_comes_with_the_program_and_keeps_to_itself() {
    let server = Server::start_with(&[], &[("FOVEATE_API_KEY", "open sesame")]);
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/page/page.js", "text/javascript; charset=utf-8"),
        ("/page/page.css", "text/css; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
        ("/page/licences.md", "text/plain; charset=utf-8"),
    ] {
        let reply = server.get(path);
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(kind)), "{reply}");
        let policy = reply.header("content-security-policy").unwrap();
        for rule in
            ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"]
        {
            assert!(policy.contains(rule), "{policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.header("cache-control"), Some("no-cache"));
        let tag = reply.header("etag").unwrap().to_owned();
        let again = server.request("GET", path, &[("If-None-Match", &format!("\"x\", W/{tag}"))], b"");
        assert_eq!(
            (again.status, again.body.len(), again.header("etag")),
            (304, 0, Some(tag.as_str())),
            "{again}"
        );
        let other = server.request("GET", path, &[("If-None-Match", "\"x\"")], b"");
        assert_eq!(other.body, reply.body);
        let head = server.request("HEAD", path, &[], b"");
        assert_eq!(
            (head.status, head.body.len(), head.header("etag")),
            (200, 0, Some(tag.as_str())),
            "{head}"
        );
        // Nothing from elsewhere, as far as a text can tell; the browser's test looks at the rest.
        let text = String::from_utf8(reply.body).unwrap();
        assert!(!text.contains("//cdn") && !text.contains("fonts.googleapis"), "{path}");
    }
    for nowhere in
        ["/page/", "/page/x.js", "/page/../Cargo.toml", "/page/%2e%2e%2fCargo.toml", "/page", "/index.html"]
    {
        assert_eq!(server.get(nowhere).status, 404, "{nowhere}");
    }
    assert_eq!(server.request("POST", "/", &[], b"{}").status, 405);
}

#[test]
fn pictures_to_try_can_be_asked_about() {
    let server = Server::start(&[]);
    let examples = server.get("/page/examples.json").json();
    let examples = examples.as_array().unwrap();
    assert_eq!(examples.len(), 3);
    for example in examples {
        let url = example["picture"].as_str().unwrap();
        let png = STANDARD.decode(url.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
        assert!(png.starts_with(b"\x89PNG"), "{}", example["name"]);
        let asked = &example["questions"][0];
        assert!(!asked["answer"].as_str().unwrap().is_empty());
        let mut request = question("foveate-nano", asked["text"].as_str().unwrap(), &[url]);
        request["visual_tokens"] = json!(4);
        let count = server.post("/v1/count", &request);
        assert_eq!((count.status, &count.json()["image_tokens"]), (200, &json!(4)), "{count}");
    }
}

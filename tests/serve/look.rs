//! Where tokens look: the same as `foveate look`, with the limits of every other route.

use serde_json::{Value, json};

use super::super::{json as run, number};
use super::fixture;
use super::server::{Server, picture};

const LOOK: &str = "/v1/look";

fn asked(model: &str, image: &str, tokens: impl Into<Value>) -> Value {
    json!({"model": model, "image": image, "question": "How many shapes are there?", "visual_tokens": tokens.into()})
}

#[test]
fn tokens_look_where_the_command_says() {
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("look.png");
    let wide = fixture("images/coffee-wide.png");
    for tokens in ["1", "4", "16"] {
        let reply = server
            .post(LOOK, &asked("foveate-nano", &picture("coffee-wide.png"), tokens.parse::<u32>().unwrap()));
        assert_eq!(reply.status, 200, "{reply}");
        let look = reply.json();
        let arguments = ["look", "foveate-nano", "How many shapes are there?", "--image", &wide, "--json"];
        let arguments =
            [&arguments[..], &["--visual-tokens", tokens, "--out", out.to_str().unwrap()]].concat();
        let printed = run(&arguments);
        assert_eq!((&look["grid"], &look["compressor"]), (&printed["grid"], &printed["compressor"]));
        let (of_server, of_command) = (&look["pictures"][0], &printed["pictures"][0]);
        assert_eq!(of_server["weights"], of_command["weights"]);
        assert_eq!(of_server["kept"], of_command["kept"]);
        assert_eq!(of_server["visual_tokens"].to_string(), tokens);
        for row in of_server["weights"].as_array().unwrap() {
            let sum: f64 = row.as_array().unwrap().iter().map(number).sum();
            assert!((sum - 1.0).abs() < 1e-4, "{sum}");
        }
    }
    // The image and the question are known: an answer about them does not run the tower again.
    assert_eq!(
        server.metric("foveate_cache_misses_total{cache=\"towers\"}"),
        2.0,
        "the warm-up's and the cup"
    );
    assert_eq!(server.metric("foveate_jobs{state=\"looking\"}"), 0.0);
}

#[test]
fn the_frame_is_the_picture_that_the_tower_saw() {
    // CLIP with a centre crop: of a wide picture the middle.
    let server = Server::start(&[&fixture("models/llava-1.5")]);
    let look = server.post(LOOK, &asked("llava-1.5", &picture("coffee-wide.png"), 16)).json();
    let frame = &look["pictures"][0]["frame"];
    // 251 x 71 pixels become 98 x 28, of which 28 columns are kept.
    let part = |name: &str| number(&frame[name]);
    assert!(
        (part("left") - 35.0 / 98.0).abs() < 1e-9 && (part("width") - 28.0 / 98.0).abs() < 1e-9,
        "{frame}"
    );
    assert_eq!((part("top"), part("height")), (0.0, 1.0));
    assert_eq!(look["pictures"].as_array().unwrap().len(), 1);
}

#[test]
fn what_cannot_be_looked_at_is_refused_before_the_model_runs() {
    let server = Server::start(&["--max-image-bytes", "100KB", "--queue", "1", "--parallel", "1"]);
    let icon = picture("icon.png");
    let without = |field: &str| {
        let mut request = asked("foveate-nano", &icon, 4);
        request.as_object_mut().unwrap().remove(field);
        request
    };
    let with = |field: &str, value: Value| {
        let mut request = asked("foveate-nano", &icon, 4);
        request[field] = value;
        request
    };
    for (request, status, param, told) in [
        (with("visual_tokens", json!(5)), 400, "visual_tokens", "144, 36, 16, 9, 4, 1"),
        (with("visual_tokens", json!("auto")), 400, "visual_tokens", "a number is needed"),
        (with("visual_tokens", json!("adaptive")), 400, "visual_tokens", "144, 36, 16, 9, 4, 1"),
        (with("image", json!("data:image/png;base64,AAAA")), 400, "image", "signature"),
        (with("image", json!("/etc/passwd")), 400, "image", "no data URL"),
        (with("image", json!("http://127.0.0.1/")), 400, "image", "--allow-remote-images"),
        (with("image", json!("file-0123456789abcdef01234567")), 404, "image", "no file"),
        (
            with("image", json!(format!("data:image/png;base64,{}", "A".repeat(200_000)))),
            400,
            "image",
            "100000 bytes",
        ),
        (with("question", json!(" ")), 400, "question", "quecc"),
        (without("question"), 400, "question", "quecc"),
        (with("model", json!("gpt")), 404, "model", "foveate-nano"),
        (with("max_tokens", json!(3)), 400, "max_tokens", "max_tokens"),
    ] {
        let reply = server.post(LOOK, &request);
        let error = reply.error();
        assert_eq!((reply.status, &error["param"]), (status, &json!(param)), "{told}: {reply}");
        assert!(error["message"].as_str().unwrap().contains(told), "{told}: {error}");
    }
    assert_eq!(server.post(LOOK, &without("image")).status, 400);
    assert_eq!(server.metric("foveate_cache_misses_total{cache=\"towers\"}"), 1.0, "the warm-up's");
    assert_eq!(server.post(LOOK, &without("visual_tokens")).json()["pictures"][0]["visual_tokens"], 144);

    let blind = Server::start(&[&fixture("models/llama-tied")]);
    let reply = blind.post(LOOK, &asked("llama-tied", &icon, 4));
    assert_eq!((reply.status, &reply.error()["code"]), (400, &json!("no_sight")), "{reply}");
}

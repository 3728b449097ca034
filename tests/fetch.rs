//! MODEL as a name: `ask` and `inspect` fetch what is not here, once, and say what they could not find.

use std::path::PathBuf;

use super::stand_in::{Answer, StandIn, information, serve, sha256};
use super::*;

const QUESTION: &str = "What colour is the small square?";

/// A hub whose repositories are folders of `fixtures/` or copies of them.
fn hub(repositories: &[(&'static str, PathBuf)]) -> StandIn {
    let repositories = repositories.to_vec();
    StandIn::start(move |request, _| {
        let path = request.path.as_str();
        let Some((_, folder)) = repositories.iter().find(|(name, _)| path.contains(&format!("/{name}/")))
        else {
            return Answer::new(404);
        };
        if path.starts_with("/api/") {
            let files = std::fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.path().is_file());
            let names: Vec<String> = files.map(|entry| entry.file_name().into_string().unwrap()).collect();
            return information(&names.iter().map(String::as_str).collect::<Vec<_>>());
        }
        let content = std::fs::read(folder.join(path.rsplit('/').next().unwrap())).unwrap();
        serve(request, &content, &sha256(&content))
    })
}

fn run(home: &Path, hub: &StandIn, arguments: &[&str]) -> Output {
    super::pull::with_caches(home, &hub.url()).args(arguments).output().unwrap()
}

fn printed(output: Output) -> String {
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_repository_answers_as_its_folder_and_is_fetched_once() {
    let home = tempfile::tempdir().unwrap();
    let local = fixture("models/llama-untied");
    let hub = hub(&[("o/llama", PathBuf::from(&local))]);
    let ask = |model: &str, more: &[&str]| {
        let mut arguments = vec!["ask", model, QUESTION, "--max-new-tokens", "8"];
        arguments.extend(more);
        run(home.path(), &hub, &arguments)
    };
    let here = printed(ask(&local, &[]));
    assert_eq!(hub.connections(), 0, "a folder needs no hub");
    assert_eq!(printed(ask("o/llama", &[])), here);
    let fetched = hub.connections();
    assert!(fetched > 0);
    assert_eq!(printed(ask("o/llama", &[])), here);
    assert_eq!(printed(ask("o/llama", &["--offline"])), here);
    assert_eq!(hub.connections(), fetched, "what is in the cache is not asked for again");

    let card = |model: &str| {
        let text = printed(run(home.path(), &hub, &["inspect", model, "--offline", "--json"]));
        let mut document: Value = serde_json::from_str(&text).unwrap();
        document.as_object_mut().unwrap().remove("path");
        document
    };
    assert_eq!(card("o/llama"), card(&local));
}

#[test]
fn a_tower_that_is_only_named_comes_from_the_hub() {
    let home = tempfile::tempdir().unwrap();
    let (_keep, model) = super::ask::copy("llava-original");
    let config = std::fs::read_to_string(model.join("config.json")).unwrap();
    let named = config.replace(r#""mm_vision_tower": "vision_tower""#, r#""mm_vision_tower": "o/tower""#);
    assert_ne!(named, config);
    std::fs::write(model.join("config.json"), named).unwrap();
    let hub = hub(&[
        ("o/llava", model.clone()),
        ("o/tower", PathBuf::from(fixture("models/llava-original/vision_tower"))),
    ]);
    let image = fixture("images/cat.png");
    let ask = |model: &str| ["ask", model, QUESTION, "--image", &image].map(str::to_owned);
    let answer = |model: &str| {
        let arguments = ask(model);
        printed(run(home.path(), &hub, &arguments.each_ref().map(String::as_str)))
    };
    assert_eq!(answer("o/llava"), answer(&fixture("models/llava-original")));
    // A copy on the disk finds the same tower.
    assert_eq!(answer(text(&model)), answer("o/llava"));
}

/// As liuhaotian/llava-v1.5-7b and openai/clip-vit-large-patch14-336 are published: pickled weights in shards, the projector
/// once more by itself, SentencePiece's own tokenizer file, and a tower that is only named.
#[test]
fn the_original_llava_as_it_is_published() {
    let home = tempfile::tempdir().unwrap();
    let (_keep, model) = super::ask::copy("llava-original");
    std::fs::remove_file(model.join("tokenizer.json")).unwrap();
    for name in ["tokenizer.model", "tokenizer_config.json"] {
        std::fs::copy(fixture(&format!("sentencepiece/{name}")), model.join(name)).unwrap();
    }
    let config = std::fs::read_to_string(model.join("config.json")).unwrap();
    let named = config.replace(r#""mm_vision_tower": "vision_tower""#, r#""mm_vision_tower": "o/tower""#);
    std::fs::write(model.join("config.json"), named).unwrap();
    // What such repositories hold besides, and nobody needs.
    for name in ["training_args.bin", "trainer_state.json", "README.md"] {
        std::fs::write(model.join(name), "not for us").unwrap();
    }
    let hub =
        hub(&[("o/llava", model), ("o/tower", PathBuf::from(fixture("models/llava-original/vision_tower")))]);
    let expected = std::fs::read_to_string(fixture("sentencepiece/expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    let answer = &expected["answer"];
    let of = |field: &str| answer[field].as_str().unwrap();
    let image = fixture(&format!("images/{}", of("image")));
    let arguments = ["ask", "o/llava", of("question"), "--image", &image, "--max-new-tokens", "12", "--json"];
    let document: Value = serde_json::from_str(&printed(run(home.path(), &hub, &arguments))).unwrap();
    assert_eq!(document["answer"], answer["text"]);
    let text: usize =
        answer["pieces"].as_array().unwrap().iter().map(|ids| ids.as_array().unwrap().len()).sum();
    assert_eq!((number(&document["text_tokens"]), number(&document["visual_tokens"])), (text as f64, 16.0));
    let unwanted = ["training_args.bin", "trainer_state.json", "README.md"];
    assert!(unwanted.iter().all(|name| hub.of("GET", name).is_empty()));
    let again = ["ask", "o/llava", of("question"), "--image", &image, "--max-new-tokens", "12", "--offline"];
    assert_eq!(printed(run(home.path(), &hub, &again)), format!("{}\n", of("text")));
}

#[test]
fn what_is_nowhere_is_named() {
    let home = tempfile::tempdir().unwrap();
    let hub = hub(&[]);
    for (arguments, wanted) in [
        (
            &["ask", "o/absent", QUESTION][..],
            &["no repository o/absent", "nor is there a folder o/absent"][..],
        ),
        (&["ask", "o/absent", QUESTION, "--offline"], &["o/absent@main is not in the cache"]),
        (&["inspect", "./absent"], &["./absent: no such folder or file"]),
        (&["inspect", "absent.gguf"], &["absent.gguf: no such folder or file"]),
        (&["ask", "foveate-135m", QUESTION], &["foveate-135m is not available in this version"]),
        (&["inspect", "absent"], &["\"absent\" is no model", "owner/name[@revision]"]),
    ] {
        let output = run(home.path(), &hub, arguments);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
        assert!(wanted.iter().all(|part| message.contains(part)), "{arguments:?}: {message}");
    }
}

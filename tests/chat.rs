//! `foveate chat` from a pipe.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::{fixture, refuses, succeeds};

/// Runs `foveate chat` with `message` on standard input.
fn chat(model: &str, message: &str, more: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_foveate"))
        .args(["chat", model, "--max-new-tokens", "12"])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A run that refuses its arguments may have ended before it read anything.
    _ = child.stdin.take().unwrap().write_all(message.as_bytes());
    child.wait_with_output().unwrap()
}

fn answered(model: &str, message: &str, more: &[&str]) -> String {
    let output = chat(model, message, more);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn model() -> String {
    fixture("models/llama-untied")
}

#[test]
fn a_piped_message_is_answered_like_a_question() {
    let asked = |question: &str, more: &[&str]| {
        let model = model();
        let mut arguments = vec!["ask", &model, question, "--max-new-tokens", "12"];
        arguments.extend(more);
        succeeds(&arguments)
    };
    assert_eq!(answered(&model(), "What is this?\n", &[]), asked("What is this?", &[]));
    // All lines are one message.
    assert_eq!(answered(&model(), "One.\n\nTwo.\n", &[]), asked("One.\n\nTwo.", &[]));
    let system = ["--system", "Be brief."];
    let instructed = answered(&model(), "What is this?", &system);
    assert_eq!(instructed, asked("What is this?", &system));
    assert_ne!(instructed, asked("What is this?", &[]));
}

#[test]
fn documents_are_one_line_each() {
    let printed = answered(&model(), "What is this?", &["--json"]);
    assert_eq!(printed.lines().count(), 1);
    let document: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(document["new_tokens"], 12);
    assert_eq!(document["visual_tokens"], 0);
    assert_eq!(
        format!("{}\n", document["answer"].as_str().unwrap()),
        answered(&model(), "What is this?", &[])
    );
}

#[test]
fn what_cannot_be_said_is_refused() {
    let silent = chat(&model(), "\n", &[]);
    assert_eq!(silent.status.code(), Some(2));
    assert!(String::from_utf8(silent.stderr).unwrap().contains("standard input: no message"));
    let long = chat(&model(), &"word ".repeat(5000), &[]);
    assert_eq!(long.status.code(), Some(2));
    let message = String::from_utf8(long.stderr).unwrap();
    assert!(message.contains("do not fit into the context of 512"), "{message}");
    assert!(refuses(&["chat", &model(), "--max-new-tokens", "0"]).contains("--max-new-tokens"));
}

#[test]
fn a_model_without_a_template_is_no_chat_model() {
    let output = chat(&fixture("models/llava-gguf/model.gguf"), "Hello", &[]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("model.gguf") && message.contains("no chat template"), "{message}");
}

//! `foveate eval MODEL --perplexity FILE`: a model that chats should still know its language when it has learnt to see.

use std::path::{Path, PathBuf};

use foveate_eval::perplexity::{Document, Perplexity, ratio};
use foveate_eval::{EvalError, Figure};
use foveate_model::atomic;
use foveate_model::generate::{Part, Prompt, Session};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Arguments;
use crate::Outcome;
use crate::failure::Failure;
use crate::model::Model;
use crate::output::{print, print_json};
use crate::text::interval;

/// What is kept in the folder of `--samples`, for `--against`.
const KEPT: &str = "perplexity.json";

/// The documents of a text.
#[derive(Serialize, Deserialize)]
struct Kept {
    model: String,
    /// The SHA-256 of the text.
    text: String,
    documents: Vec<Document>,
}

/// What `eval --perplexity --json` prints.
#[derive(Serialize)]
struct Report {
    model: String,
    text: String,
    #[serde(flatten)]
    found: Perplexity,
    /// Lines of one token, of which nothing is foretold.
    left_out: usize,
    /// The perplexity divided by that of the other model.
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<Figure>,
}

pub(super) fn run(arguments: &Arguments, file: &Path) -> Outcome {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| Failure::from(EvalError::Io { path, error })
    };
    let text = std::fs::read_to_string(file).map_err(io(file))?;
    let model = arguments.place.open()?;
    let (mut documents, mut left_out) = (Vec::new(), 0);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let document = judge(&model, line)?;
        left_out += usize::from(document.tokens == 0);
        documents.push(document);
    }
    let found = Perplexity::new(&documents).ok_or_else(|| {
        Failure::user(format!("{}: no line of two tokens, each a document", file.display()))
    })?;
    let digest = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let kept = Kept { model: model.name.clone(), text: digest, documents };
    let against = arguments.against.as_deref().map(|folder| compare(&kept, folder)).transpose()?;
    if let Some(folder) = &arguments.samples {
        std::fs::create_dir_all(folder).map_err(io(folder))?;
        let path = folder.join(KEPT);
        let text = serde_json::to_vec_pretty(&kept)?;
        atomic::replace(&path, |path| std::fs::write(path, text)).map_err(io(&path))?;
    }
    let report = Report { model: kept.model, text: file.display().to_string(), found, left_out, against };
    if arguments.json { print_json(&report) } else { print(&told(&report)) }
}

/// The document's tokens, each given those before it; one longer than the model's context is read in pieces, of which each
/// begins with the last token of the one before.
fn judge(model: &Model, text: &str) -> Result<Document, Failure> {
    let encoding = model.tokenizer.encode(text, true);
    let encoding =
        encoding.map_err(|error| Failure::user(format!("the tokenizer cannot encode {text:?}: {error}")))?;
    let (tokens, context) = (encoding.get_ids(), model.decoder.config().context.max(1));
    let mut document = Document { bytes: text.len(), tokens: tokens.len().saturating_sub(1), nats: 0.0 };
    let mut session = Session::new(model.decoder.clone());
    let mut start = 0;
    while start + 1 < tokens.len() {
        let end = tokens.len().min(start + 1 + context);
        let prompt = Prompt { parts: vec![Part::Tokens(vec![tokens[start]])] };
        document.nats -= session.log_likelihood(&prompt, &tokens[start + 1..end])?;
        start = end - 1;
    }
    Ok(document)
}

/// The ratio to what is kept in another folder.
fn compare(own: &Kept, folder: &Path) -> Result<Figure, Failure> {
    let path: PathBuf = folder.join(KEPT);
    let refuse = |reason: String| Failure::user(format!("{}: {reason}", path.display()));
    let text = std::fs::read_to_string(&path).map_err(|error| refuse(error.to_string()))?;
    let other: Kept = serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
    if other.text != own.text {
        return Err(refuse(format!("is of another text, that {} read", other.model)));
    }
    ratio(&own.documents, &other.documents).ok_or_else(|| {
        refuse(format!("{} reads other tokens, so that bits per byte alone can be compared", other.model))
    })
}

fn told(report: &Report) -> String {
    let Perplexity { documents, tokens, nats, perplexity, bits_per_byte } = &report.found;
    let mut text = format!(
        "{}: perplexity {:.3} {}, {:.4} bits a byte {}; {tokens} tokens of {documents} documents, {nats:.1} nats",
        report.model,
        perplexity.value,
        interval(perplexity.interval, 3),
        bits_per_byte.value,
        interval(bits_per_byte.interval, 4),
    );
    if report.left_out > 0 {
        text += &format!("\n{} lines of one token foretell nothing", report.left_out);
    }
    if let Some(ratio) = &report.against {
        text +=
            &format!("\nagainst the other model: {:.4} times {}", ratio.value, interval(ratio.interval, 4));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use foveate_model::Dtype;

    use super::*;
    use crate::fetch::Fetch;
    use crate::model::Place;

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures");

    fn model() -> Model {
        let place = Place {
            model: format!("{FIXTURES}/models/llama-tied"),
            mmproj: None,
            tower: None,
            language: None,
            dtype: Dtype::F32,
            fetch: Fetch::default(),
        };
        place.open().unwrap()
    }

    /// `reference/make_perplexity.py`: transformers and PyTorch on the same folder and text.
    #[test]
    fn documents_are_as_likely_as_pytorch_says() {
        let golden = std::fs::read_to_string(format!("{FIXTURES}/perplexity.json")).unwrap();
        let golden: serde_json::Value = serde_json::from_str(&golden).unwrap();
        let text = std::fs::read_to_string(format!("{FIXTURES}/text/held.txt")).unwrap();
        let (model, expected) = (model(), golden["documents"].as_array().unwrap());
        assert_eq!(text.lines().count(), expected.len());
        for (line, expected) in text.lines().zip(expected) {
            let found = judge(&model, line).unwrap();
            assert_eq!(Some(found.tokens as u64), expected["tokens"].as_u64(), "{line}");
            let nats = expected["nats"].as_f64().unwrap();
            assert!((found.nats / nats - 1.0).abs() < 1e-5, "{} {nats}", found.nats);
        }
    }

    /// A document longer than the context is the sum of its pieces.
    #[test]
    fn long_documents_are_read_in_pieces() {
        let model = model();
        let context = model.decoder.config().context;
        let text = "a b c d e f g h ".repeat(context);
        let tokens = model.tokenizer.encode(text.trim(), true).unwrap().get_ids().to_vec();
        assert!(tokens.len() > 2 * context);
        let found = judge(&model, text.trim()).unwrap();
        assert_eq!(found.tokens, tokens.len() - 1);
        let mut sum = 0.0;
        for start in (0..tokens.len() - 1).step_by(context) {
            let mut session = Session::new(model.decoder.clone());
            let prompt = Prompt { parts: vec![Part::Tokens(vec![tokens[start]])] };
            let end = tokens.len().min(start + context + 1);
            sum -= session.log_likelihood(&prompt, &tokens[start + 1..end]).unwrap();
        }
        assert!((found.nats / sum - 1.0).abs() < 1e-9, "{} {sum}", found.nats);
    }
}

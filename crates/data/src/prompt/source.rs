//! Where a model's chat template stands: `chat_template.jinja`, else `chat_template.json`, else the field
//! `chat_template` of `tokenizer_config.json` (a string, or a list of named ones of which `default` is taken). Special
//! tokens come from `tokenizer_config.json`, the image token from `processor_config.json` or there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use serde_json::Value;

use super::PromptError;
use super::template::ChatTemplate;

/// Published files of this kind have at most a few MiB.
const MAX_FILE: u64 = 32 << 20;

impl ChatTemplate {
    /// The template in a model's folder; `None` if it has none.
    pub fn from_folder(folder: &Path) -> Result<Option<ChatTemplate>, PromptError> {
        let load = |name: &str| {
            let path = folder.join(name);
            let file = path.display().to_string();
            read(&path, &file).map(|text| text.map(|text| (file, text)))
        };
        let tokenizer = load("tokenizer_config.json")?;
        let tokenizer =
            tokenizer.map(|(file, text)| parse(&file, &text).map(|json| (file, json))).transpose()?;
        let special_tokens = tokenizer.as_ref().map(|(_, json)| special_tokens(json)).unwrap_or_default();

        let (file, source) = if let Some((file, source)) = load("chat_template.jinja")? {
            (file, source)
        } else if let Some((file, text)) = load("chat_template.json")? {
            match chosen(&file, &parse(&file, &text)?)? {
                Some(source) => (file, source),
                None => return Ok(None),
            }
        } else if let Some((file, json)) = &tokenizer {
            match chosen(file, json)? {
                Some(source) => (file.clone(), source),
                None => return Ok(None),
            }
        } else {
            return Ok(None);
        };

        let processor = load("processor_config.json")?;
        let processor = processor.map(|(file, text)| parse(&file, &text)).transpose()?;
        let named = processor.as_ref().and_then(|json| json.get("image_token")).and_then(token);
        let image_token = named.or_else(|| special_tokens.get("image_token").cloned());
        ChatTemplate::with_tokens(&file, &source, special_tokens, image_token).map(Some)
    }

    /// The template in the text of a `tokenizer_config.json`; `None` if it has none. `file` is what errors call it.
    pub fn from_tokenizer_config(file: &str, text: &str) -> Result<Option<ChatTemplate>, PromptError> {
        let json = parse(file, text)?;
        let Some(source) = chosen(file, &json)? else { return Ok(None) };
        let tokens = special_tokens(&json);
        let image_token = tokens.get("image_token").cloned();
        ChatTemplate::with_tokens(file, &source, tokens, image_token).map(Some)
    }

    fn with_tokens(
        file: &str,
        source: &str,
        special_tokens: BTreeMap<String, String>,
        image_token: Option<String>,
    ) -> Result<ChatTemplate, PromptError> {
        let template = ChatTemplate::from_jinja(file, source, special_tokens)?;
        match image_token {
            Some(image_token) => template.with_image_token(&image_token),
            None => Ok(template),
        }
    }
}

fn read(path: &Path, file: &str) -> Result<Option<String>, PromptError> {
    let failed = |source| PromptError::Read { file: file.to_owned(), source };
    let mut text = String::new();
    let opened = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    opened.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(PromptError::TooLarge { file: file.to_owned(), allowed: MAX_FILE });
    }
    Ok(Some(text))
}

fn parse(file: &str, text: &str) -> Result<Value, PromptError> {
    serde_json::from_str(text).map_err(|source| PromptError::Json { file: file.to_owned(), source })
}

/// The default one of the templates under `chat_template`.
fn chosen(file: &str, json: &Value) -> Result<Option<String>, PromptError> {
    let error = |found: &Value| PromptError::Field {
        file: file.to_owned(),
        field: "chat_template",
        found: found.to_string().chars().take(80).collect(),
        allowed: "a string, or a list of {\"name\", \"template\"} of which one is named `default`",
    };
    match json.get("chat_template") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(source)) => Ok(Some(source.clone())),
        Some(list @ Value::Array(named)) => {
            let default =
                named.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"));
            let source = default.and_then(|entry| entry.get("template")).and_then(Value::as_str);
            source.map(|source| Some(source.to_owned())).ok_or_else(|| error(list))
        }
        Some(other) => Err(error(other)),
    }
}

/// Every field `…_token` that holds a token: text, or an object with the text as its `content`.
fn special_tokens(json: &Value) -> BTreeMap<String, String> {
    let fields = json.as_object().into_iter().flatten();
    let named = fields.filter(|(name, _)| name.ends_with("_token"));
    named.filter_map(|(name, value)| Some((name.clone(), token(value)?))).collect()
}

fn token(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::prompt::Message;

    fn write(folder: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            std::fs::write(folder.join(name), text).unwrap();
        }
    }

    fn rendered(folder: &Path, images: usize) -> String {
        let template = ChatTemplate::from_folder(folder).unwrap().unwrap();
        template.render(&[Message::user("hi")], images).unwrap().text(template.image_token())
    }

    const TOKENIZER: &str = r#"{"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": null, "add_bos_token": true,
        "chat_template": [{"name": "tool_use", "template": "tools"},
                          {"name": "default", "template": "{{ bos_token }}{{ eos_token }}{{ messages[0]['content'] }}"}]}"#;

    #[test]
    fn the_newest_form_wins() {
        let folder = tempfile::tempdir().unwrap();
        assert!(ChatTemplate::from_folder(folder.path()).unwrap().is_none());
        write(folder.path(), &[("tokenizer_config.json", TOKENIZER)]);
        assert_eq!(rendered(folder.path(), 0), "<s>hi");
        write(
            folder.path(),
            &[("chat_template.json", r#"{"chat_template": "json {{ messages[0].content }}"}"#)],
        );
        assert_eq!(rendered(folder.path(), 0), "json hi");
        write(
            folder.path(),
            &[
                ("chat_template.jinja", "jinja {{ bos_token }}{{ messages[0].content }}\n"),
                ("processor_config.json", r#"{"image_token": "<|img|>"}"#),
            ],
        );
        assert_eq!(rendered(folder.path(), 1), "jinja <s><|img|>\nhi");
    }

    #[test]
    fn broken_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &[("tokenizer_config.json", r#"{"chat_template": 3}"#)]);
        let error = ChatTemplate::from_folder(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("tokenizer_config.json: `chat_template` is 3, allowed are a string"),
            "{error}"
        );
        write(folder.path(), &[("chat_template.jinja", "{% for %}")]);
        let error = ChatTemplate::from_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("chat_template.jinja: syntax error"), "{error}");
        write(folder.path(), &[("tokenizer_config.json", "{\"a\": ")]);
        let error = ChatTemplate::from_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("tokenizer_config.json: EOF"), "{error}");
    }
}

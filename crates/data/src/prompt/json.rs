//! The `tojson` filter as chat templates expect it: Python's `json.dumps(value, ensure_ascii=False, …)`, with a space
//! after `,` and `:` and nothing escaped for HTML. Tool descriptions go into prompts this way, so each space counts.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

struct Style {
    indent: Option<usize>,
    item_separator: String,
    key_separator: String,
    ensure_ascii: bool,
    sort_keys: bool,
}

pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let separators = match options.get::<Option<Vec<String>>>("separators")?.as_deref() {
        None => None,
        Some([item, key]) => Some((item.clone(), key.clone())),
        Some(_) => {
            let reason =
                "tojson: `separators` takes two strings, the one between items and the one after a key";
            return Err(Error::new(ErrorKind::InvalidOperation, reason));
        }
    };
    // With an indent Python leaves out the space before the line break.
    let item = if indent.is_some() { "," } else { ", " };
    let (item_separator, key_separator) = separators.unwrap_or_else(|| (item.to_owned(), ": ".to_owned()));
    let style = Style {
        indent,
        item_separator,
        key_separator,
        ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    let mut out = String::new();
    style.write(value, 0, &mut out)?;
    Ok(Value::from(out))
}

impl Style {
    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        let refuse = |what: &str| Error::new(ErrorKind::InvalidOperation, format!("tojson: {what}"));
        if depth > 100 {
            return Err(refuse("nested deeper than 100 levels"));
        }
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&value.to_string()),
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.map(|item| (None, item)).collect();
                self.entries('[', ']', items, depth, out)?;
            }
            ValueKind::Map => {
                let mut entries = Vec::new();
                for key in value.try_iter()? {
                    let item = value.get_item(&key)?;
                    entries.push((Some(key.to_string()), item));
                }
                if self.sort_keys {
                    entries.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.entries('{', '}', entries, depth, out)?;
            }
            other => return Err(refuse(&format!("a value of kind {other} has no JSON form"))),
        }
        Ok(())
    }

    fn entries(
        &self,
        open: char,
        close: char,
        entries: Vec<(Option<String>, Value)>,
        depth: usize,
        out: &mut String,
    ) -> Result<(), Error> {
        let line = |depth: usize, out: &mut String| {
            if let Some(width) = self.indent {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', width.min(64) * depth));
            }
        };
        out.push(open);
        let empty = entries.is_empty();
        for (index, (key, item)) in entries.into_iter().enumerate() {
            if index > 0 {
                out.push_str(&self.item_separator);
            }
            line(depth + 1, out);
            if let Some(key) = key {
                self.string(&key, out);
                out.push_str(&self.key_separator);
            }
            self.write(&item, depth + 1, out)?;
        }
        if !empty {
            line(depth, out);
        }
        out.push(close);
        Ok(())
    }

    fn string(&self, text: &str, out: &mut String) {
        out.push('"');
        for character in text.chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                '\0'..='\u{1f}' => out.push_str(&format!("\\u{:04x}", character as u32)),
                // Python counts DEL as ASCII and leaves it alone.
                '\u{80}'.. if self.ensure_ascii => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                _ => out.push(character),
            }
        }
        out.push('"');
    }
}

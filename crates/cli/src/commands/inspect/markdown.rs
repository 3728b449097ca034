//! Model cards: `README.md` in a model's folder, Markdown behind front matter that machines read.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::failure::Failure;

/// The part of a card that is read, in bytes; published ones are far shorter.
const MOST_BYTES: u64 = 1 << 20;

/// The text of the card in a model's folder; `None` where there is none.
pub(super) fn card_of(folder: &Path) -> Result<Option<String>, Failure> {
    let path = folder.join("README.md");
    let failed = |error: std::io::Error| Failure::user(format!("{}: {error}", path.display()));
    let file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(Some(body(&text).to_owned()).filter(|body| !body.is_empty()))
}

/// What stands behind the front matter: YAML between two lines of `---`, the first of which begins the file.
pub(super) fn body(card: &str) -> &str {
    let mut lines = card.split_inclusive('\n');
    let is_fence = |line: &str| line.trim_end() == "---";
    if !lines.next().is_some_and(is_fence) {
        return card.trim();
    }
    let mut at = card.len() - lines.clone().map(str::len).sum::<usize>();
    for line in lines {
        at += line.len();
        if is_fence(line) {
            return card[at..].trim();
        }
    }
    // Never closed: then it is no front matter.
    card.trim()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn front_matter_is_left_out_and_rules_are_not() {
        for (card, wanted) in [
            ("---\nlicense: mit\n---\n\n# Model\n\n---\n\nmore\n", "# Model\n\n---\n\nmore"),
            ("---\r\nlicense: mit\r\n---\r\n# Model\r\n", "# Model"),
            ("# Model\n\n---\nx\n---\n", "# Model\n\n---\nx\n---"),
            ("---\nnever closed\n", "---\nnever closed"),
            ("---\n---", ""),
            ("", ""),
        ] {
            assert_eq!(body(card), wanted, "{card:?}");
        }
    }

    #[test]
    fn a_folder_may_have_no_card() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(card_of(folder.path()).unwrap(), None);
        std::fs::write(folder.path().join("README.md"), b"---\na: b\n---\n\xc3\xa9t\xc3\xa9 \xff\n").unwrap();
        assert_eq!(card_of(folder.path()).unwrap().unwrap(), "\u{e9}t\u{e9} \u{fffd}");
        std::fs::write(folder.path().join("README.md"), "---\na: b\n---\n").unwrap();
        assert_eq!(card_of(folder.path()).unwrap(), None);
    }
}

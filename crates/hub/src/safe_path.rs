//! Names from file lists and archives, which strangers write, as paths that stay inside a folder on every system.

use std::path::PathBuf;

const MAX_LENGTH: usize = 1024;
const MAX_PART: usize = 255;

/// The name as a relative path below whatever folder it is joined to, or what is wrong with it.
///
/// Windows' rules hold everywhere: a name that is harmless here must not leave the folder where it is copied to.
pub(crate) fn relative(name: &str) -> Result<PathBuf, &'static str> {
    if name.is_empty() || name.len() > MAX_LENGTH {
        return Err("empty, or longer than 1024 bytes");
    }
    let mut path = PathBuf::new();
    for part in name.split('/') {
        match part {
            "" => return Err("it begins or ends with a slash, or has two in a row"),
            "." | ".." => return Err("it has a part . or .."),
            _ if part.len() > MAX_PART => return Err("a part of it is longer than 255 bytes"),
            _ if part.contains(|character: char| {
                character.is_control() || matches!(character, '\\' | ':' | '<' | '>' | '"' | '|' | '?' | '*')
            }) =>
            {
                return Err("it has a backslash, a colon or another character that paths must not have");
            }
            _ if part.ends_with([' ', '.']) => return Err("a part of it ends with a space or a dot"),
            _ if is_device(part) => return Err("a part of it is the name of a device on Windows"),
            _ => path.push(part),
        }
    }
    Ok(path)
}

/// CON, NUL, COM1 and the like, with any extension.
fn is_device(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or(part).trim_end().to_ascii_uppercase();
    let numbered = |prefix: &str| {
        stem.strip_prefix(prefix).is_some_and(|rest| rest.len() == 1 && rest.as_bytes()[0].is_ascii_digit())
    };
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL") || numbered("COM") || numbered("LPT")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_leave_the_folder() {
        for name in [
            "",
            "/etc/passwd",
            "..",
            "a/../../b",
            "a/./b",
            "a//b",
            "a/",
            "C:/x",
            "c:x",
            "a\\..\\b",
            "\\\\host\\share",
            "a\0b",
            "a\nb",
            "nul",
            "Com1.txt",
            "x/LPT9",
            "a.",
            "a ",
        ] {
            assert!(relative(name).is_err(), "{name:?}");
        }
        assert!(relative(&"a/".repeat(600)).is_err());
        assert!(relative(&"a".repeat(256)).is_err());
    }

    #[test]
    fn names_of_models() {
        for name in
            ["config.json", "onnx/model.onnx", ".gitattributes", "a b.txt", "common/COM12", "模型.bin"]
        {
            assert_eq!(relative(name).unwrap(), Path::new(name));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_let_through_stays_inside(name in r"[a-c./\\: \x00~CON]{0,24}") {
            if let Ok(path) = relative(&name) {
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
                prop_assert!(path.components().count() >= 1);
            }
        }
    }
}

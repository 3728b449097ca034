//! RECORD, a wheel's list of its files with their hashes and sizes (PEP 427, PEP 376).

use std::collections::BTreeMap;

/// What RECORD says about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// SHA-256 in URL-safe base 64 without padding.
    pub(crate) sha256: String,
    pub(crate) size: Option<u64>,
}

/// Entries by name; those that cannot carry a hash (RECORD itself and its signatures) are left out.
pub(crate) fn parse(text: &[u8], record_name: &str) -> Result<BTreeMap<String, Entry>, String> {
    let mut entries = BTreeMap::new();
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text);
    for row in reader.records() {
        let row = row.map_err(|error| format!("RECORD: {error}"))?;
        let (Some(name), Some(hash), Some(size), 3) = (row.get(0), row.get(1), row.get(2), row.len()) else {
            return Err(format!(
                "RECORD: {:?} is no row of path, hash and size",
                row.iter().collect::<Vec<_>>()
            ));
        };
        if is_unhashed(name, record_name) {
            continue;
        }
        let sha256 = hash.strip_prefix("sha256=").map(|hash| hash.trim_end_matches('='));
        let sha256 = sha256.filter(|hash| hash.len() == 43).ok_or_else(|| {
            format!("RECORD: {name} has the hash {hash:?}; sha256= and 43 signs of base 64 are needed")
        })?;
        let size = match size {
            "" => None,
            _ => Some(size.parse().map_err(|_| format!("RECORD: {name} has the size {size:?}"))?),
        };
        if entries.insert(name.to_string(), Entry { sha256: sha256.into(), size }).is_some() {
            return Err(format!("RECORD lists {name} twice"));
        }
    }
    Ok(entries)
}

/// Whether a file is one that RECORD cannot vouch for.
pub(crate) fn is_unhashed(name: &str, record_name: &str) -> bool {
    name.strip_prefix(record_name).is_some_and(|rest| matches!(rest, "" | ".jws" | ".p7s"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const RECORD: &str = "p-1.dist-info/RECORD";
    /// SHA-256 of nothing.
    const EMPTY: &str = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";

    #[test]
    fn rows() {
        let text = format!(
            "p/__init__.py,sha256={EMPTY},0\n\"p/a,b.py\",sha256={EMPTY}=,\n{RECORD},,\n{RECORD}.jws,,\n"
        );
        let entries = parse(text.as_bytes(), RECORD).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries["p/__init__.py"], Entry { sha256: EMPTY.into(), size: Some(0) });
        assert_eq!(entries["p/a,b.py"], Entry { sha256: EMPTY.into(), size: None });
    }

    #[test]
    fn rows_that_vouch_for_nothing() {
        for (text, wanted) in [
            ("p/x,,\n".to_string(), "p/x has the hash \"\""),
            ("p/x,md5=d41d8cd98f00b204e9800998ecf8427e,0\n".into(), "has the hash \"md5="),
            ("p/x\n".into(), "no row of path, hash and size"),
            (format!("p/x,sha256={EMPTY},-1\n"), "has the size \"-1\""),
            (format!("p/x,sha256={EMPTY},0\np/x,sha256={EMPTY},0\n"), "lists p/x twice"),
        ] {
            let reason = parse(text.as_bytes(), RECORD).unwrap_err();
            assert!(reason.contains(wanted), "{reason}");
        }
    }
}

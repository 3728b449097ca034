//! `--set key=value`: one field of a recipe changed from outside.

use toml::{Table, Value};

use crate::{Result, TrainError};

/// Sets the field at a dotted path, list elements by their number: `stages.0.rates.language=1e-4`. The value is TOML, or a
/// string without quotes.
pub(super) fn apply(table: &mut Table, text: &str) -> Result<()> {
    let refuse = |reason: String| TrainError::Override { text: text.to_owned(), reason };
    let Some((path, value)) = text.split_once('=') else {
        return Err(refuse("must be key=value, such as `stages.0.steps=100`".to_owned()));
    };
    let (path, value) = (path.trim(), value.trim());
    if path.is_empty() || path.split('.').any(str::is_empty) {
        return Err(refuse("the key must be names and numbers with dots between".to_owned()));
    }
    let parsed = toml::from_str::<Table>(&format!("value = {value}"));
    let parsed = parsed.ok().filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    let value = parsed.unwrap_or_else(|| Value::String(value.to_owned()));
    let (parents, last) = path.rsplit_once('.').map_or((None, path), |(parents, last)| (Some(parents), last));
    let mut place = Place::Table(table);
    for step in parents.iter().flat_map(|parents| parents.split('.')) {
        place = place.enter(step).map_err(&refuse)?;
    }
    place.set(last, value).map_err(&refuse)
}

enum Place<'a> {
    Table(&'a mut Table),
    List(&'a mut Vec<Value>),
}

impl<'a> Place<'a> {
    fn enter(self, step: &str) -> std::result::Result<Place<'a>, String> {
        let inner = match self {
            // A table that the recipe leaves to its defaults may be begun here.
            Place::Table(table) => table.entry(step).or_insert_with(|| Value::Table(Table::new())),
            Place::List(list) => element(list, step)?,
        };
        match inner {
            Value::Table(table) => Ok(Place::Table(table)),
            Value::Array(list) => Ok(Place::List(list)),
            other => Err(format!("`{step}` is a {}, which has no fields", other.type_str())),
        }
    }

    fn set(self, last: &str, value: Value) -> std::result::Result<(), String> {
        match self {
            Place::Table(table) => _ = table.insert(last.to_owned(), value),
            Place::List(list) => *element(list, last)? = value,
        }
        Ok(())
    }
}

fn element<'a>(list: &'a mut [Value], step: &str) -> std::result::Result<&'a mut Value, String> {
    let count = list.len();
    let found = step.parse::<usize>().ok().and_then(|index| list.get_mut(index));
    found.ok_or_else(|| {
        format!("`{step}` is no element of a list of {count}: allowed are 0 to {}", count.max(1) - 1)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn applied(text: &str) -> Result<Table> {
        let mut table = toml::from_str("a = 1\n[b]\nc = [{ d = 1.0 }]\n").unwrap();
        apply(&mut table, text).map(|()| table)
    }

    #[test]
    fn values_of_every_kind_reach_their_place() {
        assert_eq!(applied("a=2").unwrap()["a"].as_integer(), Some(2));
        assert_eq!(applied("a = some words").unwrap()["a"].as_str(), Some("some words"));
        assert_eq!(applied("b.c.0.d=1e-4").unwrap()["b"]["c"][0]["d"].as_float(), Some(1e-4));
        assert_eq!(applied("b.c=[[1, 2.0]]").unwrap()["b"]["c"][0][0].as_integer(), Some(1));
        assert_eq!(applied("e.f=true").unwrap()["e"]["f"].as_bool(), Some(true));
        // A value cannot smuggle in a second field.
        assert_eq!(applied("a=1\nz=2").unwrap()["a"].as_str(), Some("1\nz=2"));
    }

    #[test]
    fn what_cannot_be_set_is_told() {
        for (text, part) in [
            ("a", "key=value"),
            ("=1", "names and numbers"),
            ("b..c=1", "names and numbers"),
            ("a.b=1", "`a` is a integer"),
            ("b.c.1.d=2", "allowed are 0 to 0"),
            ("b.c.x=2", "`x` is no element"),
        ] {
            let error = applied(text).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(text), "{error}");
        }
    }
}

//! The tensors of a safetensors file: which, in what order, and the header that says so.

use serde_json::{Map, Value, json};

use crate::weights::convert::ConvertError;
use crate::weights::convert::output::Output;
use crate::weights::shards::Dtype;

/// What becomes of a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The stored bytes, of numbers that no model computes with.
    Copy(Dtype),
    /// bfloat16.
    Bf16,
    /// Signed bytes, with a scale for each `run` numbers of a row in `NAME_scale`.
    Bytes { run: usize },
}

/// A weight to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) shape: Vec<usize>,
}

/// A tensor of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    pub(super) bytes: u64,
}

impl Item {
    /// The tensors that it is written as, in their order.
    pub(super) fn tensors(&self) -> impl Iterator<Item = Tensor> {
        let count: usize = self.shape.iter().product();
        let tensor = |name: &str, dtype: Dtype, shape: &[usize], count: usize| Tensor {
            name: name.to_owned(),
            dtype: dtype.name(),
            shape: shape.to_owned(),
            bytes: (count * dtype.width()) as u64,
        };
        let whole = |dtype: Dtype| tensor(&self.name, dtype, &self.shape, count);
        match self.kind {
            Kind::Copy(dtype) => vec![whole(dtype)],
            Kind::Bf16 => vec![whole(Dtype::BF16)],
            Kind::Bytes { run } => {
                let (n, scales) = (self.shape.first().copied().unwrap_or(1), count / run.max(1));
                let shape = [n, scales / n.max(1)];
                vec![tensor(&format!("{}_scale", self.name), Dtype::F32, &shape, scales), whole(Dtype::I8)]
            }
        }
        .into_iter()
    }

    fn bytes(&self) -> u64 {
        self.tensors().map(|tensor| tensor.bytes).sum()
    }

    /// Place in the file: numbers of eight bytes first, then of four, two and one, so that each tensor begins at a
    /// multiple of its numbers' width. Scales and the bytes after them, always fours of them, count as numbers of four.
    fn order(&self) -> usize {
        let width = match self.kind {
            Kind::Copy(dtype) => dtype.width(),
            Kind::Bf16 => 2,
            Kind::Bytes { .. } => 4,
        };
        8_usize.saturating_sub(width)
    }
}

/// Cuts items, sorted by name, into files of at most `most` bytes (or of a single item), each in its order.
pub(super) fn divide(items: Vec<Item>, most: u64) -> Vec<Vec<Item>> {
    let mut files: Vec<Vec<Item>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        let length = item.bytes();
        match files.last_mut() {
            Some(file) if bytes + length <= most => {
                bytes += length;
                file.push(item);
            }
            _ => {
                bytes = length;
                files.push(vec![item]);
            }
        }
    }
    if files.is_empty() {
        files.push(Vec::new());
    }
    for file in &mut files {
        file.sort_by(|a, b| a.order().cmp(&b.order()).then_with(|| a.name.cmp(&b.name)));
    }
    files
}

/// Length and header, padded so that the data begins at a multiple of eight.
pub(super) fn write_header(items: &[Item], output: &mut Output) -> Result<(), ConvertError> {
    let mut header = Map::new();
    // Readers written in Python refuse a file that does not say this.
    header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut at = 0;
    for Tensor { name, dtype, shape, bytes } in items.iter().flat_map(Item::tensors) {
        let value = json!({ "dtype": dtype, "shape": shape, "data_offsets": [at, at + bytes] });
        header.insert(name, value);
        at += bytes;
    }
    let mut text = Value::Object(header).to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    output.write(&(text.len() as u64).to_le_bytes())?;
    output.write(text.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn item(name: &str, kind: Kind, shape: &[usize]) -> Item {
        Item { name: name.to_owned(), kind, shape: shape.to_owned() }
    }

    #[test]
    fn wide_numbers_come_first_and_every_tensor_is_aligned() {
        let items = vec![
            item("a.weight", Kind::Bf16, &[3]),
            item("b.weight", Kind::Bytes { run: 5 }, &[4, 5]),
            item("c.weight", Kind::Bytes { run: 32 }, &[1, 64]),
            item("ids", Kind::Copy(Dtype::other("I64", 8)), &[1]),
            item("mask", Kind::Copy(Dtype::other("BOOL", 1)), &[7]),
        ];
        let files = divide(items, 10_000);
        let names: Vec<&str> = files[0].iter().map(|item| item.name.as_str()).collect();
        assert_eq!(names, ["ids", "b.weight", "c.weight", "a.weight", "mask"]);
        let mut at = 0;
        for tensor in files[0].iter().flat_map(Item::tensors) {
            let width = match tensor.dtype {
                "I64" => 8,
                "F32" => 4,
                "BF16" => 2,
                _ => 1,
            };
            assert_eq!(at % width, 0, "{}", tensor.name);
            at += tensor.bytes;
        }
        let scales: Vec<Vec<usize>> =
            files[0].iter().flat_map(Item::tensors).filter(|t| t.dtype == "F32").map(|t| t.shape).collect();
        assert_eq!(scales, [[4, 1], [1, 2]]);
    }

    #[test]
    fn files_are_full_but_not_overfull() {
        let items: Vec<Item> = (0..5).map(|i| item(&format!("w{i}"), Kind::Bf16, &[10])).collect();
        let lengths = |most| divide(items.clone(), most).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths(1000), [5]);
        assert_eq!(lengths(59), [2, 2, 1]);
        assert_eq!(lengths(1), [1; 5]);
        assert_eq!(divide(Vec::new(), 10), [[]; 1]);
    }
}

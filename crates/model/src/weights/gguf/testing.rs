//! Writes small GGUF files for tests.

use std::fmt::Write as _;

/// A file under construction.
#[derive(Default, Clone)]
pub(crate) struct Writer {
    pairs: u64,
    metadata: Vec<u8>,
    tensors: u64,
    table: Vec<u8>,
    data: Vec<u8>,
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

impl Writer {
    pub(crate) fn pair(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.pairs += 1;
        self.metadata.extend([&text(key)[..], &kind.to_le_bytes(), value].concat());
        self
    }

    pub(crate) fn u32(self, key: &str, value: u32) -> Self {
        self.pair(key, 4, &value.to_le_bytes())
    }

    pub(crate) fn f32(self, key: &str, value: f32) -> Self {
        self.pair(key, 6, &value.to_le_bytes())
    }

    pub(crate) fn text(self, key: &str, value: &str) -> Self {
        self.pair(key, 8, &text(value))
    }

    pub(crate) fn array(self, key: &str, kind: u32, items: &[Vec<u8>]) -> Self {
        let head = [&kind.to_le_bytes()[..], &(items.len() as u64).to_le_bytes()].concat();
        self.pair(key, 9, &[head, items.concat()].concat())
    }

    pub(crate) fn texts(self, key: &str, items: &[&str]) -> Self {
        self.array(key, 8, &items.iter().map(|item| text(item)).collect::<Vec<_>>())
    }

    pub(crate) fn i32s(self, key: &str, items: &[i32]) -> Self {
        self.array(key, 5, &items.iter().map(|item| item.to_le_bytes().to_vec()).collect::<Vec<_>>())
    }

    pub(crate) fn f32s(self, key: &str, items: &[f32]) -> Self {
        self.array(key, 6, &items.iter().map(|item| item.to_le_bytes().to_vec()).collect::<Vec<_>>())
    }

    /// A line of the tensor table, whatever it says; `shape` is in the file's order.
    pub(crate) fn entry(mut self, name: &str, shape: &[u64], kind: u32, offset: u64) -> Self {
        self.tensors += 1;
        self.table.extend(text(name));
        self.table.extend((shape.len() as u32).to_le_bytes());
        self.table.extend(shape.iter().flat_map(|length| length.to_le_bytes()));
        self.table.extend(kind.to_le_bytes());
        self.table.extend(offset.to_le_bytes());
        self
    }

    /// Appends to the data part.
    pub(crate) fn data(mut self, bytes: &[u8]) -> Self {
        self.data.extend(bytes);
        self
    }

    /// An f32 tensor with values 0, 1, 2, …
    pub(crate) fn counting(mut self, name: &str, shape: &[u64]) -> Self {
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        let offset = self.data.len() as u64;
        let values = (0..shape.iter().product()).flat_map(|value| (value as f32).to_le_bytes());
        self.data.extend(values);
        self.entry(name, shape, 0, offset)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(self.tensors.to_le_bytes());
        bytes.extend(self.pairs.to_le_bytes());
        bytes.extend(&self.metadata);
        bytes.extend(&self.table);
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }
}

/// A llama of one block, two query heads and one key-value head of width 4.
pub(crate) fn tiny_llama() -> Writer {
    let mut writer = Writer::default().text("general.architecture", "llama");
    let numbers = [
        ("embedding_length", 8),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("feed_forward_length", 16),
        ("block_count", 1),
        ("context_length", 64),
    ];
    let mut key = String::new();
    for (name, value) in numbers {
        key.clear();
        _ = write!(key, "llama.{name}");
        writer = writer.u32(&key, value);
    }
    writer
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
        .counting("token_embd.weight", &[8, 10])
        .counting("output_norm.weight", &[8])
        .counting("blk.0.attn_q.weight", &[8, 8])
        .counting("blk.0.attn_k.weight", &[8, 4])
        .counting("blk.0.attn_v.weight", &[8, 4])
}

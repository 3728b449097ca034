//! Fixture files, and features and weights made for tests.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use foveate_compress::{
    BlockAttention, BlockDepth, Budget, Compressor, Features, Fresh, Grid, ParameterSource, Start,
    StateDepth, Stored,
};

pub(crate) struct Fixture {
    pub(crate) tensors: HashMap<String, Tensor>,
    metadata: HashMap<String, String>,
}

impl Fixture {
    pub(crate) fn open(name: &str) -> Self {
        let path = format!("{}/../../fixtures/compress/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(&path).unwrap();
        let header = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
        let metadata = serde_json::from_value(header["__metadata__"].clone()).unwrap();
        Self { tensors: candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).unwrap(), metadata }
    }

    pub(crate) fn get(&self, name: &str) -> Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("{name}")).clone()
    }

    pub(crate) fn number(&self, key: &str) -> usize {
        self.metadata[key].parse().unwrap()
    }

    pub(crate) fn weights(&self) -> impl ParameterSource + '_ {
        stored(&self.tensors)
    }

    /// Features of QueCC and TokenPacker: `in.features`, `in.features_multi` cut into its states, `in.text`.
    pub(crate) fn multi_level(&self, grid: Grid) -> Features {
        let x = self.get("in.features");
        let d = x.dim(2).unwrap();
        let multi = self.get("in.features_multi");
        let mut features = Features::new(grid);
        for (nth, depth) in StateDepth::MULTI_LEVEL.into_iter().enumerate() {
            features = features.with_state(depth, multi.narrow(2, nth * d, d).unwrap()).unwrap();
        }
        // The fixtures draw X and the last state of M apart, so X stands under a depth of its own.
        features = features.with_state(APART, x).unwrap();
        match self.tensors.get("in.text") {
            Some(text) => features.with_question(text.squeeze(1).unwrap()).unwrap(),
            None => features,
        }
    }
}

/// The depth that X of the fixtures stands under.
pub(crate) const APART: StateDepth = StateDepth::Index(1);

pub(crate) fn stored(tensors: &HashMap<String, Tensor>) -> impl ParameterSource + '_ {
    Stored::new(move |_: &[usize], name: &str| tensors.get(name).cloned().ok_or("there is no such tensor"))
}

/// Normal numbers that depend on `name` alone.
pub(crate) fn random(shape: &[usize], name: &str) -> Tensor {
    let fresh = Fresh::new(11, Device::Cpu);
    fresh.tensor(shape, name, Start::Normal(1.0)).unwrap().detach()
}

/// Features that suit every method: four levels, class token, the attention of one block, a question of width 12.
pub(crate) fn every_feature(grid: Grid, b: usize, d: usize, block: BlockDepth) -> Features {
    let patches = grid.patches();
    let mut features = Features::new(grid);
    for (nth, depth) in StateDepth::MULTI_LEVEL.into_iter().enumerate() {
        features = features.with_state(depth, random(&[b, patches, d], &format!("state {nth}"))).unwrap();
    }
    let attention =
        BlockAttention::new(block, &random(&[b, 1, d], "query"), &random(&[b, patches + 1, d], "keys"), 2);
    features
        .with_class_token(random(&[b, d], "class"))
        .and_then(|features| features.with_attention(attention?))
        .and_then(|features| features.with_question(random(&[b, 12], "question")))
        .unwrap()
}

/// The block whose attention a method reads; any for methods that read none.
pub(crate) fn block_of(compressor: &dyn Compressor) -> BlockDepth {
    compressor.needs().attention.unwrap_or(BlockDepth::LAST)
}

pub(crate) fn tokens(compressor: &dyn Compressor, features: &Features, budget: impl Into<Budget>) -> Tensor {
    compressor.compress(features, budget.into()).unwrap().tokens
}

/// The largest absolute difference.
pub(crate) fn apart(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

//! The CLIP tower of the fixture, as plainly as it can be written: the model crate has the real one.

use candle_core::{D, Tensor};

use crate::fixture::Fixture;

const PREFIX: &str = "vision_tower.vision_tower.vision_model";

pub(crate) struct Tower<'a> {
    fixture: &'a Fixture,
    pub(crate) heads: usize,
}

impl<'a> Tower<'a> {
    pub(crate) fn new(fixture: &'a Fixture) -> Self {
        Self { fixture, heads: fixture.number("num_attention_heads") }
    }

    fn get(&self, name: &str) -> Tensor {
        self.fixture.get(&format!("{PREFIX}.{name}"))
    }

    fn linear(&self, name: &str, x: &Tensor) -> Tensor {
        let weight = self.get(&format!("{name}.weight")).t().unwrap();
        let (b, n, d) = x.dims3().unwrap();
        let y = x.reshape((b * n, d)).unwrap().matmul(&weight).unwrap();
        let y = y.broadcast_add(&self.get(&format!("{name}.bias"))).unwrap();
        y.reshape((b, n, weight.dim(1).unwrap())).unwrap()
    }

    fn norm(&self, name: &str, x: &Tensor) -> Tensor {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1).unwrap()).unwrap();
        let variance = centred.sqr().unwrap().mean_keepdim(D::Minus1).unwrap();
        let y = centred.broadcast_div(&(variance + 1e-5).unwrap().sqrt().unwrap()).unwrap();
        let y = y.broadcast_mul(&self.get(&format!("{name}.weight"))).unwrap();
        y.broadcast_add(&self.get(&format!("{name}.bias"))).unwrap()
    }

    /// Outputs of `q_proj` and `k_proj` of `layers.{block}` for the block's input.
    pub(crate) fn queries_and_keys(&self, block: usize, input: &Tensor) -> (Tensor, Tensor) {
        let layer = format!("encoder.layers.{block}");
        let normed = self.norm(&format!("{layer}.layer_norm1"), input);
        let project = |name: &str| self.linear(&format!("{layer}.self_attn.{name}"), &normed);
        (project("q_proj"), project("k_proj"))
    }

    /// Hidden states 0 to `last`.
    pub(crate) fn states(&self, pixels: &Tensor, last: usize) -> Vec<Tensor> {
        let filter = self.get("embeddings.patch_embedding.weight");
        let (d, channels, p, _) = filter.dims4().unwrap();
        let (b, side) = (pixels.dim(0).unwrap(), pixels.dim(2).unwrap() / p);
        let windows = pixels.reshape(vec![b, channels, side, p, side, p]).unwrap();
        let windows = windows.permute(vec![0, 2, 4, 1, 3, 5]).unwrap().contiguous().unwrap();
        let windows = windows.reshape((b * side * side, channels * p * p)).unwrap();
        let patches = windows.matmul(&filter.flatten_from(1).unwrap().t().unwrap()).unwrap();
        let patches = patches.reshape((b, side * side, d)).unwrap();
        let class = self.get("embeddings.class_embedding").reshape((1, 1, d)).unwrap();
        let tokens = Tensor::cat(&[class, patches], 1).unwrap();
        let tokens = tokens.broadcast_add(&self.get("embeddings.position_embedding.weight")).unwrap();
        let mut states = vec![self.norm("pre_layrnorm", &tokens)];
        for block in 0..last {
            let next = self.block(block, &states[block]);
            states.push(next);
        }
        states
    }

    fn block(&self, block: usize, x: &Tensor) -> Tensor {
        let layer = format!("encoder.layers.{block}");
        let (b, n, d) = x.dims3().unwrap();
        let head = d / self.heads;
        let split = |y: &Tensor| {
            y.reshape((b, n, self.heads, head)).unwrap().transpose(1, 2).unwrap().contiguous().unwrap()
        };
        let (queries, keys) = self.queries_and_keys(block, x);
        let normed = self.norm(&format!("{layer}.layer_norm1"), x);
        let values = self.linear(&format!("{layer}.self_attn.v_proj"), &normed);
        let scores = split(&queries).matmul(&split(&keys).t().unwrap()).unwrap();
        let scores = (scores * (head as f64).powf(-0.5)).unwrap();
        let exp = scores.broadcast_sub(&scores.max_keepdim(D::Minus1).unwrap()).unwrap().exp().unwrap();
        let weights = exp.broadcast_div(&exp.sum_keepdim(D::Minus1).unwrap()).unwrap();
        let mixed = weights.matmul(&split(&values)).unwrap().transpose(1, 2).unwrap().contiguous().unwrap();
        let mixed = mixed.reshape((b, n, d)).unwrap();
        let x = (x + self.linear(&format!("{layer}.self_attn.out_proj"), &mixed)).unwrap();
        let inner = self.linear(&format!("{layer}.mlp.fc1"), &self.norm(&format!("{layer}.layer_norm2"), &x));
        // x · sigmoid(1.702 x)
        let gate = ((&inner * -1.702).unwrap().exp().unwrap() + 1.0).unwrap().recip().unwrap();
        let inner = (inner * gate).unwrap();
        (&x + self.linear(&format!("{layer}.mlp.fc2"), &inner)).unwrap()
    }
}

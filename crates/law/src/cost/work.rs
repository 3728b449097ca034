//! The one counter behind every stage: multiply-adds, weights read, activations moved.

/// Bytes of one activation: activations stay in single precision whatever the weights are.
const ACTIVATION_BYTES: f64 = 4.0;

/// What a stage does, as real numbers: they cannot overflow and are exact up to 2^53.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Work {
    /// 2 × multiply-adds.
    pub(crate) flops: f64,
    /// Weights read, each once a pass.
    pub(crate) weights: f64,
    /// Activations read and written.
    pub(crate) activations: f64,
}

impl Work {
    /// `rows` vectors of length `inputs` times one `inputs` × `outputs` matrix.
    pub(crate) fn product(&mut self, rows: f64, inputs: f64, outputs: f64) {
        if rows == 0.0 {
            return;
        }
        self.flops += 2.0 * rows * inputs * outputs;
        self.weights += inputs * outputs;
        self.activations += rows * (inputs + outputs);
    }

    /// Scores and weighted values of `pairs` query-key pairs, all heads together `width` channels wide. The score
    /// matrix is taken to stay on chip: only queries and outputs of `queries` rows move.
    pub(crate) fn attention(&mut self, queries: f64, pairs: f64, width: f64) {
        self.flops += 2.0 * 2.0 * pairs * width;
        self.activations += 2.0 * queries * width;
    }

    /// `count` dot products of length `width` (or as many scaled additions).
    pub(crate) fn dots(&mut self, count: f64, width: f64) {
        self.flops += 2.0 * count * width;
        self.activations += count * width;
    }

    /// This work and `other` one after the other.
    pub(crate) fn add(&mut self, other: Self) {
        self.flops += other.flops;
        self.weights += other.weights;
        self.activations += other.activations;
    }

    /// The same work `factor` times over; a factor below one is this question's share of shared work.
    pub(crate) fn times(self, factor: f64) -> Self {
        Self {
            flops: self.flops * factor,
            weights: self.weights * factor,
            activations: self.activations * factor,
        }
    }

    /// Bytes moved when a weight takes `weight_bytes`.
    pub(crate) fn bytes(&self, weight_bytes: f64) -> f64 {
        self.weights * weight_bytes + self.activations * ACTIVATION_BYTES
    }
}

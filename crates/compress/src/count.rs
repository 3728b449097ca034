//! Counts multiply-adds as they run, to hold the cost formulae to what the code does.
//!
//! Every product, attention and weighted sum of this crate reports here, and with its feature `count` the model crate's.
//! Element-wise work (norms, activations, biases) does not count, as in `law::cost`. The counter belongs to the calling
//! thread and runs only inside of [`counted`].

use std::cell::Cell;

thread_local! {
    static MULTIPLY_ADDS: Cell<Option<u64>> = const { Cell::new(None) };
}

/// `count` sums of `width` products each.
pub fn dots(count: usize, width: usize) {
    MULTIPLY_ADDS.with(|total| total.set(total.get().map(|sum| sum + (count * width) as u64)));
}

/// Whether a count is under way, for reports that are dear to make.
pub fn active() -> bool {
    MULTIPLY_ADDS.with(Cell::get).is_some()
}

/// What `run` returns, and the FLOPs (2 × multiply-adds) that were reported in it on this thread. Counts may be nested: the
/// outer one includes the inner one.
pub fn counted<T>(run: impl FnOnce() -> T) -> (T, f64) {
    let outer = MULTIPLY_ADDS.replace(Some(0));
    let result = run();
    let sum = MULTIPLY_ADDS.with(Cell::get).unwrap_or(0);
    MULTIPLY_ADDS.set(outer.map(|outer| outer + sum));
    (result, 2.0 * sum as f64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::*;
    use candle_core::{Device, Tensor};

    const D: usize = 16;
    const HEADS: usize = 2;

    fn random(shape: &[usize], name: &str) -> Tensor {
        Fresh::new(5, Device::Cpu).tensor(shape, name, Start::Normal(1.0)).unwrap()
    }

    fn features(grid: Grid, block: BlockDepth) -> Features {
        let patches = grid.patches();
        let keys = random(&[1, patches + 1, D], "keys");
        let attention = BlockAttention::new(block, &random(&[1, 1, D], "query"), &keys, HEADS).unwrap();
        let mut features = Features::new(grid);
        for depth in StateDepth::MULTI_LEVEL {
            features = features.with_state(depth, random(&[1, patches, D], &depth.to_string())).unwrap();
        }
        let features = features.with_class_token(random(&[1, D], "class")).unwrap();
        features.with_attention(attention).unwrap().with_question(random(&[1, 12], "question")).unwrap()
    }

    #[test]
    fn the_formulae_count_what_runs() {
        let grid = Grid::square(12);
        let dimensions = Dimensions { grid, width: D, heads: HEADS };
        let fresh = Fresh::new(1, Device::Cpu);
        let from = Parameters::new(&fresh, "");
        let quecc = QueCCConfig { heads: HEADS, ..QueCCConfig::elastic(D, 12, &grid.window_sides()) };
        let packer = TokenPackerConfig {
            heads: HEADS,
            sides: grid.window_sides(),
            ..TokenPackerConfig::published(D, 20, 1)
        };
        let mqt = MqtConfig { heads: HEADS, query_side: 4, ..MqtConfig::published(D, 20) };
        let methods: Vec<Box<dyn Compressor>> = vec![
            Box::new(QueCC::load(&quecc, &from).unwrap()),
            Box::new(TokenPacker::load(&packer, &from).unwrap()),
            Box::new(Mqt::load(&mqt, &from).unwrap()),
            Box::new(M3::default()),
            Box::new(PruMerge::default()),
            Box::new(VisionZip::default()),
            Box::new(AveragePooling::default()),
            Box::new(Identity::default()),
        ];
        for method in methods {
            let block = method.needs().attention.unwrap_or(BlockDepth::LAST);
            let features = features(grid, block);
            // PruMerge's own share of the last block: the class token's query and all keys, made by the tower.
            let in_tower = match method.method() {
                Method::PruMerge => 2.0 * ((grid.patches() + 2) * D * D) as f64,
                _ => 0.0,
            };
            for v in method.ladder(grid).values() {
                let (result, flops) = counted(|| method.compress(&features, Budget::Tokens(v)));
                assert_eq!(result.unwrap().tokens.dim(1).unwrap(), v);
                let stated = method.flops(&dimensions, v).unwrap();
                assert_eq!(flops + in_tower, stated, "{} at {v} tokens", method.method());
            }
        }
    }
}

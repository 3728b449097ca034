//! Compress features without any model: a fresh elastic QueCC takes 24 × 24 patches of width 64 to each rung.
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use candle_core::{DType, Device, Tensor};
use foveate_compress::{Budget, Compressor, Features, Fresh, Grid, Parameters, QueCC, QueCCConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let fresh = Fresh::new(1, Device::Cpu);
    let config = QueCCConfig::elastic(64, 96, &[2, 3, 4, 6, 8, 12, 24]);
    let quecc = QueCC::load(&config, &Parameters::new(&fresh, "compressor"))?;

    let grid = Grid::square(24);
    let mut features = Features::new(grid);
    for depth in quecc.needs().states {
        features = features.with_state(depth, Tensor::ones((1, 576, 64), DType::F32, &Device::Cpu)?)?;
    }
    let question = Tensor::ones((1, 96), DType::F32, &Device::Cpu)?; // from a language model
    let features = features.with_question(question)?;

    for visual_tokens in quecc.ladder(grid).values() {
        let tokens = quecc.compress(&features, Budget::Tokens(visual_tokens))?.tokens;
        println!("{visual_tokens:>4} visual tokens: {:?}", tokens.dims());
    }
    println!("{} parameters serve them all", quecc.parameters());
    Ok(())
}

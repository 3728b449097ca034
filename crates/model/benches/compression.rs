//! What share of the tower's time and FLOPs compression takes on CLIP-L/14-336, with random weights:
//! `cargo bench --bench compression`. A report, not a test: times depend on the machine.
#![expect(clippy::print_stdout, reason = "a report")]

use std::collections::HashMap;
use std::error::Error;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use foveate_compress::{
    BlockAttention, BlockDepth, Budget, CompressorConfig, Dimensions, Features, Fresh, Grid, Method,
    MqtConfig, ParameterSource, Parameters, QueCCConfig, Start, StateDepth, TokenPackerConfig,
};
use foveate_model::vision::{ClipConfig, HiddenState, VisionConfig, VisionTower, Wanted};
use foveate_model::weights::Weights;

/// The width of the language model that QueCC's questions come from.
const TEXT_WIDTH: usize = 896;
const RUNS: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let config = ClipConfig::large_336();
    let (d, grid) = (config.hidden_size, Grid::square(24));
    let tower = VisionTower::load(VisionConfig::Clip(config.clone()), &weights(&config)?)?;
    let pixels = normal(&[1, 3, 336, 336], "pixels")?;
    let state = [HiddenState::from_end(2)];
    let (output, tower_time) = best(|| Ok(tower.forward(&pixels, &Wanted::states(&state))?))?;
    let tower_flops = tower.config().dimensions("clip-l-14-336").flops(output.blocks_run);
    println!("tower: {:.0} ms, {:.0} GFLOP, best of {RUNS}\n", ms(tower_time), tower_flops / 1e9);
    println!(
        "{:<16} {:>5} {:>9} {:>12} {:>12} {:>7}",
        "method", "V", "ms", "of its time", "of its FLOPs", "ratio"
    );

    let patches = output.patches(0)?.contiguous()?;
    let (queries, keys) = (normal(&[1, 1, d], "queries")?, normal(&[1, 577, d], "keys")?);
    for method in Method::ALL {
        let config = match method {
            Method::QueCC => {
                CompressorConfig::QueCC(QueCCConfig::elastic(d, TEXT_WIDTH, &grid.window_sides()))
            }
            Method::TokenPacker => CompressorConfig::TokenPacker(TokenPackerConfig {
                sides: grid.window_sides(),
                ..TokenPackerConfig::published(d, TEXT_WIDTH, 1)
            }),
            Method::Mqt => CompressorConfig::Mqt(MqtConfig::published(d, TEXT_WIDTH)),
            other => CompressorConfig::without_weights(other, StateDepth::LLAVA)?,
        };
        let compressor = config.load(&Parameters::new(&Fresh::new(1, Device::Cpu), ""))?;
        let block = compressor.needs().attention.unwrap_or(BlockDepth::LAST);
        let mut features = Features::new(grid)
            .with_class_token(normal(&[1, d], "class")?)?
            .with_attention(BlockAttention::new(block, &queries, &keys, 16)?)?
            .with_question(normal(&[1, TEXT_WIDTH], "question")?)?;
        for depth in compressor.needs().states {
            features = features.with_state(depth, patches.clone())?;
        }
        for v in [576, 256, 144, 64, 36, 16, 4, 1] {
            let budget = Budget::Tokens(v);
            if !compressor.ladder(grid).contains(budget) {
                continue;
            }
            let (_, time) = best(|| Ok(compressor.compress(&features, budget)?))?;
            let dimensions = Dimensions { grid, width: d, heads: 16 };
            let flops = compressor.flops(&dimensions, v)? / tower_flops;
            let share = time.as_secs_f64() / tower_time.as_secs_f64();
            let ratio = if flops > 0.0 { share / flops } else { 0.0 };
            println!(
                "{method:<16} {v:>5} {:>9.1} {:>10.2} % {:>10.2} % {ratio:>7.2}",
                ms(time),
                100.0 * share,
                100.0 * flops
            );
        }
    }
    Ok(())
}

fn best<T>(mut run: impl FnMut() -> Result<T, Box<dyn Error>>) -> Result<(T, Duration), Box<dyn Error>> {
    let mut shortest = Duration::MAX;
    let mut last = None;
    for _ in 0..RUNS {
        let started = Instant::now();
        last = Some(run()?);
        shortest = shortest.min(started.elapsed());
    }
    Ok((last.ok_or("no run")?, shortest))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn normal(shape: &[usize], name: &str) -> Result<Tensor, Box<dyn Error>> {
    Ok(Fresh::new(2, Device::Cpu).tensor(shape, name, Start::Normal(1.0))?.detach())
}

/// Random weights; all blocks share their values, which cost what others would.
fn weights(config: &ClipConfig) -> Result<Weights, Box<dyn Error>> {
    let (d, inner) = (config.hidden_size, config.intermediate_size);
    let draw = |shape: &[usize]| -> Result<Tensor, Box<dyn Error>> {
        Ok((normal(shape, "weight")? * (*shape.last().unwrap_or(&1) as f64).powf(-0.5))?)
    };
    let square = draw(&[d, d])?;
    let (up, down) = (draw(&[inner, d])?, draw(&[d, inner])?);
    let (ones, zeros) = (Tensor::ones(d, square.dtype(), square.device())?, draw(&[d])?.zeros_like()?);
    let mut tensors = HashMap::from([
        ("embeddings.class_embedding".to_owned(), draw(&[d])?),
        ("embeddings.patch_embedding.weight".to_owned(), draw(&[d, 3, 14, 14])?),
        ("embeddings.position_embedding.weight".to_owned(), draw(&[577, d])?),
        ("pre_layrnorm.weight".to_owned(), ones.clone()),
        ("pre_layrnorm.bias".to_owned(), zeros.clone()),
    ]);
    let inner_zeros = Tensor::zeros(inner, square.dtype(), square.device())?;
    for block in 0..config.num_hidden_layers {
        let mut put = |name: &str, weight: &Tensor, bias: &Tensor| {
            tensors.insert(format!("encoder.layers.{block}.{name}.weight"), weight.clone());
            tensors.insert(format!("encoder.layers.{block}.{name}.bias"), bias.clone());
        };
        for name in ["layer_norm1", "layer_norm2"] {
            put(name, &ones, &zeros);
        }
        for name in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            put(&format!("self_attn.{name}"), &square, &zeros);
        }
        put("mlp.fc1", &up, &inner_zeros);
        put("mlp.fc2", &down, &zeros);
    }
    let below = tensors.into_iter().map(|(name, tensor)| (format!("vision_model.{name}"), tensor));
    Ok(Weights::from_tensors(below.collect()))
}

//! The cost formulae against the multiply-adds that run.

use candle_core::Device;
use foveate_compress::count::counted;
use foveate_compress::{
    AveragePooling, Budget, Compressor, Dimensions, Fresh, Grid, Identity, M3, Method, Mqt, MqtConfig,
    Parameters, PruMerge, QueCC, QueCCConfig, TokenPacker, TokenPackerConfig, VisionZip,
};

use crate::fixture::{block_of, every_feature};

const D: usize = 16;
const HEADS: usize = 2;

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
        let features = every_feature(grid, 1, D, block_of(&*method));
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

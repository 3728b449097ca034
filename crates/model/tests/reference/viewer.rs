//! Caches between the stages, and tiles.

use std::sync::Arc;
use std::time::Duration;

use foveate_compress::{Budget, Grid, Method};
use foveate_model::ModelError;
use foveate_model::vlm::{Caches, Image, PerStage, Tiling, Viewer};

use crate::common::{Expected, apart};
use crate::compressed::{image, open, rows};

fn viewer(name: &str) -> (Viewer, Expected) {
    (Viewer::new(open(name), Arc::new(Caches::default())), Expected::of(name))
}

fn cached(tower: bool, query: bool, tokens: bool) -> PerStage<bool> {
    PerStage { tower, query, compress: tokens, project: tokens }
}

#[test]
fn a_view_is_the_stages_and_remembers_each() {
    let (viewer, expected) = viewer("compressed-elastic");
    let (image, question) = (image(), expected.ids("in.question_ids"));
    let first = viewer.view(&image, Some(&question), Budget::Tokens(4)).unwrap();
    assert_eq!(apart(&first.rows, &rows(viewer.vlm(), &image, &question, Budget::Tokens(4))), 0.0);
    assert_eq!((first.cached, &first.visual_tokens[..]), (cached(false, false, false), &[4][..]));
    assert!(first.flops.tower > 0.0 && first.flops.query > 0.0);
    assert!(first.flops.compress > 0.0 && first.flops.project > 0.0);
    assert!(first.times.tower > Duration::ZERO && first.times.compress > Duration::ZERO);

    let again = viewer.view(&image, Some(&question), Budget::Tokens(4)).unwrap();
    assert_eq!((again.cached, again.flops), (cached(true, true, true), PerStage::default()));
    assert_eq!(apart(&again.rows, &first.rows), 0.0);
    // Another rung: tower and question are known. Another question: the tower is.
    let rung = viewer.view(&image, Some(&question), Budget::Tokens(9)).unwrap();
    assert_eq!(rung.cached, cached(true, true, false));
    assert_eq!(rung.flops.tower + rung.flops.query, 0.0);
    let other = viewer.view(&image, Some(&question[1..]), Budget::Tokens(4)).unwrap();
    assert_eq!(other.cached, cached(true, false, false));
    assert!(apart(&other.rows, &first.rows) > 1e-3, "QueCC reads the question");
    // Another picture: the question is.
    let Image::Single(pixels) = &image else { panic!("one picture") };
    let negative = Image::Single(pixels.neg().unwrap());
    let other = viewer.view(&negative, Some(&question), Budget::Tokens(4)).unwrap();
    assert_eq!(other.cached, cached(false, true, false));

    let statistics = viewer.caches().statistics();
    assert_eq!((statistics.towers.hits, statistics.towers.misses, statistics.towers.entries), (2, 2, 2));
    assert_eq!((statistics.tokens.hits, statistics.tokens.misses, statistics.tokens.entries), (1, 4, 4));
    assert_eq!((statistics.questions.hits, statistics.questions.misses), (2, 2));
    assert_eq!(statistics.tokens.bytes, (4 + 9 + 4 + 4) * 24 * 4);
    // For each picture four states of 36 patches of width 16.
    assert_eq!(statistics.towers.bytes, 2 * 4 * 36 * 16 * 4);
}

#[test]
fn what_does_not_matter_to_a_compressor_does_not_miss() {
    let (viewer, expected) = viewer("compressed-plain");
    let (image, question) = (image(), expected.ids("in.question_ids"));
    let pooling = viewer.with_compressor(Method::AveragePooling).unwrap();
    pooling.view(&image, Some(&question), Budget::Tokens(9)).unwrap();
    let other = pooling.view(&image, None, Budget::Tokens(9)).unwrap();
    assert_eq!(other.cached, cached(true, true, true), "pooling does not read the question");
    // Methods that read the same state share what the tower gave, but not their tokens.
    let m3 = viewer.with_compressor(Method::M3).unwrap().view(&image, None, Budget::Tokens(9)).unwrap();
    assert_eq!(m3.cached, cached(true, false, false));
    assert!(apart(&m3.rows, &other.rows) > 1e-4);
    // PruMerge needs the class token's attention as well.
    let prumerge = viewer.with_compressor(Method::PruMerge).unwrap();
    let view = prumerge.view(&image, None, Budget::Adaptive).unwrap();
    assert_eq!(view.cached, cached(false, false, false));
    assert_eq!(view.visual_tokens, [view.rows.dims()[0]]);
    assert_eq!(view.kept.unwrap()[0].len(), view.visual_tokens[0]);
    // The same weights loaded again are another model.
    let again = Viewer::new(open("compressed-plain"), viewer.caches().clone());
    assert!(!again.view(&image, None, Budget::Tokens(36)).unwrap().cached.tower);
}

#[test]
fn without_room_nothing_is_kept_and_nothing_changes() {
    let (viewer, expected) = viewer("compressed-quecc");
    let (image, question) = (image(), expected.ids("in.question_ids"));
    let bare = Viewer::new(viewer.vlm().clone(), Arc::new(Caches::new(0, 0, 0)));
    let first = bare.view(&image, Some(&question), Budget::Tokens(4)).unwrap();
    let second = bare.view(&image, Some(&question), Budget::Tokens(4)).unwrap();
    assert_eq!(second.cached, cached(false, false, false));
    assert_eq!(apart(&first.rows, &second.rows), 0.0);
    assert_eq!(bare.caches().statistics().towers.bytes, 0);
    let error = bare.view(&image, None, Budget::Tokens(4)).unwrap_err().to_string();
    assert!(error.contains("quecc reads the question"), "{error}");
    assert_eq!(bare.caches().statistics().towers.misses, 2, "refused before the tower ran");
}

#[test]
fn a_gaze_is_the_stages_too_and_shares_what_they_keep() {
    let (viewer, expected) = viewer("compressed-elastic");
    let (image, question) = (image(), expected.ids("in.question_ids"));
    viewer.view(&image, Some(&question), Budget::Tokens(4)).unwrap();
    let gaze = viewer.gaze(&image, Some(&question), Budget::Tokens(4)).unwrap();
    let statistics = viewer.caches().statistics();
    assert_eq!((statistics.towers.misses, statistics.questions.misses), (1, 1), "the view had asked before");
    let vlm = viewer.vlm();
    let seen = vlm.project_before(vlm.see(&image).unwrap()).unwrap();
    let vector = vlm.question_vector(&question).unwrap();
    let expected = vlm.look(&seen, Some(&vector), &[Budget::Tokens(4)]).unwrap();
    assert_eq!(gaze.weights[0].dims(), [4, 36]);
    assert_eq!(apart(&gaze.weights[0], &expected[0]), 0.0);
    assert!(gaze.kept.is_none(), "windows are merged");
    for (question, tokens, told) in
        [(Some(&question[..]), 5, "it offers"), (None, 4, "quecc reads the question")]
    {
        let error = viewer.gaze(&image, question, Budget::Tokens(tokens)).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
    let selecting = viewer.with_compressor(Method::VisionZip).unwrap();
    let kept = selecting.gaze(&image, None, Budget::Tokens(12)).unwrap().kept.unwrap();
    assert_eq!(kept, selecting.view(&image, None, Budget::Tokens(12)).unwrap().kept.unwrap());
}

/// LLaVA-NeXT's tiles of `name`'s case: overview first.
fn tiled(expected: &Expected, case: &str, tiling: (usize, usize)) -> Image {
    let count = 1 + tiling.0 * tiling.1;
    let tiles = expected.get(&format!("in.{case}.pixel_values")).get(0).unwrap().narrow(0, 0, count).unwrap();
    let sizes = expected.ids(&format!("in.{case}.image_sizes"));
    let (height, width) = (sizes[0] as usize, sizes[1] as usize);
    Image::Tiled { tiles, tiling: Tiling { rows: tiling.0, columns: tiling.1, height, width } }
}

#[test]
fn tiles_are_compressed_one_by_one_and_arranged_on_smaller_grids() {
    let (model, expected) = (open("llava-next"), Expected::of("llava-next"));
    let image = tiled(&expected, "photo", (2, 2));
    // Identity is LLaVA-NeXT itself.
    let whole = rows(&model, &image, &[], Budget::Tokens(16));
    expected.assert_close("out.photo.image_features.0", &whole);

    let pooled = model.clone().with_compressor(Method::AveragePooling).unwrap();
    let packed = rows(&pooled, &image, &[], Budget::Tokens(4));
    let Image::Tiled { tiles, tiling } = &image else { panic!("tiles") };
    let smaller = Grid::square(2);
    assert_eq!(packed.dims(), [tiling.positions(smaller), 40]);
    // The overview's four tokens stand first: those of the picture alone.
    let seen = pooled.see_pixels(&tiles.narrow(0, 0, 1).unwrap()).unwrap();
    let alone = pooled.project_after(&pooled.compress(&seen, None, &[Budget::Tokens(4)]).unwrap()).unwrap();
    assert!(apart(&packed.narrow(0, 0, 4).unwrap(), &alone[0]) < 1e-5);

    let view =
        Viewer::new(pooled, Arc::new(Caches::default())).view(&image, None, Budget::Tokens(4)).unwrap();
    assert_eq!(view.visual_tokens, [4; 5]);
    assert_eq!(apart(&view.rows, &packed), 0.0);
    let selected = model.with_compressor(Method::PruMerge).unwrap();
    let error = selected.check(&image, Budget::Tokens(4)).unwrap_err();
    assert!(matches!(error, ModelError::Compressor { method: Method::PruMerge, .. }), "{error}");
    assert!(error.to_string().contains("no grid"), "{error}");
}

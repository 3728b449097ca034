//! The arithmetic of tiles and unpadding against transformers.

use foveate_data::image::{AnyResolution, Size, fit_inside, select_best_resolution};
use serde::Deserialize;

use crate::fixture;

#[derive(Deserialize)]
struct Fixture {
    settings: Vec<Setting>,
}

#[derive(Deserialize)]
struct Setting {
    side: u32,
    features: usize,
    pinpoints: Vec<[u32; 2]>,
    cases: Vec<[usize; 11]>,
}

#[test]
fn tiles_and_tokens_of_many_sizes() {
    let text = std::fs::read_to_string(fixture("anyres.json")).unwrap();
    let fixture: Fixture = serde_json::from_str(&text).unwrap();
    let mut compared = 0;
    for Setting { side, features, pinpoints, cases } in fixture.settings {
        let pinpoints: Vec<Size> = pinpoints.iter().map(|&[height, width]| Size { height, width }).collect();
        for case in cases {
            let size = |at: usize| Size::new(case[at] as u32, case[at + 1] as u32);
            let original = size(0);
            let best = select_best_resolution(original, &pinpoints).unwrap();
            assert_eq!(best, size(2), "best resolution of {original}");
            assert_eq!(fit_inside(original, best), size(4), "fitted size of {original} in {best}");
            let layout = AnyResolution { original, rows: best.height / side, columns: best.width / side };
            let window = layout.window(features);
            let (rows, columns) = (case[6]..case[7], case[8]..case[9]);
            if rows.is_empty() || columns.is_empty() {
                assert_eq!(
                    (window.rows.len(), window.columns.len()),
                    (rows.len(), columns.len()),
                    "of {original}"
                );
            } else {
                assert_eq!((window.rows, window.columns), (rows, columns), "features left of {original}");
            }
            assert_eq!(layout.token_count(features), case[10], "tokens of {original}");
            compared += 1;
        }
    }
    assert!(compared > 300);
}

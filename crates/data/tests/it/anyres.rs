//! The choice of tiles against transformers. What is left of them after unpadding, the other half of the fixture, is
//! tested where it is computed: `foveate_model`'s `vlm/pack.rs`.

use foveate_data::image::{Size, fit_inside, select_best_resolution};
use serde::Deserialize;

use crate::fixture;

#[derive(Deserialize)]
struct Fixture {
    settings: Vec<Setting>,
}

#[derive(Deserialize)]
struct Setting {
    pinpoints: Vec<[u32; 2]>,
    cases: Vec<[usize; 11]>,
}

#[test]
fn tiles_of_many_sizes() {
    let text = std::fs::read_to_string(fixture("anyres.json")).unwrap();
    let fixture: Fixture = serde_json::from_str(&text).unwrap();
    let mut compared = 0;
    for Setting { pinpoints, cases } in fixture.settings {
        let pinpoints: Vec<Size> = pinpoints.iter().map(|&[height, width]| Size { height, width }).collect();
        for case in cases {
            let size = |at: usize| Size::new(case[at] as u32, case[at + 1] as u32);
            let original = size(0);
            let best = select_best_resolution(original, &pinpoints).unwrap();
            assert_eq!(best, size(2), "best resolution of {original}");
            assert_eq!(fit_inside(original, best), size(4), "fitted size of {original} in {best}");
            compared += 1;
        }
    }
    assert!(compared > 300);
}

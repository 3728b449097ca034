//! Decoding and preprocessing of photographs against Pillow and the slow image processors of transformers.

use foveate_data::image::{Image, Limits, PassOrder, Preprocessor, decode_bytes, decode_file};
use safetensors::{Dtype, SafeTensors};

use crate::fixture;

fn load(name: &str) -> Image {
    decode_file(&fixture("images").join(name), &Limits::default()).unwrap()
}

/// What Pillow decodes of a file: its own copy as PNG, where there is one.
fn reference(name: &str) -> Image {
    let copy = format!("decoded/{name}.png");
    if fixture("images").join(&copy).exists() { load(&copy) } else { load(name) }
}

fn processors() -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(fixture("images/processors.json")).unwrap()).unwrap()
}

/// The processor of this name, its levels left as they are unless `normalised`.
fn processor(all: &serde_json::Value, name: &str, normalised: bool) -> Preprocessor {
    let mut found = Preprocessor::from_json(name, &all[name].to_string()).unwrap();
    if !normalised {
        (found.rescale, found.normalise) = (None, false);
    }
    found
}

/// Largest and mean difference.
fn distance(ours: &Image, theirs: &Image) -> (u8, f64) {
    assert_eq!(ours.size(), theirs.size());
    let differences: Vec<u8> =
        ours.as_rgb().iter().zip(theirs.as_rgb()).map(|(a, b)| a.abs_diff(*b)).collect();
    let sum: f64 = differences.iter().map(|&difference| f64::from(difference)).sum();
    (differences.iter().copied().max().unwrap(), sum / differences.len() as f64)
}

/// Our JPEG decoder computes what libjpeg-turbo computes; only lossy WebP is another decoder's.
#[test]
fn decoded_as_pillow_decodes() {
    let mut exact = 0;
    for copy in std::fs::read_dir(fixture("images/decoded")).unwrap() {
        let copy = copy.unwrap().file_name().into_string().unwrap();
        let name = copy.strip_suffix(".png").unwrap();
        let (largest, mean) = distance(&load(name), &load(&format!("decoded/{copy}")));
        if name == "coffee-lossy.webp" {
            assert!(largest <= 4 && mean <= 0.1, "{name}: largest {largest}, mean {mean}");
        } else {
            assert_eq!(largest, 0, "{name}: mean {mean}");
            exact += 1;
        }
    }
    assert!(exact >= 10);
}

#[derive(serde::Deserialize)]
struct Jpegs {
    files: Vec<Jpeg>,
}

#[derive(serde::Deserialize)]
struct Jpeg {
    name: String,
    hex: String,
    size: [u32; 2],
    crc32: u32,
}

/// The checksum of PNG and zlib.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum: u32, _| (sum >> 1) ^ (0xedb8_8320 * (sum & 1)))
    })
}

/// Every chroma layout, baseline and progressive, restarts, and sides at which a rule of the edges changes.
#[test]
fn small_jpegs_equal_pillow() {
    let text = std::fs::read_to_string(fixture("jpegs.json")).unwrap();
    let jpegs: Jpegs = serde_json::from_str(&text).unwrap();
    for Jpeg { name, hex, size, crc32: expected } in &jpegs.files {
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        let image = decode_bytes(name, &bytes, &Limits::default()).unwrap();
        assert_eq!([image.width(), image.height()], *size, "{name}");
        assert_eq!(crc32(image.as_rgb()), *expected, "{name}");
    }
    assert!(jpegs.files.len() > 40);
}

#[test]
fn every_orientation_is_turned_upright() {
    let bytes = std::fs::read(fixture("images/expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    for orientation in 1..=8 {
        let name = format!("orientation-{orientation}.jpg");
        let ours = load(&name);
        assert_eq!((ours.height(), ours.width()), (16, 24), "{name}");
        let planes = expected.tensor(&format!("decoded/{name}")).unwrap().data().to_vec();
        let rgb =
            (0..16 * 24).flat_map(|at| [0, 1, 2].map(|channel| planes[channel * 16 * 24 + at])).collect();
        assert!(ours == Image::from_rgb(24, 16, rgb).unwrap(), "{name}");
    }
}

#[test]
fn processed_as_transformers_processes() {
    let processors = processors();
    let bytes = std::fs::read(fixture("images/expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let mut levels = 0;
    for (name, tensor) in expected.tensors() {
        let (normalised, rest) =
            name.strip_prefix("normalised/").map_or((false, name.as_str()), |rest| (true, rest));
        let (processor_name, file) = rest.split_once('/').unwrap();
        if processor_name == "decoded" {
            continue;
        }
        let processed = processor(&processors, processor_name, normalised).apply(&reference(file)).unwrap();
        let ours: Vec<f32> = processed.tiles.iter().flat_map(|tile| tile.data.iter().copied()).collect();
        assert_eq!(ours.len(), tensor.shape().iter().product::<usize>(), "{name}");
        match tensor.dtype() {
            // Bit for bit, not within a level.
            Dtype::U8 => {
                let theirs: Vec<f32> = tensor.data().iter().map(|&level| f32::from(level)).collect();
                assert!(ours == theirs, "{name} differs from the reference");
                levels += theirs.len();
            }
            Dtype::F32 => {
                for (ours, theirs) in ours.iter().zip(tensor.data().chunks_exact(4)) {
                    let theirs = f32::from_le_bytes(theirs.try_into().unwrap());
                    assert!((ours - theirs).abs() <= 1e-6, "{name}: {ours} and {theirs}");
                }
            }
            other => panic!("{name} is {other:?}"),
        }
    }
    assert!(levels > 1_000_000);
}

#[test]
fn the_older_pass_order_differs_by_a_level_where_images_are_tall() {
    let processors = processors();
    let newer = processor(&processors, "clip_56", false);
    let older = Preprocessor { order: PassOrder::HorizontalFirst, ..newer.clone() };
    let pixels = |processor: &Preprocessor, name| processor.apply(&load(name)).unwrap().tiles.remove(0).data;
    assert_eq!(pixels(&newer, "cat.png"), pixels(&older, "cat.png"));
    let (tall_newer, tall_older) = (pixels(&newer, "rocket-tall.png"), pixels(&older, "rocket-tall.png"));
    assert_ne!(tall_newer, tall_older);
    assert!(tall_newer.iter().zip(&tall_older).all(|(a, b)| (a - b).abs() <= 2.0));
}

#[test]
fn the_signature_counts_not_the_name() {
    let png = std::fs::read(fixture("images/cat.png")).unwrap();
    assert_eq!(decode_bytes("cat.jpg", &png, &Limits::default()).unwrap(), load("cat.png"));
}

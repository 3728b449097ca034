//! Files that are broken or made to hurt: an error that names the file, soon, and little memory.

use std::path::Path;

use foveate_data::image::{DecodeProblem, Limits, decode_bytes, decode_file};
use proptest::prelude::*;

use crate::fixture;

const REAL: [&str; 10] = [
    "cat.png",
    "palette.png",
    "alpha.png",
    "astronaut-420.jpg",
    "astronaut-progressive.jpg",
    "orientation-6.jpg",
    "coffee-lossy.webp",
    "cat-lossless.webp",
    "cat-two-frames.gif",
    "coffee.bmp",
];

fn real(name: &str) -> Vec<u8> {
    std::fs::read(fixture("images").join(name)).unwrap()
}

fn problem(bytes: &[u8]) -> DecodeProblem {
    let error = decode_bytes("upload", bytes, &Limits::default()).unwrap_err();
    assert!(error.to_string().starts_with("image upload: "), "{error}");
    error.problem
}

/// The largest resident size so far, in MiB.
#[cfg(target_os = "linux")]
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Headers that declare far more than their few bytes hold.
fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    // The checksum of the chunk is not reached: the size is read before.
    let mut png = real("cat.png");
    png[16..20].copy_from_slice(&50_000_u32.to_be_bytes());
    png[20..24].copy_from_slice(&50_000_u32.to_be_bytes());

    let mut jpeg = real("astronaut-420.jpg");
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].fill(0xff);

    let mut gif = real("cat-two-frames.gif");
    gif[6..10].fill(0xff);

    let mut bmp = real("coffee.bmp");
    bmp[18..22].copy_from_slice(&50_000_u32.to_le_bytes());
    bmp[22..26].copy_from_slice(&50_000_u32.to_le_bytes());

    // Lossless WebP: 14 bits each for width - 1 and height - 1, after RIFF, chunk header and signature byte.
    let mut webp = real("cat-lossless.webp");
    let start = webp.windows(4).position(|tag| tag == b"VP8L").unwrap() + 9;
    webp[start..start + 3].copy_from_slice(&[0xfe, 0xbf, 0xff]);
    webp[start + 3] |= 0x0f;

    vec![("PNG", png), ("JPEG", jpeg), ("GIF", gif), ("BMP", bmp), ("WebP", webp)]
}

#[test]
fn bombs_are_refused_from_their_headers() {
    #[cfg(target_os = "linux")]
    let before = peak_memory();
    for (format, bytes) in bombs() {
        let found = problem(&bytes);
        assert!(matches!(found, DecodeProblem::TooManyPixels { .. }), "{format}: {found}");
    }
    let side = Limits { max_side: 40_000, ..Limits::default() };
    let error = decode_bytes("wide.png", &bombs()[0].1, &side).unwrap_err().to_string();
    assert_eq!(error, "image wide.png: width in the header is 50000, allowed are 1 to 40000");
    // The smallest bomb would take 768 MiB, the others 7 GiB and more.
    #[cfg(target_os = "linux")]
    assert!(peak_memory() - before < 300, "{} MiB", peak_memory() - before);
}

#[test]
fn limits_hold_to_the_byte_and_the_pixel() {
    let path = fixture("images/icon.png");
    let length = std::fs::metadata(&path).unwrap().len();
    let bytes = |max_bytes| decode_file(&path, &Limits { max_bytes, ..Limits::default() });
    assert!(bytes(length).is_ok());
    let error = bytes(length - 1).unwrap_err().to_string();
    assert!(
        error.contains(&format!("icon.png: has {length} bytes, at most {} are allowed", length - 1)),
        "{error}"
    );
    let pixels = |max_pixels| decode_file(&path, &Limits { max_pixels, ..Limits::default() });
    assert!(pixels(33 * 19).is_ok());
    let error = pixels(33 * 19 - 1).unwrap_err().to_string();
    assert!(error.contains("33 x 19 = 627 pixels, at most 626"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_device_without_end_is_left_alone() {
    let limits = Limits { max_bytes: 1 << 16, ..Limits::default() };
    let error = decode_file(Path::new("/dev/zero"), &limits).unwrap_err();
    assert!(
        matches!(error.problem, DecodeProblem::TooManyBytes { found: 65_537, allowed: 65_536 }),
        "{error}"
    );
    assert!(decode_file(Path::new("/"), &limits).is_err());
}

#[test]
fn truncated_files_are_refused() {
    for name in REAL {
        let whole = real(name);
        // The first of the two GIF frames ends before the middle.
        for cut in (0..24).map(|step| step * whole.len() / 60) {
            assert!(decode_bytes(name, &whole[..cut], &Limits::default()).is_err(), "{name} cut at {cut}");
        }
        if name.ends_with(".jpg") {
            let error =
                decode_bytes(name, &whole[..whole.len() - 2], &Limits::default()).unwrap_err().to_string();
            assert!(error.contains("truncated") && error.contains("FF D9"), "{error}");
        }
    }
}

#[test]
fn a_zip_in_the_clothes_of_a_jpeg_is_refused() {
    let mut zip = b"\xff\xd8\xffPK\x03\x04\x14\0\0\0\x08\0".to_vec();
    zip.extend((0..4000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8));
    for end in [b"PK\x05\x06\0\0".as_slice(), b"\xff\xda\0\x08\x01\x01\0\0\x3f\0\xff\xd9"] {
        let bytes = [zip.as_slice(), end].concat();
        let found = problem(&bytes);
        assert!(matches!(found, DecodeProblem::Header { .. } | DecodeProblem::Body { .. }), "{found}");
    }
}

#[test]
fn a_jpeg_of_endless_scans_is_refused() {
    let whole = real("orientation-1.jpg");
    let scan = whole.windows(2).rposition(|pair| pair == [0xff, 0xda]).unwrap();
    let (head, body) = (&whole[..scan], &whole[scan..whole.len() - 2]);
    let repeated = |times| [head, &body.repeat(times), &[0xff, 0xd9]].concat();
    assert!(decode_bytes("twice", &repeated(2), &Limits::default()).is_ok());
    let found = problem(&repeated(101));
    assert_eq!(found.to_string(), "JPEG pixels: it has more than 100 scans, too many for its size");
    // A scan costs a pass over all pixels, however little of the file it takes: the larger the image, the fewer.
    let frame = whole.windows(2).position(|pair| matches!(pair, [0xff, 0xc0..=0xc2])).unwrap();
    let mut large = repeated(17);
    large[frame + 5..frame + 9].copy_from_slice(&[0x20, 0, 0x20, 0]);
    let found = problem(&large);
    assert_eq!(found.to_string(), "JPEG pixels: it has more than 16 scans, too many for its size");
    let found = problem(&[head, &[0xff, 0xd9]].concat());
    assert!(found.to_string().contains("before the start of the first scan"), "{found}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_bytes_after_a_signature_never_panic(
        signature in prop::sample::select(vec![
            b"\x89PNG\r\n\x1a\n".to_vec(), b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x08\0\0\0\x08".to_vec(),
            b"\xff\xd8\xff".to_vec(), b"\xff\xd8\xff\xe0\0\x02".to_vec(), b"\xff\xd8\xff\xc0\0\x11\x08\0\x10\0\x10\x03".to_vec(),
            b"RIFF\x40\0\0\0WEBPVP8 ".to_vec(), b"RIFF\x40\0\0\0WEBPVP8L\x30\0\0\0\x2f\x07\xc0\x01\0".to_vec(),
            b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0".to_vec(), b"GIF89a\x08\0\x08\0".to_vec(), b"BM".to_vec(), Vec::new(),
        ]),
        tail in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = [signature, tail].concat();
        if let Ok(image) = decode_bytes("random", &bytes, &Limits { max_pixels: 1 << 20, ..Limits::default() }) {
            prop_assert!(image.size().area() <= 1 << 20);
        }
    }

    #[test]
    fn damaged_photographs_never_panic(
        name in prop::sample::select(REAL.to_vec()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..12),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = real(name);
        for (at, value, in_header) in changes {
            // Half of the changes hit the first bytes, where sizes and tables stand.
            let range = if in_header { bytes.len().min(200) } else { bytes.len() };
            bytes[at.index(range)] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(image) = decode_bytes(name, &bytes, &Limits { max_pixels: 1 << 22, ..Limits::default() }) {
            prop_assert!(image.size().area() <= 1 << 22);
        }
    }
}

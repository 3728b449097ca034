//! JPEG as libjpeg-turbo decodes it, bit for bit: Huffman-coded baseline and progressive files with 8-bit samples and one
//! or three components, which is what cameras and the web write.
//!
//! The available crates round twice when they enlarge subsampled chroma, which shifts photographs by up to 6 levels (a
//! quarter of a level on average, always upwards) against Pillow. Everything else (CMYK, arithmetic coding) is left to
//! them: [`decode`] then answers `None`.
//!
//! Source: ITU-T T.81 for the format; the arithmetic of libjpeg's `jidctint.c`, `jdsample.c` and `jdcolor.c`.

mod colour;
mod huffman;
mod idct;
mod scan;

use super::Size;
use super::decode::{Format, Limits};
use super::error::DecodeProblem;
use ::image::RgbImage;
use colour::Colours;
use huffman::Table;
use scan::Scan;

/// Scans of one file. Encoders write about ten; each costs a pass over the whole image, so that a large one may have
/// fewer.
const MAX_SCANS: u64 = 100;
/// What every image may have.
const ALWAYS_SCANS: u64 = 16;
/// Pixels of all passes together, above [`ALWAYS_SCANS`].
const MAX_SCANNED: u64 = 400_000_000;

fn most_scans(size: Size) -> u64 {
    (MAX_SCANNED / (u64::from(size.height) * u64::from(size.width)).max(1)).clamp(ALWAYS_SCANS, MAX_SCANS)
}

pub(super) fn header_problem(reason: impl Into<String>) -> DecodeProblem {
    DecodeProblem::Header { format: Format::Jpeg, reason: reason.into() }
}

pub(super) fn body_problem(reason: impl Into<String>) -> DecodeProblem {
    DecodeProblem::Body { format: Format::Jpeg, reason: reason.into() }
}

/// A colour component: its place in the frame, its coefficients, its quantisation.
struct Component {
    id: u8,
    /// Sampling factors, 1 to 4.
    horizontal: usize,
    vertical: usize,
    quantisation: u8,
    /// Samples that belong to the image.
    width: usize,
    height: usize,
    /// Blocks in memory, whole minimum coded units.
    blocks_across: usize,
    blocks_down: usize,
    /// `blocks_across * blocks_down` blocks of 64, in natural order.
    coefficients: Vec<[i16; 64]>,
    /// The quantisation table in force when its first scan began.
    divisors: Option<[u16; 64]>,
}

/// The frame: what SOF declares.
struct Frame {
    size: Size,
    progressive: bool,
    /// Minimum coded units.
    units_across: usize,
    units_down: usize,
    max_horizontal: usize,
    max_vertical: usize,
    components: Vec<Component>,
}

/// Tables and settings that hold until they are replaced.
#[derive(Default)]
struct State {
    quantisation: [Option<[u16; 64]>; 4],
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
    restart_interval: usize,
    jfif: bool,
    adobe_transform: Option<u8>,
}

/// Position of coefficient k of the zigzag in a block.
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7,
    14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39,
    46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Decodes a file that starts with a JPEG signature; `None` for one that this decoder does not cover.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Option<RgbImage>, DecodeProblem> {
    let mut state = State::default();
    let mut frame: Option<Frame> = None;
    let mut scans = 0_u64;
    let mut at = 2;
    loop {
        let Some(marker) = next_marker(bytes, &mut at) else {
            let reason = "it is truncated, no end-of-image marker (FF D9) follows the last scan";
            return Err(if scans > 0 { body_problem(reason) } else { header_problem(reason) });
        };
        match marker {
            0xd9 => break,
            0x01 | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let payload = segment(bytes, &mut at)?;
        match marker {
            0xc0..=0xc2 => {
                if frame.is_some() {
                    return Err(header_problem("it has a second frame header"));
                }
                frame = match Frame::read(payload, marker == 0xc2, limits)? {
                    Some(frame) => Some(frame),
                    None => return Ok(None),
                };
            }
            // Lossless, hierarchical or arithmetic-coded frames.
            0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => return Ok(None),
            0xc4 => state.read_huffman(payload)?,
            0xdb => state.read_quantisation(payload)?,
            0xdd => match payload {
                [high, low, ..] => state.restart_interval = u16::from_be_bytes([*high, *low]).into(),
                _ => return Err(header_problem("the restart interval is cut off")),
            },
            0xe0 if payload.starts_with(b"JFIF") => state.jfif = true,
            0xee if payload.starts_with(b"Adobe") => state.adobe_transform = payload.get(11).copied(),
            0xda => {
                let Some(frame) = &mut frame else {
                    return Err(header_problem("a scan comes before the frame header"));
                };
                scans += 1;
                let most = most_scans(frame.size);
                if scans > most {
                    return Err(body_problem(format!(
                        "it has more than {most} scans, too many for its size"
                    )));
                }
                let scan = Scan::read(payload, frame)?;
                at += scan.decode(frame, &state, &bytes[at..])?;
            }
            _ => {}
        }
    }
    let Some(frame) = frame.filter(|_| scans > 0) else {
        return Err(header_problem("it ends before the start of the first scan (marker FF DA)"));
    };
    let colours = Colours::of(&frame, &state);
    Ok(colours.render(frame))
}

/// The next marker after `at`, skipping anything that is none; `at` then stands behind it.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        *at += bytes.get(*at..)?.iter().position(|&byte| byte == 0xff)? + 1;
        while *bytes.get(*at)? == 0xff {
            *at += 1;
        }
        let marker = bytes[*at];
        *at += 1;
        if marker != 0 {
            return Some(marker);
        }
    }
}

/// The payload of the segment at `at`; `at` then stands behind it.
fn segment<'a>(bytes: &'a [u8], at: &mut usize) -> Result<&'a [u8], DecodeProblem> {
    let length = bytes.get(*at..*at + 2).map(|pair| usize::from(u16::from_be_bytes([pair[0], pair[1]])));
    let payload = length.filter(|&length| length >= 2).and_then(|length| bytes.get(*at + 2..*at + length));
    let payload = payload.ok_or_else(|| {
        header_problem(match length {
            Some(length) => format!("it ends inside a segment whose length is {length}"),
            None => "it ends inside a segment length".to_owned(),
        })
    })?;
    *at += payload.len() + 2;
    Ok(payload)
}

impl State {
    fn read_quantisation(&mut self, mut payload: &[u8]) -> Result<(), DecodeProblem> {
        while let [kind, rest @ ..] = payload {
            let (wide, slot) = (kind >> 4 != 0, usize::from(kind & 15));
            let length = if wide { 128 } else { 64 };
            let (Some(slot), Some(values)) = (self.quantisation.get_mut(slot), rest.get(..length)) else {
                return Err(header_problem(format!(
                    "quantisation table {slot} is cut off or not one of 0 to 3"
                )));
            };
            let mut table = [0; 64];
            for (k, &position) in ZIGZAG.iter().enumerate() {
                table[usize::from(position)] = if wide {
                    u16::from_be_bytes([values[2 * k], values[2 * k + 1]])
                } else {
                    values[k].into()
                };
            }
            *slot = Some(table);
            payload = &rest[length..];
        }
        Ok(())
    }

    fn read_huffman(&mut self, mut payload: &[u8]) -> Result<(), DecodeProblem> {
        while let [kind, rest @ ..] = payload {
            let tables = if kind >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            let slot = usize::from(kind & 15);
            let cut = || header_problem(format!("Huffman table {slot} is cut off or not one of 0 to 3"));
            let counts: &[u8; 16] = rest.first_chunk().ok_or_else(cut)?;
            let length = counts.iter().map(|&count| usize::from(count)).sum::<usize>();
            let symbols = rest.get(16..16 + length).ok_or_else(cut)?;
            *tables.get_mut(slot).ok_or_else(cut)? = Some(Table::new(counts, symbols)?);
            payload = &rest[16 + length..];
        }
        Ok(())
    }
}

impl Frame {
    fn read(payload: &[u8], progressive: bool, limits: &Limits) -> Result<Option<Frame>, DecodeProblem> {
        let [precision, h1, h0, w1, w0, count, parameters @ ..] = payload else {
            return Err(header_problem("the frame header is cut off"));
        };
        let size = Size {
            height: u16::from_be_bytes([*h1, *h0]).into(),
            width: u16::from_be_bytes([*w1, *w0]).into(),
        };
        limits.check(size)?;
        if *precision != 8 || !matches!(count, 1 | 3) {
            return Ok(None);
        }
        let Some(parameters) = parameters.get(..3 * usize::from(*count)) else {
            return Err(header_problem("the frame header is cut off"));
        };
        let parameters: Vec<_> = parameters.chunks_exact(3).collect();
        let factors = |factor: u8| (usize::from(factor >> 4), usize::from(factor & 15));
        let allowed =
            |factor: u8| (1..=4).contains(&factors(factor).0) && (1..=4).contains(&factors(factor).1);
        if let Some(wrong) = parameters.iter().find(|parameter| !allowed(parameter[1])) {
            return Err(header_problem(format!("the sampling factors {:02x} are not each 1 to 4", wrong[1])));
        }
        let max = |pick: fn((usize, usize)) -> usize| {
            parameters.iter().map(|p| pick(factors(p[1]))).max().unwrap_or(1)
        };
        let (max_horizontal, max_vertical) = (max(|f| f.0), max(|f| f.1));
        let (height, width) = (size.height as usize, size.width as usize);
        let (units_across, units_down) =
            (width.div_ceil(8 * max_horizontal), height.div_ceil(8 * max_vertical));
        let component = |parameter: &&[u8]| {
            let (horizontal, vertical) = factors(parameter[1]);
            let (blocks_across, blocks_down) = (units_across * horizontal, units_down * vertical);
            Component {
                id: parameter[0],
                horizontal,
                vertical,
                quantisation: parameter[2],
                width: (width * horizontal).div_ceil(max_horizontal),
                height: (height * vertical).div_ceil(max_vertical),
                blocks_across,
                blocks_down,
                coefficients: vec![[0; 64]; blocks_across * blocks_down],
                divisors: None,
            }
        };
        let components: Vec<Component> = parameters.iter().map(component).collect();
        let whole = |component: &Component| {
            max_horizontal % component.horizontal == 0 && max_vertical % component.vertical == 0
        };
        if !components.iter().all(whole) {
            return Ok(None);
        }
        Ok(Some(Frame {
            size,
            progressive,
            units_across,
            units_down,
            max_horizontal,
            max_vertical,
            components,
        }))
    }
}

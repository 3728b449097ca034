//! TensorBoard's event files: records of length, checksum, bytes, checksum, each a small protobuf message.
//!
//! Layout from TensorFlow's `record_writer` and `event.proto`: checksums are CRC-32C, turned right by 15 bits plus
//! 0xa282ead8. No crate that is kept up writes them without the whole of protobuf.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crc::{CRC_32_ISCSI, Crc};

use crate::{Result, TrainError};

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
const VERSION: &str = "brain.Event:2";

/// A number at a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    /// Steps done.
    pub step: u64,
    /// What it is.
    pub tag: String,
    /// Its value.
    pub value: f32,
}

/// An event file that is written.
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// A new file in `folder`. TensorBoard forgets what other files there say of steps after `step`: of a run that goes on,
    /// those that it takes again.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn create(folder: &Path, step: u64) -> Result<EventFile> {
        let seconds = now() as u64;
        // Another run may have begun in this very second.
        let name = |nth: u32| folder.join(format!("events.out.tfevents.{seconds:010}.{nth}.foveate"));
        let path = (0..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(0));
        let file = File::create(&path).map_err(TrainError::io(&path))?;
        let mut events = EventFile { path, file };
        events.record(&event(0, |out| bytes(out, 3, VERSION.as_bytes())))?;
        // Status START: TensorBoard drops what it has of this step and later ones.
        events.record(&event(step + 1, |out| bytes(out, 7, &[1 << 3, 1])))?;
        Ok(events)
    }

    /// Writes numbers at a step.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn scalars(&mut self, step: u64, scalars: &[(String, f64)]) -> Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in scalars {
            let mut one = Vec::new();
            bytes(&mut one, 1, tag.as_bytes());
            one.push(2 << 3 | 5);
            one.extend((*value as f32).to_le_bytes());
            bytes(&mut summary, 1, &one);
        }
        self.record(&event(step, |out| bytes(out, 5, &summary)))
    }

    fn record(&mut self, data: &[u8]) -> Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(data.len() + 16);
        record.extend(length);
        record.extend(masked(&length).to_le_bytes());
        record.extend(data);
        record.extend(masked(data).to_le_bytes());
        self.file.write_all(&record).map_err(TrainError::io(&self.path))
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |passed| passed.as_secs_f64())
}

fn masked(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Fields 1 (time, double) and 2 (step, integer), then what `content` adds.
fn event(step: u64, content: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![1 << 3 | 1];
    out.extend(now().to_le_bytes());
    out.push(2 << 3);
    varint(&mut out, step);
    content(&mut out);
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(out: &mut Vec<u8>, field: u8, content: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, content.len() as u64);
    out.extend(content);
}

/// The numbers in an event file. A record that is torn ends the reading without an error: a run may have been killed.
///
/// # Errors
/// [`TrainError::Io`]; [`TrainError::Checkpoint`] for a whole record whose checksum is wrong.
pub fn read_events(path: &Path) -> Result<Vec<Scalar>> {
    let content = std::fs::read(path).map_err(TrainError::io(path))?;
    let mut rest = &content[..];
    let mut scalars = Vec::new();
    let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    while let Some((head, tail)) = rest.split_at_checked(12) {
        let length = u64::from(word(&head[..4])) | u64::from(word(&head[4..8])) << 32;
        let Some((data, tail)) =
            usize::try_from(length).ok().and_then(|length| tail.split_at_checked(length))
        else {
            break;
        };
        let Some((sum, tail)) = tail.split_at_checked(4) else { break };
        if word(&head[8..]) != masked(&head[..8]) || word(sum) != masked(data) {
            return Err(TrainError::checkpoint(path, "a record's checksum is wrong"));
        }
        scalars.extend(decode(data));
        rest = tail;
    }
    Ok(scalars)
}

/// A field of a message.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn fields(mut rest: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut found = Vec::new();
    while let Some((key, tail)) = read_varint(rest) {
        let (field, tail) = match key & 7 {
            0 => match read_varint(tail) {
                Some((number, tail)) => (Field::Number(number), tail),
                None => break,
            },
            1 | 5 => {
                let Some((value, tail)) = tail.split_at_checked(if key & 7 == 1 { 8 } else { 4 }) else {
                    break;
                };
                (Field::Bytes(value), tail)
            }
            2 => {
                let split =
                    read_varint(tail).and_then(|(length, tail)| tail.split_at_checked(length as usize));
                let Some((value, tail)) = split else { break };
                (Field::Bytes(value), tail)
            }
            _ => break,
        };
        found.push((key >> 3, field));
        rest = tail;
    }
    found
}

fn read_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

fn decode(event: &[u8]) -> Vec<Scalar> {
    let event = fields(event);
    let step =
        event.iter().find_map(|field| if let (2, Field::Number(step)) = field { Some(*step) } else { None });
    let step = step.unwrap_or(0);
    let mut scalars = Vec::new();
    for summary in event
        .iter()
        .filter_map(|field| if let (5, Field::Bytes(summary)) = field { Some(summary) } else { None })
    {
        for (_, value) in fields(summary) {
            let Field::Bytes(value) = value else { continue };
            let (mut tag, mut number) = (String::new(), None);
            for field in fields(value) {
                match field {
                    (1, Field::Bytes(text)) => tag = String::from_utf8_lossy(text).into_owned(),
                    (2, Field::Bytes(&[a, b, c, d])) => number = Some(f32::from_le_bytes([a, b, c, d])),
                    _ => {}
                }
            }
            scalars.extend(number.map(|value| Scalar { step, tag, value }));
        }
    }
    scalars
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn checksums_are_tensorflows() {
        // The check value of CRC-32C, and a masked one from a bit-by-bit implementation in Python.
        assert_eq!(CRC.checksum(b"123456789"), 0xe306_9283);
        assert_eq!(masked(&24_u64.to_le_bytes()), 0x224b_7fa3);
    }

    #[test]
    fn what_is_written_is_read_back_and_a_torn_end_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(folder.path(), 300).unwrap();
        events.scalars(301, &[("loss".into(), 2.5), ("rate/tower".into(), 1e-3)]).unwrap();
        events.scalars(70_000, &[("loss".into(), 1.25)]).unwrap();
        let path = events.path.clone();
        let scalar = |step, tag: &str, value| Scalar { step, tag: tag.into(), value };
        let expected =
            [scalar(301, "loss", 2.5), scalar(301, "rate/tower", 1e-3), scalar(70_000, "loss", 1.25)];
        assert_eq!(read_events(&path).unwrap(), expected);

        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        assert_eq!(read_events(&path).unwrap(), expected[..2]);
        let mut wrong = whole.clone();
        wrong[40] ^= 1;
        std::fs::write(&path, &wrong).unwrap();
        assert!(read_events(&path).unwrap_err().to_string().contains("checksum"));
        // A second run in the same second has a file of its own.
        let second = EventFile::create(folder.path(), 0).unwrap();
        assert_ne!(second.path, path);
    }
}

//! The zip archive around a PyTorch checkpoint: where its entries lie in the file.
//!
//! PyTorch writes archives of one kind: nothing compressed, no comment, the directory at the end, zip64 where a file is
//! larger than 4 GiB. Reading that kind alone takes no more memory than the directory has entries, gives places in the
//! mapped file instead of streams, and names the field that is wrong; the zip crate makes room for as many entries as a
//! hostile count promises. Source: PKWARE's APPNOTE, sections 4.3 and 4.5.3.

use std::collections::HashMap;
use std::ops::Range;

use super::super::WeightsError;
use super::super::bytes::Bytes;

const LOCAL_HEADER: &[u8] = b"PK\x03\x04";
const DIRECTORY_HEADER: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const LOCATOR_64: &[u8] = b"PK\x06\x07";
/// A field of 32 bits whose value is in the zip64 one.
const IN_64: u64 = u32::MAX as u64;

/// The places of entries, by name.
pub(super) struct Archive<'a> {
    bytes: &'a Bytes,
    entries: HashMap<&'a str, Range<usize>>,
    /// The folder that all entries lie in.
    root: &'a str,
}

impl<'a> Archive<'a> {
    pub(super) fn read(bytes: &'a Bytes) -> Result<Self, WeightsError> {
        if !bytes.starts_with(LOCAL_HEADER) {
            return Err(no_archive(bytes));
        }
        let Directory { at, count } = Directory::find(bytes)?;
        let mut entries = HashMap::new();
        let mut next = at.start;
        for number in 0..count {
            let record = Record::read(bytes, next..at.end, number)?;
            next = record.end;
            let place = record.content(bytes, at.start)?;
            if entries.insert(record.name, place).is_some() {
                return Err(bytes.malformed(format!("zip entry `{}`", record.name), "is given twice"));
            }
        }
        let pickles = || entries.keys().filter_map(|name| name.strip_suffix("/data.pkl"));
        let mut roots = pickles().filter(|root| !root.contains('/'));
        let (Some(root), None) = (roots.next(), roots.next()) else {
            let reason = format!("{} entries NAME/data.pkl, expected one", pickles().count());
            return Err(bytes.malformed("zip directory", reason));
        };
        let archive = Self { bytes, root, entries };
        match archive.entry("byteorder").map(|at| &bytes[at]) {
            None | Some(b"little") => Ok(archive),
            Some(_) => Err(WeightsError::Unsupported {
                file: bytes.file.clone(),
                field: format!("{root}/byteorder"),
                value: "another order of bytes".to_owned(),
                supported: "`little`".to_owned(),
            }),
        }
    }

    fn entry(&self, name: &str) -> Option<Range<usize>> {
        self.entries.get(format!("{}/{name}", self.root).as_str()).cloned()
    }

    /// The pickle that describes the tensors.
    pub(super) fn pickle(&self) -> Result<Range<usize>, WeightsError> {
        self.entry("data.pkl").ok_or_else(|| self.bytes.malformed("zip directory", "has no data.pkl"))
    }

    /// The bytes of a storage.
    pub(super) fn storage(&self, key: &str) -> Option<Range<usize>> {
        self.entry(&format!("data/{key}"))
    }
}

/// What stands there instead of a zip archive.
fn no_archive(bytes: &Bytes) -> WeightsError {
    // Protocol 2 and a long of ten bytes: the magic number of the older format.
    if bytes.starts_with(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19") {
        return WeightsError::Unsupported {
            file: bytes.file.clone(),
            field: "format".to_owned(),
            value: "torch.save's from before PyTorch 1.6".to_owned(),
            supported: "the zip format; torch.load and torch.save convert it".to_owned(),
        };
    }
    let begins = bytes.get(..bytes.len().min(4)).unwrap_or_default().escape_ascii();
    bytes.malformed("zip archive", format!("begins with `{begins}`, expected `PK\\x03\\x04`"))
}

/// Where the directory is.
struct Directory {
    at: Range<usize>,
    count: u64,
}

impl Directory {
    fn find(bytes: &Bytes) -> Result<Self, WeightsError> {
        let malformed = |reason: String| bytes.malformed("zip end record", reason);
        let end = bytes.len().checked_sub(22).filter(|at| bytes[*at..].starts_with(END));
        let end = end.ok_or_else(|| {
            malformed("is not at the end of the file: it is cut short, or not PyTorch's".to_owned())
        })?;
        let mut count = number::<2>(bytes, end + 10);
        let mut length = number::<4>(bytes, end + 12);
        let mut start = number::<4>(bytes, end + 16);
        let mut limit = end;
        // The larger record stands before a locator, which stands before the end record.
        if let Some(locator) = end.checked_sub(20).filter(|at| bytes[*at..].starts_with(LOCATOR_64)) {
            let record = usize::try_from(number::<8>(bytes, locator + 8)).ok();
            let record = record.filter(|at| {
                let ends = at.checked_add(56).is_some_and(|end| end <= locator);
                ends && bytes[*at..].starts_with(END_64)
            });
            let record = record.ok_or_else(|| malformed("has a locator that leads nowhere".to_owned()))?;
            count = number::<8>(bytes, record + 32);
            length = number::<8>(bytes, record + 40);
            start = number::<8>(bytes, record + 48);
            limit = record;
        }
        let directory = start.checked_add(length).filter(|end| *end <= limit as u64);
        let Some(directory_end) = directory else {
            return Err(malformed(format!(
                "gives the directory {length} bytes from {start}, but it must end before {limit}"
            )));
        };
        Ok(Self { at: start as usize..directory_end as usize, count })
    }
}

/// A record of the directory.
struct Record<'a> {
    name: &'a str,
    size: u64,
    header: u64,
    /// Where the next one is.
    end: usize,
}

impl<'a> Record<'a> {
    fn read(bytes: &'a Bytes, at: Range<usize>, number_of: u64) -> Result<Self, WeightsError> {
        let malformed =
            |reason: String| bytes.malformed(format!("zip directory: record {number_of}"), reason);
        let start = at.start;
        if at.len() < 46 || !bytes[at.clone()].starts_with(DIRECTORY_HEADER) {
            return Err(malformed("is missing".to_owned()));
        }
        let flags = number::<2>(bytes, start + 8);
        let method = number::<2>(bytes, start + 10);
        let packed = number::<4>(bytes, start + 20);
        let mut size = number::<4>(bytes, start + 24);
        let lengths = [28, 30, 32].map(|field| number::<2>(bytes, start + field) as usize);
        let mut header = number::<4>(bytes, start + 42);
        let extra = start + 46 + lengths[0];
        let end = start + 46 + lengths.iter().sum::<usize>();
        if end > at.end {
            return Err(malformed("passes the end of the directory".to_owned()));
        }
        let name = std::str::from_utf8(&bytes[start + 46..extra])
            .map_err(|error| malformed(format!("has a name that is not UTF-8: {error}")))?;
        if method != 0 || flags & 1 != 0 {
            return Err(WeightsError::Unsupported {
                file: bytes.file.clone(),
                field: format!("zip entry `{}`", name.escape_debug()),
                value: format!("compression method {method}, flags {flags:#x}"),
                supported: "entries that are stored as they are".to_owned(),
            });
        }
        // Values that do not fit stand in an extra field, in this order, and only those.
        let mut large = extra_64(bytes, extra..extra + lengths[1]);
        let mut widen = |value: u64| match value {
            IN_64 => {
                let place = large.clone().filter(|place| place.len() >= 8);
                large = place.clone().map(|place| place.start + 8..place.end);
                place.map(|place| number::<8>(bytes, place.start))
            }
            value => Some(value),
        };
        let fields = [widen(size), widen(packed), widen(header)];
        let [Some(wide_size), Some(wide_packed), Some(wide_header)] = fields else {
            return Err(malformed("has no zip64 field for its size or place".to_owned()));
        };
        (size, header) = (wide_size, wide_header);
        if wide_packed != size {
            return Err(malformed(format!("has {wide_packed} bytes stored for {size}")));
        }
        Ok(Self { name, size, header, end })
    }

    /// The entry's bytes, which end before the directory.
    fn content(&self, bytes: &Bytes, limit: usize) -> Result<Range<usize>, WeightsError> {
        let malformed = |reason: String| bytes.malformed(format!("zip entry `{}`", self.name), reason);
        let header = usize::try_from(self.header).ok().filter(|at| {
            let ends = at.checked_add(30).is_some_and(|end| end <= limit);
            ends && bytes[*at..].starts_with(LOCAL_HEADER)
        });
        let Some(header) = header else {
            return Err(malformed(format!("has no local header at {}", self.header)));
        };
        // The extra field here, which aligns the content, is another than that of the directory.
        let skipped = number::<2>(bytes, header + 26) + number::<2>(bytes, header + 28);
        let start = header + 30 + skipped as usize;
        let end = usize::try_from(self.size).ok().and_then(|size| start.checked_add(size));
        match end.filter(|end| *end <= limit) {
            Some(end) => Ok(start..end),
            None => Err(malformed(format!(
                "has {} bytes from {start}, but the directory begins at {limit}",
                self.size
            ))),
        }
    }
}

/// The content of the zip64 extra field among those at `at`.
fn extra_64(bytes: &Bytes, mut at: Range<usize>) -> Option<Range<usize>> {
    while at.len() >= 4 {
        let (kind, length) = (number::<2>(bytes, at.start), number::<2>(bytes, at.start + 2) as usize);
        let content = at.start + 4..at.start + 4 + length;
        if content.end > at.end {
            return None;
        }
        if kind == 1 {
            return Some(content);
        }
        at.start = content.end;
    }
    None
}

/// A number of `N` bytes, lowest first. The caller has seen that they are there.
fn number<const N: usize>(bytes: &Bytes, at: usize) -> u64 {
    bytes[at..at + N].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

//! Huffman codes and the bits of a scan.

use super::super::error::DecodeProblem;
use super::header_problem;

/// Codes up to this length are looked up at once.
const FAST: u32 = 9;

/// A Huffman table, ready to decode.
pub(super) struct Table {
    /// By the next [`FAST`] bits: length and symbol; length 0 for longer codes.
    fast: Vec<(u8, u8)>,
    /// For each length: one past its largest code, left-aligned to 16 bits.
    ends: [u32; 17],
    /// For each length: what to add to a code for its place among the symbols.
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    /// `counts[i]` codes have length i + 1.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Result<Table, DecodeProblem> {
        let mut table = Table {
            fast: vec![(0, 0); 1 << FAST],
            ends: [0; 17],
            offsets: [0; 17],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut place) = (0u32, 0usize);
        for (length, &count) in (1..=16u32).zip(counts) {
            table.offsets[length as usize] = place as i32 - code as i32;
            for _ in 0..count {
                if code >= 1 << length {
                    return Err(header_problem(format!(
                        "a Huffman table has too many codes of {length} bits"
                    )));
                }
                if length <= FAST {
                    let first = (code << (FAST - length)) as usize;
                    table.fast[first..first + (1 << (FAST - length))].fill((length as u8, symbols[place]));
                }
                code += 1;
                place += 1;
            }
            table.ends[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Ok(table)
    }
}

/// The bits of an entropy-coded segment, up to the next marker; zeros after that.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    buffer: u64,
    /// Bits in the buffer, padding included.
    count: u32,
    /// Bits of padding at its end.
    padding: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Bits<'a> {
        Bits { bytes, at: 0, buffer: 0, count: 0, padding: 0 }
    }

    /// Whether more bits were taken than there are.
    pub(super) fn exhausted(&self) -> bool {
        self.padding > self.count
    }

    /// Where the segment ends: at a marker, or at the end of the file.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Goes on behind a restart marker, if one is next.
    pub(super) fn restart(&mut self) -> bool {
        (self.buffer, self.count, self.padding) = (0, 0, 0);
        // Whatever is left of the interval is passed over.
        loop {
            match self.bytes.get(self.at..) {
                Some([0xff, 0xd0..=0xd7, ..]) => {
                    self.at += 2;
                    return true;
                }
                Some([0xff, 0x00 | 0xff, ..]) => self.at += 1,
                Some([0xff, ..] | []) | None => return false,
                Some(_) => self.at += 1,
            }
        }
    }

    fn fill(&mut self) {
        while self.count <= 56 {
            let byte = match self.bytes.get(self.at..) {
                Some([0xff, 0x00, ..]) => {
                    self.at += 2;
                    0xff
                }
                Some([0xff, 0xff, ..]) => {
                    self.at += 1;
                    continue;
                }
                Some([byte, ..]) if *byte != 0xff => {
                    self.at += 1;
                    *byte
                }
                _ => {
                    self.padding += 8;
                    0
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    fn skip(&mut self, length: u32) {
        self.buffer <<= length;
        self.count -= length;
    }

    /// The next `length` bits, at most 16.
    pub(super) fn take(&mut self, length: u32) -> i32 {
        if length == 0 {
            return 0;
        }
        if self.count < length {
            self.fill();
        }
        let value = (self.buffer >> (64 - length)) as i32;
        self.skip(length);
        value
    }

    /// The next bit.
    pub(super) fn flag(&mut self) -> bool {
        self.take(1) == 1
    }

    /// A value of `length` bits whose leading bit tells the sign.
    pub(super) fn signed(&mut self, length: u32) -> i32 {
        let value = self.take(length);
        if length > 0 && value < 1 << (length - 1) { value - (1 << length) + 1 } else { value }
    }

    /// The next symbol; 0 where no code fits, as libjpeg has it.
    pub(super) fn symbol(&mut self, table: &Table) -> u8 {
        if self.count < 16 {
            self.fill();
        }
        let (length, symbol) = table.fast[(self.buffer >> (64 - FAST)) as usize];
        if length > 0 {
            self.skip(length.into());
            return symbol;
        }
        let next = (self.buffer >> 48) as u32;
        for length in FAST + 1..=16 {
            if next < table.ends[length as usize] {
                self.skip(length);
                let place = (next >> (16 - length)) as i32 + table.offsets[length as usize];
                return table.symbols.get(place as usize).copied().unwrap_or(0);
            }
        }
        self.skip(16);
        0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn codes_short_and_long() {
        // One code each of 1, 2, … 12 bits: 0, 10, 110, …
        let mut counts = [0; 16];
        counts[..12].fill(1);
        let table = Table::new(&counts, &[10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21]).unwrap();
        // 0, 10, 111111111110 (12 bits), 5 as three bits, padding.
        let mut bits = Bits::new(&[0b0101_1111, 0b1111_1101, 0b0100_0000]);
        assert_eq!([bits.symbol(&table), bits.symbol(&table), bits.symbol(&table)], [10, 11, 21]);
        assert_eq!(bits.take(3), 0b101);
        assert!(!bits.exhausted());
        bits.take(7);
        assert!(bits.exhausted());
        counts[0] = 3;
        assert!(Table::new(&counts, &[0; 14]).is_err());
    }

    #[test]
    fn stuffing_ends_at_a_marker() {
        let mut bits = Bits::new(&[0xff, 0x00, 0x12, 0xff, 0xd0, 0x34]);
        assert_eq!([bits.take(8), bits.take(8)], [0xff, 0x12]);
        assert!(!bits.exhausted());
        assert_eq!(bits.position(), 3);
        assert!(bits.restart());
        assert_eq!(bits.take(8), 0x34);
        assert_eq!([bits.signed(0), Bits::new(&[0x40]).signed(2), Bits::new(&[0x40]).signed(3)], [0, -2, -5]);
        assert!(!bits.restart());
    }
}

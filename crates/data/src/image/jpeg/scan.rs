//! One scan: coefficients of some components, whole (baseline) or a band and a bit plane of them (progressive).

use super::super::error::DecodeProblem;
use super::huffman::{Bits, Table};
use super::{Component, Frame, State, ZIGZAG, body_problem, header_problem};

/// What SOS declares.
pub(super) struct Scan {
    /// Index of the component, its DC table, its AC table.
    components: Vec<(usize, usize, usize)>,
    /// First and last coefficient of the band.
    start: usize,
    end: usize,
    /// Bit that earlier scans stopped at (0: none came before), and the one this scan reaches.
    high: u32,
    low: u32,
}

impl Scan {
    pub(super) fn read(payload: &[u8], frame: &Frame) -> Result<Scan, DecodeProblem> {
        let cut = || header_problem("a scan header is cut off");
        let (&count, rest) = payload.split_first().ok_or_else(cut)?;
        let selectors = rest.get(..2 * usize::from(count)).ok_or_else(cut)?;
        let [start, end, bits, ..] = rest[selectors.len()..] else { return Err(cut()) };
        let mut components: Vec<(usize, usize, usize)> = Vec::new();
        for selector in selectors.chunks_exact(2) {
            let index = frame.components.iter().position(|component| component.id == selector[0]);
            let index = index.filter(|&index| components.iter().all(|&(other, ..)| other != index));
            let index =
                index.ok_or_else(|| header_problem(format!("a scan names component {}", selector[0])))?;
            components.push((index, usize::from(selector[1] >> 4), usize::from(selector[1] & 15)));
        }
        let mut scan = Scan {
            components,
            start: start.into(),
            end: end.into(),
            high: (bits >> 4).into(),
            low: (bits & 15).into(),
        };
        if !frame.progressive {
            (scan.start, scan.end, scan.high, scan.low) = (0, 63, 0, 0);
        }
        let dc_alone = scan.start == 0 && scan.end == 0;
        let band = scan.start > 0 && scan.start <= scan.end && scan.end < 64 && scan.components.len() == 1;
        let valid = if frame.progressive { dc_alone || band } else { true };
        if scan.components.is_empty() || !valid || scan.low > 13 {
            let Scan { start, end, high, low, .. } = scan;
            return Err(header_problem(format!(
                "a scan of band {start} to {end}, bits {high} to {low} is none"
            )));
        }
        Ok(scan)
    }

    /// Decodes the entropy-coded data at the start of `bytes`; returns how many of them it takes.
    pub(super) fn decode(
        &self,
        frame: &mut Frame,
        state: &State,
        bytes: &[u8],
    ) -> Result<usize, DecodeProblem> {
        for &(index, ..) in &self.components {
            let component = &mut frame.components[index];
            if component.divisors.is_none() {
                let table = state.quantisation.get(usize::from(component.quantisation)).copied().flatten();
                let missing =
                    || header_problem(format!("quantisation table {} is missing", component.quantisation));
                component.divisors = Some(table.ok_or_else(missing)?);
            }
        }
        let mut decoder = Decoder { bits: Bits::new(bytes), end_of_band: 0, predictions: [0; 3] };
        let tables = self.tables(state, frame.progressive)?;

        // A scan of one component holds just its own blocks, row by row; several are interleaved in units.
        let (across, down) = match self.components[..] {
            [(index, ..)] => {
                let component = &frame.components[index];
                (component.width.div_ceil(8), component.height.div_ceil(8))
            }
            _ => (frame.units_across, frame.units_down),
        };
        let mut until_restart = state.restart_interval;
        for unit in 0..across * down {
            if state.restart_interval > 0 {
                if until_restart == 0 {
                    if !decoder.bits.restart() {
                        break;
                    }
                    (decoder.end_of_band, decoder.predictions) = (0, [0; 3]);
                    until_restart = state.restart_interval;
                }
                until_restart -= 1;
            }
            // Where data is missing libjpeg leaves blocks as they are, up to the next restart.
            if decoder.bits.exhausted() {
                if state.restart_interval == 0 {
                    break;
                }
                continue;
            }
            let (row, column) = (unit / across, unit % across);
            if let [(index, ..)] = self.components[..] {
                let component = &mut frame.components[index];
                let block = &mut component.coefficients[row * component.blocks_across + column];
                self.block(&mut decoder, block, 0, tables[0], frame.progressive);
                continue;
            }
            for (place, &(index, ..)) in self.components.iter().enumerate() {
                let Component { horizontal, vertical, blocks_across, .. } = frame.components[index];
                for inner in 0..horizontal * vertical {
                    let at = (row * vertical + inner / horizontal) * blocks_across + column * horizontal;
                    let block = &mut frame.components[index].coefficients[at + inner % horizontal];
                    self.block(&mut decoder, block, place, tables[place], frame.progressive);
                }
            }
        }
        Ok(decoder.bits.position())
    }

    /// DC and AC table of each component, those that the scan needs.
    fn tables<'a>(&self, state: &'a State, progressive: bool) -> Result<Vec<Tables<'a>>, DecodeProblem> {
        let find = |tables: &'a [Option<Table>; 4], slot: usize, needed: bool, kind: &str| {
            let table = tables.get(slot).and_then(Option::as_ref);
            if needed && table.is_none() {
                return Err(body_problem(format!(
                    "a scan uses {kind} Huffman table {slot}, which is missing"
                )));
            }
            Ok(table)
        };
        let dc_needed = self.start == 0 && self.high == 0;
        let ac_needed = !progressive || self.start > 0;
        let pair = |&(_, dc, ac): &(usize, usize, usize)| {
            Ok((find(&state.dc, dc, dc_needed, "DC")?, find(&state.ac, ac, ac_needed, "AC")?))
        };
        self.components.iter().map(pair).collect()
    }

    fn block(
        &self,
        decoder: &mut Decoder<'_>,
        block: &mut [i16; 64],
        place: usize,
        tables: Tables<'_>,
        progressive: bool,
    ) {
        if self.start == 0 {
            match tables.0 {
                Some(table) if self.high == 0 => decoder.dc_first(block, place, table, self.low),
                _ if decoder.bits.flag() => block[0] |= 1 << self.low,
                _ => {}
            }
        }
        if let (Some(table), true) = (tables.1, !progressive || self.start > 0) {
            let band = self.start.max(1)..=self.end;
            match (progressive, self.high) {
                (false, _) => decoder.ac_whole(block, table),
                (true, 0) => decoder.ac_first(block, table, band, self.low),
                (true, _) => decoder.ac_refine(block, table, band, self.low),
            }
        }
    }
}

/// The DC and the AC table of a component.
type Tables<'a> = (Option<&'a Table>, Option<&'a Table>);

struct Decoder<'a> {
    bits: Bits<'a>,
    /// Blocks still to come whose band is empty.
    end_of_band: u32,
    predictions: [i32; 3],
}

impl Decoder<'_> {
    fn dc_first(&mut self, block: &mut [i16; 64], place: usize, table: &Table, low: u32) {
        let length = u32::from(self.bits.symbol(table)).min(16);
        let prediction = &mut self.predictions[place];
        *prediction = prediction.wrapping_add(self.bits.signed(length));
        block[0] = prediction.wrapping_shl(low) as i16;
    }

    fn ac_whole(&mut self, block: &mut [i16; 64], table: &Table) {
        let mut k = 1;
        while k < 64 {
            let symbol = self.bits.symbol(table);
            let (run, length) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if length == 0 {
                if run != 15 {
                    break;
                }
                k += 16;
                continue;
            }
            k += run;
            let value = self.bits.signed(length);
            // A run beyond the block is damage; its value is dropped.
            if let Some(&position) = ZIGZAG.get(k) {
                block[usize::from(position)] = value as i16;
            }
            k += 1;
        }
    }

    fn ac_first(
        &mut self,
        block: &mut [i16; 64],
        table: &Table,
        band: std::ops::RangeInclusive<usize>,
        low: u32,
    ) {
        if self.end_of_band > 0 {
            self.end_of_band -= 1;
            return;
        }
        let mut k = *band.start();
        while k <= *band.end() {
            let symbol = self.bits.symbol(table);
            let (run, length) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if length == 0 {
                if run != 15 {
                    self.end_of_band = (1 << run) - 1 + self.bits.take(run as u32) as u32;
                    break;
                }
                k += 16;
                continue;
            }
            k += run;
            let value = self.bits.signed(length);
            if let Some(&position) = ZIGZAG.get(k) {
                block[usize::from(position)] = value.wrapping_shl(low) as i16;
            }
            k += 1;
        }
    }

    /// Adds a bit to the coefficients that are not zero yet, and places those that become so.
    fn ac_refine(
        &mut self,
        block: &mut [i16; 64],
        table: &Table,
        band: std::ops::RangeInclusive<usize>,
        low: u32,
    ) {
        let step = 1i16 << low;
        let (mut k, end) = (*band.start(), *band.end());
        if self.end_of_band == 0 {
            while k <= end {
                let symbol = self.bits.symbol(table);
                let (mut zeros, length) = (i32::from(symbol >> 4), symbol & 15);
                let mut new = 0;
                if length == 0 {
                    if zeros != 15 {
                        self.end_of_band = (1 << zeros) + self.bits.take(zeros as u32) as u32;
                        break;
                    }
                } else {
                    new = if self.bits.flag() { step } else { -step };
                }
                // Passes over `zeros` coefficients that stay zero, refining the others on the way.
                while k <= end {
                    let coefficient = &mut block[usize::from(ZIGZAG[k])];
                    if *coefficient != 0 {
                        self.refine(coefficient, step);
                    } else {
                        if zeros == 0 {
                            *coefficient = new;
                            break;
                        }
                        zeros -= 1;
                    }
                    k += 1;
                }
                k += 1;
            }
        }
        if self.end_of_band > 0 {
            while k <= end {
                let coefficient = &mut block[usize::from(ZIGZAG[k])];
                if *coefficient != 0 {
                    self.refine(coefficient, step);
                }
                k += 1;
            }
            self.end_of_band -= 1;
        }
    }

    fn refine(&mut self, coefficient: &mut i16, step: i16) {
        if self.bits.flag() && *coefficient & step == 0 {
            *coefficient = coefficient.wrapping_add(if *coefficient >= 0 { step } else { -step });
        }
    }
}

//! Several sequences in one pass: their rows stand behind each other, so that every product reads its weights once for all
//! of them, and each attends to its own cache alone.
//!
//! This is what answers many at once: a step of sixteen answers is one product of sixteen rows for each layer. Since neither
//! the kernels' products nor their attention let a row depend on the rows beside it, a sequence gets the same numbers, to the
//! bit, in whatever company and in whatever pieces it is read.

use candle_core::Tensor;

use super::block::{Pass, Past};
use super::{Decoder, KeyValueCache};
use crate::{ModelError, Result};

/// One sequence's part of a stack.
#[derive(Debug)]
pub struct Stretch<'a> {
    /// How many rows of the stack are its own, at least 1.
    pub rows: usize,
    /// What it has read so far: a cache of one row without padding.
    pub cache: &'a mut KeyValueCache,
}

impl Decoder {
    /// The hidden states after the final norm, `[1, t, d]`, of embedded positions `[1, t, d]`: of each stretch its rows, which
    /// follow those in its cache and are kept there.
    ///
    /// # Errors
    /// [`ModelError::Context`] for a stretch that passes the context together with its cache; rows that are not those of all
    /// stretches together; a cache of several rows or with padding. All caches are then as before.
    pub fn forward_stack(&self, rows: &Tensor, stretches: &mut [Stretch<'_>]) -> Result<Tensor> {
        let mut positions = Vec::new();
        for Stretch { rows, cache } in stretches.iter() {
            if *rows == 0 {
                return Err(ModelError::EmptyInput);
            }
            if cache.padding().positions() != [0] {
                return Err(ModelError::shape(
                    "cache of a stacked sequence",
                    &[1],
                    &[cache.padding().rows()],
                ));
            }
            let (start, end) = (cache.len(), cache.len() + rows);
            self.check_context(end)?;
            positions.extend((start..end).map(|at| at as u32));
        }
        self.check(rows, 1)?;
        let (t, width) = (rows.dim(1)?, self.config.width);
        if t != positions.len() {
            let expected = [1, positions.len(), width];
            return Err(ModelError::shape("rows of stacked sequences", &expected, rows.dims()));
        }
        let rotary = self.rotary.tables(&[positions]);
        let pass = Pass { rotary, past: Past::Stack(stretches) };
        let x = self.through_blocks(rows.clone(), pass, &mut |_| ())?;
        for Stretch { rows, cache } in stretches {
            cache.advance(*rows);
        }
        self.norm.forward(&x)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::Device;

    use super::*;
    use crate::llm::tests::all_kinds;
    use crate::llm::{Input, Padding};

    const TEXTS: [&[u32]; 3] = [&[3, 14, 15, 9, 2, 6, 5], &[8, 9], &[7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4]];

    fn embedded(decoder: &Decoder, ids: &[u32]) -> Tensor {
        decoder.embed(&Tensor::new(ids, &Device::Cpu).unwrap().unsqueeze(0).unwrap()).unwrap()
    }

    fn bits(x: &Tensor) -> Vec<u32> {
        x.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn a_stretch_gets_the_same_bits_as_alone() {
        for decoder in all_kinds() {
            let alone = |ids: &[u32]| {
                let mut cache = decoder.cache(Padding::none(1));
                decoder.forward(Input::Embeddings(&embedded(&decoder, ids)), &mut cache).unwrap()
            };
            let mut caches = TEXTS.map(|_| decoder.cache(Padding::none(1)));
            let mut read = [0; 3];
            // Pieces of different lengths beside each other, and a pass without the second.
            for lengths in [[4, 1, 2], [1, 0, 5], [2, 1, 4]] {
                let mut parts = Vec::new();
                let mut stretches = Vec::new();
                for (at, cache) in caches.iter_mut().enumerate() {
                    if lengths[at] > 0 {
                        parts.push(embedded(&decoder, &TEXTS[at][read[at]..read[at] + lengths[at]]));
                        stretches.push(Stretch { rows: lengths[at], cache });
                    }
                }
                let rows = Tensor::cat(&parts, 1).unwrap();
                let hidden = decoder.forward_stack(&rows, &mut stretches).unwrap();
                let mut first = 0;
                for at in 0..3 {
                    let own = hidden.narrow(1, first, lengths[at]).unwrap();
                    let whole = alone(TEXTS[at]).narrow(1, read[at], lengths[at]).unwrap();
                    assert_eq!(bits(&own), bits(&whole), "sequence {at} from {}", read[at]);
                    first += lengths[at];
                    read[at] += lengths[at];
                }
            }
            assert_eq!(caches.each_ref().map(KeyValueCache::len), TEXTS.map(<[u32]>::len));
        }
    }

    #[test]
    fn a_copy_continues_like_the_original_and_leaves_it_alone() {
        for decoder in all_kinds() {
            let mut cache = decoder.cache(Padding::none(1));
            let text = embedded(&decoder, TEXTS[2]);
            let whole = decoder.forward(Input::Embeddings(&text), &mut cache).unwrap();
            let mut copy = cache.copy(6).unwrap();
            let rest = text.narrow(1, 6, 5).unwrap();
            let other = embedded(&decoder, &[1, 1, 1, 1, 1]);
            let mut second = cache.copy(6).unwrap();
            decoder.forward(Input::Embeddings(&other), &mut second).unwrap();
            let hidden = decoder.forward_stack(&rest, &mut [Stretch { rows: 5, cache: &mut copy }]).unwrap();
            assert_eq!(bits(&hidden), bits(&whole.narrow(1, 6, 5).unwrap()));
            assert_eq!((cache.len(), copy.len()), (11, 11));
        }
    }

    #[test]
    fn what_does_not_fit_leaves_every_cache_as_it_was() {
        let decoder = all_kinds().remove(0);
        let [mut short, mut long] = [1, 2].map(|_| decoder.cache(Padding::none(1)));
        let text = embedded(&decoder, &[1; 31]);
        decoder.forward(Input::Embeddings(&text), &mut long).unwrap();
        let rows = embedded(&decoder, &[1; 3]);
        let mut stretches = [Stretch { rows: 1, cache: &mut short }, Stretch { rows: 2, cache: &mut long }];
        let error = decoder.forward_stack(&rows, &mut stretches).unwrap_err();
        assert!(matches!(error, ModelError::Context { needed: 33, limit: 32 }), "{error}");
        stretches[1].rows = 1;
        let message = decoder.forward_stack(&rows, &mut stretches).unwrap_err().to_string();
        assert!(message.contains("[1, 2, 16]") && message.contains("[1, 3, 16]"), "{message}");
        assert_eq!((short.len(), long.len()), (0, 31));
        let mut padded = decoder.cache(Padding::left(vec![0, 1]));
        assert!(decoder.forward_stack(&rows, &mut [Stretch { rows: 3, cache: &mut padded }]).is_err());
    }
}

//! Tokens to the text that may be shown: whole characters, and nothing of a stop string.

use tokenizers::Tokenizer;

use super::{Scanned, StopStrings, TextStream};
use crate::Result;

/// What an answer's tokens say, piece by piece.
#[derive(Debug)]
pub struct Writer<'a> {
    stream: TextStream<'a>,
    stops: StopStrings,
}

impl<'a> Writer<'a> {
    /// A writer that ends at the first of `stops`.
    ///
    /// # Errors
    /// [`ModelError::Option`](crate::ModelError::Option) for an empty stop string.
    pub fn new(tokenizer: &'a Tokenizer, stops: Vec<String>) -> Result<Self> {
        Ok(Self { stream: TextStream::new(tokenizer), stops: StopStrings::new(stops)? })
    }

    /// Adds a token and returns the text that is certain now.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`](crate::ModelError::Tokenizer) when the tokenizer cannot decode.
    pub fn push(&mut self, token: u32) -> Result<Scanned> {
        Ok(self.stops.push(&self.stream.push(token)?))
    }

    /// The rest, when no token follows. An unfinished character may complete a stop string only now.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(&mut self) -> Result<Scanned> {
        let Scanned { mut text, stop } = self.stops.push(&self.stream.finish()?);
        if stop.is_none() {
            text += &self.stops.finish();
        }
        Ok(Scanned { text, stop })
    }
}

//! SentencePiece BPE as a `tokenizers` pipeline: spaces become `▁`, characters without a token become byte tokens, and
//! merges are rebuilt from scores.

use std::collections::HashMap;

use tokenizers::Tokenizer;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;

use super::{Kind, merges};

/// How SentencePiece writes a space.
const SPACE: char = '\u{2581}';

/// A vocabulary in the order of its ids.
pub(in super::super) struct Pieces<'a> {
    pub(in super::super) tokens: &'a [&'a str],
    pub(in super::super) kinds: &'a [Kind],
    /// None is NaN.
    pub(in super::super) scores: &'a [f64],
    pub(in super::super) index_of: &'a HashMap<&'a str, usize>,
}

/// Where a space is put before text, so that a word is one token at the beginning as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Prefix {
    /// Nowhere.
    Never,
    /// At the beginning and behind each special token: what transformers calls `legacy`, and what llama.cpp does.
    EachStretch,
    /// At the beginning, unless a special token stands there.
    First,
}

impl Pieces<'_> {
    /// The pipeline, without special tokens. `more` are tokens beyond the pieces, with their ids.
    pub(in super::super) fn pipeline(
        &self,
        prefix: Prefix,
        more: impl Iterator<Item = (String, u32)>,
    ) -> tokenizers::Result<Tokenizer> {
        let normal = (0..self.tokens.len()).filter(|index| self.kinds[*index] == Kind::Normal);
        let normal = normal.map(|index| (index, self.scores[index]));
        let merges = merges::from_scores(self.tokens, self.index_of, normal);
        // The caller has seen that ids are 32 bits.
        let own = self.tokens.iter().enumerate().map(|(index, token)| ((*token).to_owned(), index as u32));
        let ids: Vocab = own.chain(more).collect();
        let mut model = BPE::builder().vocab_and_merges(ids, merges).byte_fallback(true).fuse_unk(true);
        if let Some(unknown) = self.kinds.iter().position(|kind| *kind == Kind::Unknown) {
            model = model.unk_token(self.tokens[unknown].to_owned());
        }
        let mut tokenizer = Tokenizer::new(model.build()?);

        let space = SPACE.to_string();
        let mut normalizers = Vec::new();
        match prefix {
            // Metaspace leaves a text alone that starts with a space; `LlamaTokenizer` adds another. Here spaces are written
            // as `▁` before it looks, so that it always puts one, which its second half then writes alike.
            Prefix::First => {
                let spaces = [(' ', PrependScheme::First), (SPACE, PrependScheme::Never)];
                let spaces = spaces.map(|(space, scheme)| Metaspace::new(space, scheme, false).into());
                tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(spaces.into())));
            }
            Prefix::EachStretch => normalizers.push(Prepend::new(space.clone()).into()),
            Prefix::Never => {}
        }
        normalizers.push(Replace::new(" ", space.as_str())?.into());
        tokenizer.with_normalizer(Some(Normalizers::new(normalizers)))?;
        let mut decoders =
            vec![Replace::new(space, " ")?.into(), ByteFallback::default().into(), Fuse::default().into()];
        if prefix != Prefix::Never {
            decoders.push(Strip::new(' ', 1, 0).into());
        }
        tokenizer.with_decoder(Some(Decoders::new(decoders)));
        Ok(tokenizer)
    }
}

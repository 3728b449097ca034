//! A small tokenizer of our own: byte pairs learnt from what the training data asks and answers.
//!
//! Its base are the 256 bytes, so that it can write anything. Digits stand alone, and merges never cross a space; words
//! that are rare in the data stay letters, which is what reading unseen words needs. The same recipe gives the same file.

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, DecoderWrapper, PreTokenizerWrapper, Tokenizer};
use tokenizers::{Model, ModelWrapper, Trainer};

use crate::recipe::{Recipe, TokenizerShape};
use crate::{Result, TrainError};

/// Ends an answer; also fills up batches.
pub const END_TOKEN: &str = "<|end|>";
/// The place of an image.
pub const IMAGE_TOKEN: &str = "<image>";
/// Opens what the person says.
pub const USER_TOKEN: &str = "<|user|>";
/// Opens what the model says.
pub const ASSISTANT_TOKEN: &str = "<|assistant|>";

/// Their ids are 0 to 3.
const SPECIAL: [&str; 4] = [END_TOKEN, IMAGE_TOKEN, USER_TOKEN, ASSISTANT_TOKEN];

/// Learns from the first samples of every dataset that a stage trains on, in the order of their names.
///
/// # Errors
/// A dataset that cannot be opened.
pub fn train(recipe: &Recipe, shape: TokenizerShape) -> Result<Tokenizer> {
    let mut texts = Vec::new();
    for (name, data) in &recipe.data {
        if !recipe.trains_on(name) {
            continue;
        }
        let source = data.open(recipe.questions)?;
        for index in 0..source.len().min(shape.samples) {
            // A broken sample has no words to learn from; training will count it.
            let Ok(sample) = source.sample(index) else { continue };
            for question in sample.questions {
                texts.extend([question.text, question.answer]);
            }
        }
    }
    from_texts(&texts, shape.vocabulary)
}

/// Learns from texts.
///
/// # Errors
/// [`TrainError::Tokenizer`], which no input is known to cause.
pub fn from_texts(texts: &[String], vocabulary: usize) -> Result<Tokenizer> {
    let failed = |error: tokenizers::Error| TrainError::Tokenizer(error.to_string());
    let special: Vec<AddedToken> = SPECIAL.iter().map(|token| AddedToken::from(*token, true)).collect();
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocabulary)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(special.clone())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let pre: PreTokenizerWrapper = Sequence::new(vec![
        Digits::new(true).into(),
        // No space is put in front: an answer follows a special token.
        ByteLevel::new(false, true, true).into(),
    ])
    .into();
    // By hand and not by `train_from_files`: texts are here, and their order is ours.
    let split = |text: &str| -> std::result::Result<Vec<String>, tokenizers::Error> {
        use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};
        let mut pieces = PreTokenizedString::from(text);
        pre.pre_tokenize(&mut pieces)?;
        let pieces = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
        Ok(pieces.into_iter().map(|(piece, _, _)| piece.to_owned()).collect())
    };
    trainer.feed(texts.iter(), |text| split(text)).map_err(failed)?;
    let mut model = BPE::default();
    trainer.train(&mut model).map_err(failed)?;
    debug_assert!(model.get_vocab_size() <= vocabulary);
    let mut tokenizer = Tokenizer::new(ModelWrapper::from(model));
    tokenizer.with_pre_tokenizer(Some(pre));
    tokenizer.with_decoder(Some(DecoderWrapper::from(ByteLevel::default())));
    tokenizer.add_special_tokens(special).map_err(failed)?;
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn texts() -> Vec<String> {
        let words = [
            "how many red circles are there?",
            "is the star left of the ring?",
            "the total is 12.50",
            "yes",
            "blue",
        ];
        (0..60).map(|at| format!("{} {}", words[at % 5], words[at * 7 % 5])).collect()
    }

    #[test]
    fn the_same_texts_give_the_same_file() {
        let file = |texts: &[String]| from_texts(texts, 320).unwrap().to_string(false).unwrap();
        let first = file(&texts());
        for _ in 0..4 {
            assert_eq!(first, file(&texts()));
        }
        // Counts decide, not the order in which they were met.
        let backwards: Vec<String> = texts().into_iter().rev().collect();
        assert_eq!(first, file(&backwards));
    }

    #[test]
    fn it_writes_anything_back_and_keeps_digits_and_special_tokens_apart() {
        let tokenizer = from_texts(&texts(), 320).unwrap();
        // Fewer merges than asked for, where the texts have no more pairs that occur twice.
        assert!((280..=320).contains(&tokenizer.get_vocab_size(true)), "{}", tokenizer.get_vocab_size(true));
        for text in ["how many stars?", "Zürich, 3 €", "ABC-42\n", "日本"] {
            let ids = tokenizer.encode(text, false).unwrap().get_ids().to_vec();
            assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
        }
        let ids = tokenizer.encode("<|user|><image>12<|end|>", false).unwrap().get_ids().to_vec();
        assert_eq!(ids.len(), 5, "{ids:?}");
        assert_eq!((ids[0], ids[1], ids[4]), (2, 1, 0));
        let common = tokenizer.encode("many", false).unwrap();
        assert!(common.len() < 4, "a frequent word is no list of letters: {:?}", common.get_tokens());
    }
}

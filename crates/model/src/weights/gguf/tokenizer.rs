//! The tokenizer of a GGUF file, rebuilt as a `tokenizers` pipeline that gives the same ids as the model's own
//! `tokenizer.json`.
//!
//! `tokenizer.ggml.model` is `gpt2` for byte-level BPE, where `tokenizer.ggml.pre` names the rule that splits text before
//! merging, or `llama` for SentencePiece BPE with byte fallback.

use std::collections::{BTreeMap, HashMap};

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use super::super::WeightsError;
use super::super::tokens::{Kind, Pieces, Prefix, framing};
use super::metadata::{Metadata, shorten};

/// A tokenizer with the ids and the template that go with it.
pub struct GgufTokenizer {
    /// The pipeline. `encode(text, true)` adds [`GgufTokenizer::beginning`] where the model wants it.
    pub tokenizer: Tokenizer,
    /// Beginning of sequence.
    pub beginning: Option<u32>,
    /// Whether a prompt starts with [`GgufTokenizer::beginning`].
    pub add_beginning: bool,
    /// End of sequence: generation stops here.
    pub end: Option<u32>,
    /// End of a turn, the first of [`GgufFile::ends_of_turn`](super::GgufFile::ends_of_turn): generation stops here, too.
    pub end_of_turn: Option<u32>,
    /// Padding.
    pub padding: Option<u32>,
    /// The chat template, in Jinja.
    pub chat_template: Option<String>,
}

impl GgufTokenizer {
    /// The special tokens that a chat template may write, by the names that it has for them.
    pub fn special_tokens(&self) -> BTreeMap<String, String> {
        let named = [("bos_token", self.beginning), ("eos_token", self.end), ("pad_token", self.padding)];
        let text =
            |(name, id): (&str, Option<u32>)| Some((name.to_owned(), self.tokenizer.id_to_token(id?)?));
        named.into_iter().filter_map(text).collect()
    }
}

/// How text is split before byte-level merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PreTokenizer {
    /// GPT-2's pattern.
    Gpt2,
    /// Each digit by itself, then GPT-2's pattern.
    SmolLm,
    /// Llama 3's pattern: up to three digits together.
    Llama3,
    /// Qwen2's pattern: Llama 3's with single digits.
    Qwen2,
}

impl PreTokenizer {
    const SUPPORTED: &'static str = "`gpt-2`, `smollm`, `llama-bpe`, `qwen2`";

    /// The names that llama.cpp's converter gives. Files from before the key existed are split as GPT-2 does.
    fn named(name: &str) -> Option<Self> {
        match name {
            "default" | "gpt-2" => Some(Self::Gpt2),
            "smollm" => Some(Self::SmolLm),
            "llama-bpe" | "llama3" | "llama-v3" => Some(Self::Llama3),
            "qwen2" | "deepseek-r1-qwen" => Some(Self::Qwen2),
            _ => None,
        }
    }

    /// The pattern of Llama 3 and Qwen2, which differ in how many digits they keep together.
    fn pattern(digits: &str) -> String {
        [
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
            r"[^\r\n\p{L}\p{N}]?\p{L}+",
            digits,
            r" ?[^\s\p{L}\p{N}]+[\r\n]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        ]
        .join("|")
    }

    fn build(self) -> tokenizers::Result<PreTokenizers> {
        let split = |digits| {
            let pattern = SplitPattern::Regex(Self::pattern(digits));
            Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
        };
        let byte_level = |pattern| ByteLevel::new(false, true, pattern);
        Ok(PreTokenizers::new(match self {
            Self::Gpt2 => vec![byte_level(true).into()],
            Self::SmolLm => vec![Digits::new(true).into(), byte_level(true).into()],
            Self::Llama3 => vec![split(r"\p{N}{1,3}")?.into(), byte_level(false).into()],
            Self::Qwen2 => vec![split(r"\p{N}")?.into(), byte_level(false).into()],
        }))
    }
}

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";
const PRE: &str = "tokenizer.ggml.pre";
const END_OF_TURN: &str = "tokenizer.ggml.eot_token_id";
/// How tokens that end a turn are written: Llama 3, ChatML (Qwen2, SmolLM2), Phi-3, Gemma, OpenChat, Llama 3's tool calls.
const TURN_ENDS: [&str; 7] =
    ["<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|end_of_turn|>", "<|eom_id|>", "<EOT>"];

/// The vocabulary of the file, checked.
struct Vocabulary<'a> {
    metadata: &'a Metadata,
    tokens: Vec<&'a str>,
    types: Vec<Kind>,
    index_of: HashMap<&'a str, usize>,
}

impl GgufTokenizer {
    pub(super) fn read(metadata: &Metadata) -> Result<Self, WeightsError> {
        const MODEL: &str = "tokenizer.ggml.model";
        let vocabulary = Vocabulary::read(metadata)?;
        let model: &str = metadata.require(MODEL)?;
        let (mut tokenizer, add_beginning_by_default) = match model {
            "gpt2" => vocabulary.byte_level()?,
            "llama" => (vocabulary.sentence_piece()?, true),
            other => return Err(metadata.unsupported(MODEL, other, "`gpt2`, `llama`")),
        };
        vocabulary.add_special_tokens(&mut tokenizer)?;
        let flag = |key, default| Ok(metadata.get::<bool>(key)?.unwrap_or(default));
        let beginning = vocabulary.id("tokenizer.ggml.bos_token_id")?;
        let end = vocabulary.id("tokenizer.ggml.eos_token_id")?;
        let add_beginning =
            beginning.is_some() && flag("tokenizer.ggml.add_bos_token", add_beginning_by_default)?;
        let add_end = flag("tokenizer.ggml.add_eos_token", false)?;
        vocabulary.add_template(
            &mut tokenizer,
            beginning.filter(|_| add_beginning),
            end.filter(|_| add_end),
        )?;
        Ok(Self {
            tokenizer,
            beginning,
            add_beginning,
            end,
            end_of_turn: match vocabulary.id(END_OF_TURN)? {
                Some(id) => Some(id),
                None => ends_of_turn(metadata)?.first().copied(),
            },
            padding: vocabulary.id("tokenizer.ggml.padding_token_id")?,
            chat_template: metadata.get::<&str>("tokenizer.chat_template")?.map(str::to_owned),
        })
    }
}

/// The tokens that end a turn: the one that the metadata names, else those that read so. Published Phi-3 files name none,
/// and their end of text, `<|endoftext|>`, never comes in a conversation; llama.cpp looks for the texts as well.
pub(super) fn ends_of_turn(metadata: &Metadata) -> Result<Vec<u32>, WeightsError> {
    if let Some(id) = metadata.get::<u64>(END_OF_TURN)? {
        return Ok(u32::try_from(id).into_iter().collect());
    }
    let (Some(tokens), Some(types)) = (metadata.get::<Vec<&str>>(TOKENS)?, metadata.get::<Vec<i64>>(TYPES)?)
    else {
        return Ok(Vec::new());
    };
    // Written by the model as one token, and not as text that happens to read so.
    let marked = |kind: i64| matches!(token_type(metadata, kind), Ok(Kind::Control | Kind::UserDefined));
    let found = tokens.iter().zip(types).enumerate();
    let found = found.filter(|(_, (token, kind))| TURN_ENDS.contains(token) && marked(*kind));
    Ok(found.filter_map(|(id, _)| u32::try_from(id).ok()).collect())
}

impl<'a> Vocabulary<'a> {
    fn read(metadata: &'a Metadata) -> Result<Self, WeightsError> {
        let tokens: Vec<&str> = metadata.require(TOKENS)?;
        if tokens.is_empty() || u32::try_from(tokens.len()).is_err() {
            return Err(
                metadata.invalid(TOKENS, format!("has {} tokens, expected 1 to 2^32 - 1", tokens.len()))
            );
        }
        let types = match metadata.get::<Vec<i64>>(TYPES)? {
            None => vec![Kind::Normal; tokens.len()],
            Some(types) => {
                same_length(metadata, TYPES, types.len(), tokens.len())?;
                types.into_iter().map(|number| token_type(metadata, number)).collect::<Result<_, _>>()?
            }
        };
        let mut index_of = HashMap::with_capacity(tokens.len());
        for (index, token) in tokens.iter().enumerate() {
            if let Some(first) = index_of.insert(*token, index) {
                let reason = format!("has `{}` as token {first} and again as {index}", shorten(token));
                return Err(metadata.invalid(TOKENS, reason));
            }
        }
        Ok(Self { metadata, tokens, types, index_of })
    }

    /// Byte-level BPE, and whether a beginning token is added unless the file says otherwise.
    fn byte_level(&self) -> Result<(Tokenizer, bool), WeightsError> {
        let name = self.metadata.get::<&str>(PRE)?.unwrap_or("default");
        let pre_tokenizer = PreTokenizer::named(name)
            .ok_or_else(|| self.metadata.unsupported(PRE, name, PreTokenizer::SUPPORTED))?;
        let llama3 = pre_tokenizer == PreTokenizer::Llama3;
        let model = BPE::builder()
            .vocab_and_merges(self.ids(), self.stored_merges()?)
            .ignore_merges(llama3)
            .build()
            .map_err(|error| self.metadata.invalid(MERGES, error.to_string()))?;
        let mut tokenizer = Tokenizer::new(model);
        tokenizer.with_pre_tokenizer(Some(pre_tokenizer.build().map_err(|error| self.broken(&error))?));
        tokenizer.with_decoder(Some(ByteLevel::new(true, true, true)));
        if pre_tokenizer == PreTokenizer::Qwen2 {
            tokenizer.with_normalizer(Some(NFC)).map_err(|error| self.broken(&error))?;
        }
        Ok((tokenizer, llama3))
    }

    /// SentencePiece BPE, with merges from scores.
    fn sentence_piece(&self) -> Result<Tokenizer, WeightsError> {
        const ADD_SPACE: &str = "tokenizer.ggml.add_space_prefix";
        let scores: Vec<f64> = self.metadata.require(SCORES)?;
        same_length(self.metadata, SCORES, scores.len(), self.tokens.len())?;
        if let Some(index) = scores.iter().position(|score| score.is_nan()) {
            return Err(self.metadata.invalid(SCORES, format!("is not a number for token {index}")));
        }
        let prefix = match self.metadata.get::<bool>(ADD_SPACE)? {
            None | Some(true) => Prefix::EachStretch,
            Some(false) => Prefix::Never,
        };
        let pieces =
            Pieces { tokens: &self.tokens, kinds: &self.types, scores: &scores, index_of: &self.index_of };
        let pipeline = pieces.pipeline(prefix, std::iter::empty());
        pipeline.map_err(|error| self.metadata.invalid(SCORES, error.to_string()))
    }

    /// Control tokens are found in text before anything else and left out of decoded text; user-defined ones are only
    /// found first.
    fn add_special_tokens(&self, tokenizer: &mut Tokenizer) -> Result<(), WeightsError> {
        // As in llama.cpp: Phi-3 swallows the white space after its turn markers.
        let strips = self.metadata.get::<&str>("general.architecture")? == Some("phi3");
        let keeps_space = |token: &str| matches!(token, "<unk>" | "<s>" | "<|endoftext|>");
        let mut added = Vec::new();
        for (token, kind) in self.tokens.iter().zip(&self.types) {
            let special = matches!(kind, Kind::Control | Kind::Unknown);
            if !token.is_empty() && (special || *kind == Kind::UserDefined) {
                let rstrip = strips && special && !keeps_space(token);
                added.push(AddedToken::from(*token, special).normalized(false).rstrip(rstrip));
            }
        }
        tokenizer.add_tokens(added).map(|_| ()).map_err(|error| self.broken(&error))
    }

    /// Post-processing: the beginning and end tokens.
    fn add_template(
        &self,
        tokenizer: &mut Tokenizer,
        beginning: Option<u32>,
        end: Option<u32>,
    ) -> Result<(), WeightsError> {
        let named = |id: Option<u32>| id.map(|id| (id, self.tokens[id as usize].to_owned()));
        let frame = framing(named(beginning), named(end));
        tokenizer.with_post_processor(frame.map_err(|error| self.broken(&error))?);
        Ok(())
    }

    fn ids(&self) -> Vocab {
        // In range: `read` checked the count.
        self.tokens.iter().enumerate().map(|(index, token)| ((*token).to_owned(), index as u32)).collect()
    }

    /// `tokenizer.ggml.merges`, checked: the model's builder takes for granted that the parts and the whole are tokens.
    fn stored_merges(&self) -> Result<Vec<(String, String)>, WeightsError> {
        let lines: Vec<&str> = self.metadata.require(MERGES)?;
        let mut merges = Vec::with_capacity(lines.len());
        let mut whole = String::new();
        for (index, line) in lines.into_iter().enumerate() {
            let invalid = |reason: String| {
                self.metadata.invalid(MERGES, format!("line {index} is `{}`: {reason}", shorten(line)))
            };
            // A part may itself be a space only at the start.
            let space = line.char_indices().skip(1).find(|(_, character)| *character == ' ');
            let (left, right) = space
                .map(|(at, _)| (&line[..at], &line[at + 1..]))
                .ok_or_else(|| invalid("expected two tokens with a space between".to_owned()))?;
            whole.clear();
            whole.extend([left, right]);
            for token in [left, right, whole.as_str()] {
                if !self.index_of.contains_key(token) {
                    return Err(invalid(format!("`{}` is not a token", shorten(token))));
                }
            }
            merges.push((left.to_owned(), right.to_owned()));
        }
        Ok(merges)
    }

    /// A token id from the metadata.
    fn id(&self, key: &str) -> Result<Option<u32>, WeightsError> {
        let Some(id) = self.metadata.get::<u64>(key)? else { return Ok(None) };
        match u32::try_from(id).ok().filter(|id| (*id as usize) < self.tokens.len()) {
            Some(id) => Ok(Some(id)),
            None => {
                let reason = format!("is {id}, but there are {} tokens", self.tokens.len());
                Err(self.metadata.invalid(key, reason))
            }
        }
    }

    fn broken(&self, error: &tokenizers::Error) -> WeightsError {
        self.metadata.invalid("tokenizer.ggml.model", error.to_string())
    }
}

fn token_type(metadata: &Metadata, number: i64) -> Result<Kind, WeightsError> {
    // 0 is "undefined"; converters of old wrote it for ordinary tokens.
    let kind = u64::try_from(number).ok().and_then(|number| Kind::numbered(number.max(1)));
    kind.ok_or_else(|| metadata.invalid(TYPES, format!("has type {number}, expected 0 to 6")))
}

fn same_length(metadata: &Metadata, key: &str, found: usize, expected: usize) -> Result<(), WeightsError> {
    if found == expected {
        return Ok(());
    }
    Err(metadata.invalid(key, format!("has {found} entries for {expected} tokens")))
}

//! Images to rows with caches between the stages: what a conversation, a batch and a server have in common.
//!
//! | cache | key | value |
//! |---|---|---|
//! | towers | pixels, tower, dtype, the states and block that the compressor reads | what the tower gave |
//! | tokens | that, the compressor, V, the question where the compressor reads it | rows as the language model reads them |
//! | questions | language model, question | the question's vector |
//!
//! The key of the pixels is a digest of the *normalised* ones: it stands for the picture and its preprocessing at once.
//! Models are told apart by the load that they come from, so that several can share [`Caches`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{DType, Tensor};
use foveate_compress::{Budget, CompressError, Compressed, Method};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Image, Seen, Vlm};
use crate::Result;
use crate::cache::{ByteCache, CacheStatistics};

/// The caches, shared by viewers and threads.
#[derive(Debug)]
pub struct Caches {
    towers: ByteCache<TowerKey, Arc<Seen>>,
    tokens: ByteCache<TokenKey, Arc<Tokens>>,
    questions: ByteCache<QuestionKey, Tensor>,
}

/// What the three caches did and hold.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CachesStatistics {
    /// What the tower gave.
    pub towers: CacheStatistics,
    /// Compressed and projected tokens.
    pub tokens: CacheStatistics,
    /// Question vectors.
    pub questions: CacheStatistics,
}

impl Caches {
    /// Caches that hold at most so many bytes: of tower features, of visual tokens, of question vectors. 0 keeps nothing.
    pub fn new(towers: usize, tokens: usize, questions: usize) -> Self {
        Self {
            towers: ByteCache::new(towers),
            tokens: ByteCache::new(tokens),
            questions: ByteCache::new(questions),
        }
    }

    /// What they did and hold.
    pub fn statistics(&self) -> CachesStatistics {
        CachesStatistics {
            towers: self.towers.statistics(),
            tokens: self.tokens.statistics(),
            questions: self.questions.statistics(),
        }
    }
}

impl Default for Caches {
    /// 512 MiB of tower features (some 200 images for plain CLIP-L, 50 for QueCC), 128 MiB of tokens, 16 MiB of questions.
    fn default() -> Self {
        Self::new(512 << 20, 128 << 20, 16 << 20)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct TowerKey {
    pixels: [u8; 32],
    model: u64,
    dtype: DType,
    /// Resolved states, whether the class token is read, the block.
    states: Vec<usize>,
    class_token: bool,
    block: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct TokenKey {
    tower: TowerKey,
    method: Method,
    budget: Budget,
    /// How tiles are arranged, and with which rows cut off.
    tiling: Option<super::Tiling>,
    question: Option<Vec<u32>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct QuestionKey {
    model: u64,
    tokens: Vec<u32>,
}

#[derive(Debug)]
struct Tokens {
    rows: Tensor,
    counts: Vec<usize>,
    kept: Option<Vec<Vec<Option<usize>>>>,
}

/// One number for each stage between pixels and language model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PerStage<T> {
    /// The tower.
    pub tower: T,
    /// The pass over the question, for a compressor that reads it.
    pub query: T,
    /// The compressor.
    pub compress: T,
    /// The projector, where the compressor does not include one.
    pub project: T,
}

/// What the language model reads in place of an image, and what it took.
#[derive(Clone, Debug)]
pub struct View {
    /// `[positions, D]`
    pub rows: Tensor,
    /// Visual tokens of each picture: of the image, or of its overview and each tile.
    pub visual_tokens: Vec<usize>,
    /// For methods that select, the patch behind each token of each picture.
    pub kept: Option<Vec<Vec<Option<usize>>>>,
    /// Time of each stage; nearly nothing for one whose result was in a cache.
    pub times: PerStage<Duration>,
    /// FLOPs of each stage that ran, as `law::cost` counts them.
    pub flops: PerStage<f64>,
    /// Stages whose result was in a cache, or that were not needed because a later one's was.
    pub cached: PerStage<bool>,
}

/// The vector of a question, and what it took.
#[derive(Clone, Debug)]
pub struct AskedVector {
    /// `[1, D]`
    pub vector: Tensor,
    /// Nearly nothing where it was in the cache.
    pub time: Duration,
    /// 0 where it was in the cache.
    pub flops: f64,
    /// Whether it was in the cache.
    pub cached: bool,
}

/// Where the tokens of an image look.
#[derive(Clone, Debug)]
pub struct Gaze {
    /// For each picture (the image, or its overview and each tile) `[V, patches]`, as [`Vlm::look`] has it.
    pub weights: Vec<Tensor>,
    /// For methods that select, the patch behind each token of each picture.
    pub kept: Option<Vec<Vec<Option<usize>>>>,
}

/// A model with caches.
#[derive(Clone, Debug)]
pub struct Viewer {
    vlm: Vlm,
    caches: Arc<Caches>,
}

impl Viewer {
    /// The model with these caches.
    pub fn new(vlm: Vlm, caches: Arc<Caches>) -> Self {
        Self { vlm, caches }
    }

    /// The model.
    pub fn vlm(&self) -> &Vlm {
        &self.vlm
    }

    /// The caches.
    pub fn caches(&self) -> &Arc<Caches> {
        &self.caches
    }

    /// The same model and caches with another compressor.
    ///
    /// # Errors
    /// As [`Vlm::with_compressor`].
    pub fn with_compressor(&self, method: Method) -> Result<Self> {
        Ok(Self { vlm: self.vlm.clone().with_compressor(method)?, caches: self.caches.clone() })
    }

    /// The rows of an image at a budget. `question` is the question's tokens, as [`Vlm::question_vector`] wants them; they
    /// are not looked at by compressors that do not read the question.
    ///
    /// # Errors
    /// As [`Vlm::check`] before anything runs; a question that is needed and absent; errors of the stages.
    pub fn view(&self, image: &Image, question: Option<&[u32]>, budget: Budget) -> Result<View> {
        let vlm = &self.vlm;
        vlm.check(image, budget)?;
        let question = self.read_question(question)?;
        let started = Instant::now();
        let tower = self.tower_key(image)?;
        let key = TokenKey {
            method: vlm.compressor().method(),
            budget,
            tiling: match image {
                Image::Single(_) => None,
                Image::Tiled { tiling, .. } => Some(*tiling),
            },
            question: question.map(<[u32]>::to_vec),
            tower: tower.clone(),
        };
        let mut times = PerStage { tower: started.elapsed(), ..PerStage::default() };
        let mut flops = PerStage::default();
        let cost = vlm.cost();
        if let Some(tokens) = self.caches.tokens.get(&key) {
            let cached = PerStage { tower: true, query: true, compress: true, project: true };
            return Ok(View::new(&tokens, times, flops, cached));
        }
        let mut cached = PerStage { tower: true, query: question.is_some(), compress: false, project: false };

        let (seen, known) = self.seen(image, tower)?;
        if !known {
            cached.tower = false;
            flops.tower = cost.tower_flops(seen.pictures(), seen.blocks_run);
        }
        times.tower = started.elapsed();

        let asked = question.map(|question| self.question(question)).transpose()?;
        if let Some(asked) = &asked {
            (times.query, flops.query, cached.query) = (asked.time, asked.flops, asked.cached);
        }
        let vector = asked.map(|asked| asked.vector);

        let started = Instant::now();
        let seen = vlm.project_before((*seen).clone())?;
        times.project = started.elapsed();
        let started = Instant::now();
        let compressed = vlm.compress(&seen, vector.as_ref(), &[budget])?;
        times.compress = started.elapsed();
        let started = Instant::now();
        let projected = vlm.project_after(&compressed)?;
        let rows = vlm.arrange_tokens(image, &projected)?;
        times.project += started.elapsed();

        let counts: Vec<usize> = compressed.iter().map(|one| one.tokens.dims()[1]).collect();
        for count in &counts {
            flops.compress += cost.compressor_flops(*count)?;
            flops.project += cost.projector_flops(*count);
        }
        // Projected rows are views of one product: what is kept should be the rows alone.
        let rows = rows.force_contiguous()?;
        let bytes = rows.elem_count() * rows.dtype().size_in_bytes();
        let tokens = Arc::new(Tokens { rows, counts, kept: kept(compressed) });
        self.caches.tokens.insert(key, tokens.clone(), bytes);
        Ok(View::new(&tokens, times, flops, cached))
    }

    /// Where the tokens of an image look that [`view`](Self::view) makes of the same arguments. What the tower and the question
    /// gave is taken from the caches, and left there.
    ///
    /// # Errors
    /// As [`view`](Self::view); [`ModelError::Compressor`](crate::ModelError::Compressor) for a projector that does not read
    /// plain patches.
    pub fn gaze(&self, image: &Image, question: Option<&[u32]>, budget: Budget) -> Result<Gaze> {
        let vlm = &self.vlm;
        vlm.check(image, budget)?;
        let question = self.read_question(question)?;
        let (seen, _) = self.seen(image, self.tower_key(image)?)?;
        let vector = question.map(|question| self.question(question)).transpose()?.map(|asked| asked.vector);
        let seen = vlm.project_before((*seen).clone())?;
        let weights = vlm.look(&seen, vector.as_ref(), &[budget])?;
        let kept = kept(vlm.compress(&seen, vector.as_ref(), &[budget])?);
        Ok(Gaze { weights, kept })
    }

    /// The question of a compressor that reads it.
    fn read_question<'q>(&self, question: Option<&'q [u32]>) -> Result<Option<&'q [u32]>> {
        let compressor = self.vlm.compressor();
        match (compressor.reads_question(), question) {
            (false, _) => Ok(None),
            (true, None) => Err(CompressError::MissingQuestion(compressor.method()).into()),
            (true, question) => Ok(question),
        }
    }

    /// What the tower gives, and whether that was known.
    fn seen(&self, image: &Image, key: TowerKey) -> Result<(Arc<Seen>, bool)> {
        if let Some(seen) = self.caches.towers.get(&key) {
            return Ok((seen, true));
        }
        let seen = Arc::new(self.vlm.see(image)?);
        self.caches.towers.insert(key, seen.clone(), seen.bytes());
        Ok((seen, false))
    }

    /// The vector of a question, by its tokens: what a compressor reads of it, and what its family is guessed from.
    ///
    /// # Errors
    /// As [`Vlm::question_vector`].
    pub fn question(&self, question: &[u32]) -> Result<AskedVector> {
        let started = Instant::now();
        let key = QuestionKey { model: self.vlm.identity(), tokens: question.to_vec() };
        if let Some(vector) = self.caches.questions.get(&key) {
            return Ok(AskedVector { vector, time: started.elapsed(), flops: 0.0, cached: true });
        }
        let vector = self.vlm.question_vector(question)?;
        let bytes = vector.elem_count() * vector.dtype().size_in_bytes() + 4 * question.len();
        self.caches.questions.insert(key, vector.clone(), bytes);
        let flops = self.vlm.cost().question_flops(question.len())?;
        Ok(AskedVector { vector, time: started.elapsed(), flops, cached: false })
    }

    fn tower_key(&self, image: &Image) -> Result<TowerKey> {
        let vlm = &self.vlm;
        let (Image::Single(pixels) | Image::Tiled { tiles: pixels, .. }) = image;
        let depth = vlm.tower().config().blocks();
        let needs = vlm.compressor().needs();
        let states = needs.states.iter().map(|state| Ok(state.resolve(depth)?)).collect::<Result<_>>()?;
        Ok(TowerKey {
            pixels: digest(pixels)?,
            model: vlm.identity(),
            dtype: pixels.dtype(),
            states,
            class_token: needs.class_token,
            block: needs.attention.map(|block| block.from_end()),
        })
    }
}

impl View {
    fn new(tokens: &Tokens, times: PerStage<Duration>, flops: PerStage<f64>, cached: PerStage<bool>) -> Self {
        let (rows, visual_tokens, kept) = (tokens.rows.clone(), tokens.counts.clone(), tokens.kept.clone());
        Self { rows, visual_tokens, kept, times, flops, cached }
    }
}

/// What each picture's tokens grew from, where all say so.
fn kept(compressed: Vec<Compressed>) -> Option<Vec<Vec<Option<usize>>>> {
    let all: Option<Vec<_>> = compressed.into_iter().map(|one| one.kept).collect();
    all.map(|kept| kept.into_iter().flatten().collect())
}

fn digest(pixels: &Tensor) -> Result<[u8; 32]> {
    let mut hash = Sha256::new();
    for length in pixels.dims() {
        hash.update(length.to_le_bytes());
    }
    for value in pixels.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()? {
        hash.update(value.to_le_bytes());
    }
    Ok(hash.finalize().into())
}

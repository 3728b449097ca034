//! A vision tower as a list of dimensions: enough to count its parameters, its tokens and its work.
//!
//! CLIP: A. Radford et al., arXiv 2103.00020. SigLIP: X. Zhai et al., arXiv 2303.15343. DINOv2: M. Oquab et al.,
//! arXiv 2304.07193.

use serde::{Deserialize, Serialize};

use super::{
    error::{CostError, within},
    image_size::ImageSize,
    work::Work,
};

/// A vision transformer. Values from outside are checked by [`TowerDimensions::validate`]; a
/// [`Catalogue`](super::Catalogue) holds checked ones only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TowerDimensions {
    /// Name to look it up by.
    pub name: String,
    /// Other names it answers to, such as its repository.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The input image in pixels: the side of a square, or `[height, width]`. Pixels beyond the last whole patch are not
    /// looked at.
    pub image_size: ImageSize,
    /// The image for which the stored table of positions was made, where it differs from `image_size` (DINOv2 stores 518
    /// and interpolates).
    #[serde(default)]
    pub position_image_size: Option<ImageSize>,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Colour channels of the image.
    #[serde(default = "three")]
    pub channels: usize,
    /// Width d of a token.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads; they share `hidden` equally.
    pub heads: usize,
    /// A class token stands in front of the patches and has a position.
    #[serde(default)]
    pub class_token: bool,
    /// Register tokens, which have no position.
    #[serde(default)]
    pub register_tokens: usize,
    /// A LayerNorm before the first block.
    #[serde(default)]
    pub pre_norm: bool,
    /// A LayerNorm after the last block.
    #[serde(default)]
    pub post_norm: bool,
    /// The patch embedding has a bias.
    #[serde(default)]
    pub patch_bias: bool,
    /// The linear layers of the blocks have biases.
    #[serde(default)]
    pub biases: bool,
    /// The feed-forward layer is gated (SwiGLU): three matrices instead of two.
    #[serde(default)]
    pub gated: bool,
    /// Each block scales its two residual branches by a learnt vector (LayerScale).
    #[serde(default)]
    pub layer_scale: bool,
    /// The published count includes an attention-pooling head (SigLIP). It holds parameters and never runs here.
    #[serde(default)]
    pub pooling_head: bool,
    /// Parameters as published, for comparison with [`TowerDimensions::parameters`].
    #[serde(default)]
    pub published_parameters: Option<u64>,
    /// Where the dimensions and the published count come from.
    #[serde(default)]
    pub source: String,
}

fn three() -> usize {
    3
}

impl TowerDimensions {
    /// Patches from top to bottom and from left to right; twice g for a square.
    pub fn grid(&self) -> (usize, usize) {
        self.image_size.grid(self.patch)
    }

    /// Patch tokens, g² for a square.
    pub fn patches(&self) -> usize {
        let (rows, columns) = self.grid();
        rows.saturating_mul(columns)
    }

    /// Tokens that the blocks read: patches, class token and registers.
    pub fn tokens(&self) -> usize {
        self.patches().saturating_add(usize::from(self.class_token)).saturating_add(self.register_tokens)
    }

    /// The ladder of visual tokens, (g/k)² for every k that divides g, largest first. Of a rectangle both sides are divided
    /// by k.
    ///
    /// ```
    /// use foveate_law::cost::Catalogue;
    /// let tower = Catalogue::builtin().tower("clip-l-14-336")?.clone();
    /// assert_eq!(tower.ladder(), [576, 144, 64, 36, 16, 9, 4, 1]);
    /// # Ok::<(), foveate_law::cost::CostError>(())
    /// ```
    pub fn ladder(&self) -> Vec<usize> {
        let (rows, columns) = self.grid();
        let shared = greatest_common_divisor(rows, columns);
        let windows =
            (1..=shared.isqrt()).filter(|k| shared.is_multiple_of(*k)).flat_map(|k| [k, shared / k]);
        let mut rungs: Vec<usize> = windows.map(|k| (rows / k).saturating_mul(columns / k)).collect();
        rungs.sort_unstable_by(|a, b| b.cmp(a));
        rungs.dedup();
        rungs
    }

    /// Blocks that run by default: all but the last, as hidden state −2 is the deepest that is read.
    pub fn feature_blocks(&self) -> usize {
        self.layers.saturating_sub(1)
    }

    /// All parameters of the published tower.
    pub fn parameters(&self) -> u64 {
        let (d, i) = (self.hidden as f64, self.intermediate as f64);
        let bias = f64::from(u8::from(self.biases));
        let flag = |on: bool| f64::from(u8::from(on));
        let positions = {
            let (rows, columns) = self.position_image_size.unwrap_or(self.image_size).grid(self.patch);
            rows as f64 * columns as f64 + flag(self.class_token)
        };
        let patch = self.patch_inputs() * d + flag(self.patch_bias) * d;
        let extra_tokens = (flag(self.class_token) + self.register_tokens as f64) * d;
        let norms = (flag(self.pre_norm) + flag(self.post_norm)) * 2.0 * d;
        let up = if self.gated { 2.0 } else { 1.0 };
        let feed_forward = (up + 1.0) * d * i + bias * (up * i + d);
        let block = 4.0 * (d * d + bias * d) + feed_forward + 4.0 * d + flag(self.layer_scale) * 2.0 * d;
        // A learnt query, its attention over the tokens, a LayerNorm and a feed-forward layer of the block's shape.
        let head = flag(self.pooling_head) * (d + 4.0 * (d * d + bias * d) + 2.0 * d + feed_forward);
        // The cast saturates; every real tower is exact.
        (patch + positions * d + extra_tokens + norms + self.layers as f64 * block + head) as u64
    }

    /// The same tower on images of another size.
    ///
    /// # Errors
    /// When the size is smaller than a patch or absurdly large.
    pub fn with_image_size(&self, size: impl Into<ImageSize>) -> Result<Self, CostError> {
        let position_image_size = Some(self.position_image_size.unwrap_or(self.image_size));
        let resized = Self { image_size: size.into(), position_image_size, ..self.clone() };
        resized.validate()?;
        Ok(resized)
    }

    /// Refuses dimensions that no tower can have.
    ///
    /// # Errors
    /// [`CostError::Dimension`] with the field, its value and what is allowed.
    pub fn validate(&self) -> Result<(), CostError> {
        let name = self.name.as_str();
        check_name(name)?;
        within(name, "patch", self.patch, 1..=1024)?;
        let sizes = self.patch..=(1024 * self.patch).min(16_384);
        let both = |field, size: ImageSize| {
            within(name, field, size.height, sizes.clone())?;
            within(name, field, size.width, sizes.clone())
        };
        both("image_size", self.image_size)?;
        self.position_image_size.map_or(Ok(()), |size| both("position_image_size", size))?;
        within(name, "channels", self.channels, 1..=1024)?;
        within(name, "hidden", self.hidden, 1..=1 << 20)?;
        within(name, "intermediate", self.intermediate, 1..=1 << 22)?;
        within(name, "layers", self.layers, 1..=4096)?;
        within(name, "heads", self.heads, 1..=self.hidden)?;
        within(name, "register_tokens", self.register_tokens, 0..=4096)?;
        if !self.hidden.is_multiple_of(self.heads) {
            return Err(CostError::Dimension {
                name: self.name.clone(),
                field: "heads",
                value: self.heads.to_string(),
                allowed: format!("it must divide hidden = {}", self.hidden),
            });
        }
        Ok(())
    }

    /// Length of a flattened patch.
    fn patch_inputs(&self) -> f64 {
        self.channels as f64 * self.patch as f64 * self.patch as f64
    }

    /// Patch embedding and the first `blocks` blocks.
    pub(crate) fn work(&self, blocks: usize) -> Work {
        let (n, d, i) = (self.tokens() as f64, self.hidden as f64, self.intermediate as f64);
        let mut block = Work::default();
        for _ in 0..4 {
            block.product(n, d, d); // q, k, v and the output projection
        }
        block.attention(n, n * n, d);
        for _ in 0..if self.gated { 2 } else { 1 } {
            block.product(n, d, i);
        }
        block.product(n, i, d);
        let mut work = Work::default();
        work.product(self.patches() as f64, self.patch_inputs(), d);
        work.add(block.times(blocks as f64));
        work
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Refuses names that cannot be typed or printed.
pub(crate) fn check_name(name: &str) -> Result<(), CostError> {
    // Look-ups compare letters and digits only: without one, a name would answer to every other such name.
    if name.chars().any(char::is_alphanumeric) && name.len() <= 200 && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(CostError::Dimension {
        name: name.chars().take(40).collect(),
        field: "name",
        value: format!("{} bytes", name.len()),
        allowed: "it must be at most 200 bytes of printable text with a letter or digit".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(crate) fn tiny() -> TowerDimensions {
        TowerDimensions {
            name: "tiny".to_owned(),
            aliases: Vec::new(),
            image_size: 4.into(),
            position_image_size: None,
            patch: 2,
            channels: 3,
            hidden: 4,
            intermediate: 8,
            layers: 2,
            heads: 2,
            class_token: true,
            register_tokens: 0,
            pre_norm: true,
            post_norm: true,
            patch_bias: false,
            biases: true,
            gated: false,
            layer_scale: false,
            pooling_head: false,
            published_parameters: None,
            source: String::new(),
        }
    }

    #[test]
    fn tiny_tower_by_hand() {
        let tower = tiny();
        assert_eq!((tower.grid(), tower.patches(), tower.tokens()), ((2, 2), 4, 5));
        assert_eq!(tower.ladder(), [4, 1]);
        // Patches: 4 × 12 × 4 multiply-adds; a block: 5 × (4·16 + 2·32) and twice 25 pairs × 4 channels.
        let patches = 2.0 * 4.0 * 12.0 * 4.0;
        let block = 2.0 * 5.0 * (64.0 + 64.0) + 2.0 * 2.0 * 25.0 * 4.0;
        assert_eq!(tower.work(0).flops, patches);
        assert_eq!(tower.work(2).flops, patches + 2.0 * block);
        // Patch 48, positions 20, class 4, two norms 16, two blocks of 80 + (32 + 8 + 32 + 4) + 16.
        assert_eq!(tower.parameters(), 48 + 20 + 4 + 16 + 2 * (80 + 76 + 16));
    }

    #[test]
    fn windows_divide_both_sides_of_a_rectangle() {
        let tower = tiny().with_image_size(ImageSize::new(12, 48)).unwrap();
        assert_eq!((tower.grid(), tower.patches()), ((6, 24), 144));
        assert_eq!(tower.ladder(), [144, 36, 16, 4]);
        assert_eq!(tower.work(1).flops, tiny().with_image_size(24).unwrap().work(1).flops);
        assert!(tiny().with_image_size(ImageSize::new(12, 1)).is_err());
    }

    #[test]
    fn options_add_what_they_hold() {
        let plain = tiny().parameters();
        let count = |change: fn(&mut TowerDimensions)| {
            let mut tower = tiny();
            change(&mut tower);
            tower.parameters() - plain
        };
        assert_eq!(count(|t| t.layer_scale = true), 2 * 2 * 4);
        assert_eq!(count(|t| t.register_tokens = 3), 12);
        assert_eq!(count(|t| t.patch_bias = true), 4);
        assert_eq!(count(|t| t.gated = true), 2 * (32 + 8));
        assert_eq!(count(|t| t.position_image_size = Some(8.into())), 12 * 4);
        assert_eq!(count(|t| t.pooling_head = true), 4 + 80 + 8 + 76);
    }

    #[test]
    fn absurd_dimensions_are_refused_with_the_field_and_the_limit() {
        let refused = |change: fn(&mut TowerDimensions), expected: &str| {
            let mut tower = tiny();
            change(&mut tower);
            let message = tower.validate().unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        };
        refused(|t| t.patch = 0, "`tiny`: patch = 0 is not allowed; it must lie in 1..=1024");
        refused(|t| t.image_size = 1.into(), "image_size = 1 is not allowed; it must lie in 2..=2048");
        refused(|t| t.hidden = 0, "hidden = 0");
        refused(|t| t.layers = usize::MAX, "layers = 18446744073709551615");
        refused(|t| t.heads = 3, "heads = 3 is not allowed; it must divide hidden = 4");
        refused(|t| t.name = "a\nb".to_owned(), "printable");
        assert!(tiny().validate().is_ok());
        assert!(tiny().with_image_size(0).is_err());
        assert_eq!(tiny().with_image_size(9).unwrap().grid(), (4, 4));
        assert_eq!(tiny().with_image_size(8).unwrap().parameters(), tiny().parameters());
    }

    #[test]
    fn unchecked_extremes_do_not_panic() {
        let mut tower = tiny();
        (tower.patch, tower.image_size, tower.hidden) = (0, usize::MAX.into(), usize::MAX);
        assert_eq!(tower.grid(), (0, 0));
        assert!(tower.ladder().is_empty());
        tower.patch = usize::MAX / 3;
        assert_eq!(tower.parameters(), u64::MAX);
    }
}

//! The flags about images: which, and how many tokens the language model reads for each.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use foveate_compress::{Budget, Ladder, Method};
use foveate_data::image::{Image, Limits, decode_file};

use crate::failure::Failure;
use crate::model::Model;

/// How many tokens stand for an image, and who makes them.
#[derive(Args, Clone, Copy)]
pub(crate) struct Compression {
    /// Tokens that the language model reads for an image (for each tile of a model that tiles), `adaptive` for a method
    /// that lets the image decide, or, for `ask` and `batch`, `auto`: what the question calls for [default: all that the
    /// compressor offers, adaptive for prumerge; visionzip and average-pooling want a number].
    #[arg(long, value_name = "N", value_parser = visual_tokens)]
    pub(crate) visual_tokens: Option<VisualTokens>,
    /// What makes them: identity, average-pooling, m3, prumerge, prumerge-plus, visionzip, or what the checkpoint carries
    /// weights for: quecc, token-packer, mqt [default: the checkpoint's own].
    #[arg(long, value_name = "NAME")]
    pub(crate) compressor: Option<Method>,
    /// Scale images to this many pixels on a side, a multiple of the tower's patch; down-scaling is the baseline that every
    /// compressor has to beat [default: what the tower was trained on].
    #[arg(long, value_name = "PIXELS")]
    pub(crate) image_size: Option<usize>,
}

impl Compression {
    /// Gives the model its compressor and image size; the budget that was asked for, or the model's own where it has one.
    pub(crate) fn apply(self, model: &mut Model) -> Result<Option<Budget>, Failure> {
        if let Some(method) = self.compressor {
            model.use_compressor(method)?;
        }
        if let Some(size) = self.image_size {
            *model = model.at_image_size(size)?;
        }
        match self.visual_tokens {
            Some(VisualTokens::Auto) => Err(Failure::user(
                "--visual-tokens auto: only ask and batch choose a number for each question; here it is a number or adaptive",
            )),
            Some(VisualTokens::Fixed(budget)) => {
                // Told at once, and not with the first image.
                model.seeing()?.vlm().check_budget(budget)?;
                Ok(Some(budget))
            }
            None => Ok(model.viewer().and_then(|viewer| viewer.vlm().default_budget())),
        }
    }
}

/// How many tokens were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VisualTokens {
    /// The same for every question.
    Fixed(Budget),
    /// What each question calls for.
    Auto,
}

/// What [`budget`] reads, or `auto`.
pub(crate) fn visual_tokens(text: &str) -> Result<VisualTokens, String> {
    match text {
        "auto" => Ok(VisualTokens::Auto),
        _ => budget(text).map(VisualTokens::Fixed).map_err(|told| format!("{told}, or auto")),
    }
}

/// A number of tokens of at least 1, or `adaptive`.
pub(crate) fn budget(text: &str) -> Result<Budget, String> {
    match (text, text.parse()) {
        ("adaptive", _) => Ok(Budget::Adaptive),
        (_, Ok(tokens)) if tokens > 0 => Ok(Budget::Tokens(tokens)),
        _ => Err("a whole number of at least 1, or adaptive".to_owned()),
    }
}

/// The budgets of a ladder to show side by side: all of them, or powers of four of a long one.
pub(crate) fn rungs(ladder: &Ladder) -> Vec<Budget> {
    const MOST: usize = 8;
    let values = ladder.values();
    let chosen: Vec<usize> = if values.len() <= MOST {
        values
    } else {
        let ends = [values[0], values[values.len() - 1]];
        let four = |value: &usize| value.is_power_of_two() && value.trailing_zeros().is_multiple_of(2);
        values.into_iter().filter(|value| ends.contains(value) || four(value)).collect()
    };
    let adaptive = ladder.contains(Budget::Adaptive).then_some(Budget::Adaptive);
    adaptive.into_iter().chain(chosen.into_iter().map(Budget::Tokens)).collect()
}

/// The images of a question.
#[derive(Args)]
pub(crate) struct Images {
    /// An image: PNG, JPEG, WebP, GIF (its first frame) or BMP; may be repeated.
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
}

impl Images {
    /// Reads the files, and says how long that took. Done before a model is opened, which takes longer: a mistyped path
    /// should be told at once.
    pub(crate) fn decode(&self) -> Result<(Vec<Image>, Duration), Failure> {
        let started = Instant::now();
        let limits = Limits::default();
        let images = self.image.iter().map(|path| decode_file(path, &limits)).collect::<Result<_, _>>()?;
        Ok((images, started.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use foveate_compress::Grid;

    use super::*;

    #[test]
    fn long_ladders_are_thinned_out() {
        let tokens = |list: &[usize]| list.iter().copied().map(Budget::Tokens).collect::<Vec<_>>();
        let windows = Ladder::of_windows(Grid::square(24), &[1, 2, 3, 4, 6, 8, 12, 24]);
        assert_eq!(rungs(&windows), tokens(&[576, 144, 64, 36, 16, 9, 4, 1]));
        assert_eq!(rungs(&Ladder::Range(1, 256)), tokens(&[256, 64, 16, 4, 1]));
        assert_eq!(rungs(&Ladder::Adaptive), [Budget::Adaptive]);
        let both = rungs(&Ladder::RangeOrAdaptive(2, 100));
        assert_eq!(both[0], Budget::Adaptive);
        assert_eq!(both[1..], tokens(&[100, 64, 16, 4, 2]));
    }

    #[test]
    fn budgets_are_numbers_or_adaptive() {
        assert_eq!(budget("36"), Ok(Budget::Tokens(36)));
        assert_eq!(budget("adaptive"), Ok(Budget::Adaptive));
        assert_eq!(visual_tokens("36"), Ok(VisualTokens::Fixed(Budget::Tokens(36))));
        assert_eq!(visual_tokens("auto"), Ok(VisualTokens::Auto));
        for wrong in ["0", "-1", "1.5", "", "all", "99999999999999999999999"] {
            assert!(budget(wrong).is_err() && visual_tokens(wrong).is_err(), "{wrong}");
        }
        assert!(budget("auto").is_err());
    }
}

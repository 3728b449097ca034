//! Which compressor a model uses, what it offers on this tower, and what is refused before anything runs.

use foveate_compress::{Budget, CompressError, Compressor, Ladder, Method, Placement};

use super::{FeatureSelect, Image, ImageLayout, VisualCost, Vlm};
use crate::vision::Grid;
use crate::{ModelError, Result};

impl Vlm {
    /// The compressor: that of the checkpoint, identity where it carries none, or the one given to it.
    pub fn compressor(&self) -> &dyn Compressor {
        &*self.compressor
    }

    /// The same model with another compressor, which shares all weights: the checkpoint's own, or any that has no
    /// weights. `foveate ask --compressor` ends here.
    ///
    /// # Errors
    /// [`ModelError::Compressor`] for a method whose weights the checkpoint does not carry, one that reads a class token
    /// or a block that the tower does not have, or one that needs the projector of a checkpoint without any.
    pub fn with_compressor(mut self, method: Method) -> Result<Self> {
        self.compressor = if method == self.carried.method() {
            self.carried.clone()
        } else if method.has_weights() {
            let reason = match self.carried.method() {
                Method::Identity => "the checkpoint carries no compressor's weights".to_owned(),
                carried => format!("the checkpoint carries the weights of {carried}"),
            };
            return Err(ModelError::compressor(method, reason));
        } else {
            self.without_weights(method)?
        };
        self.fits()?;
        Ok(self)
    }

    /// What it offers and costs.
    pub fn cost(&self) -> VisualCost {
        VisualCost::new(self.config.clone(), self.tower().config(), self.compressor.clone())
    }

    /// The patch grid of one picture.
    pub fn grid(&self) -> Grid {
        self.tower().config().grid()
    }

    /// The numbers of visual tokens on offer for one picture.
    pub fn ladder(&self) -> Ladder {
        self.cost().ladder()
    }

    /// The budget where the user names none: everything for identity and for compressors with weights and M3, adaptive
    /// for PruMerge. `None` for the others, for which there is no natural one.
    pub fn default_budget(&self) -> Option<Budget> {
        match self.compressor.method() {
            Method::PruMerge | Method::PruMergePlus => Some(Budget::Adaptive),
            Method::VisionZip | Method::AveragePooling => None,
            _ => self.ladder().values().first().copied().map(Budget::Tokens),
        }
    }

    /// Refuses a budget that this model does not offer. For a model that reads tiles it is that of each picture.
    ///
    /// # Errors
    /// [`CompressError::OffLadder`], which lists the ladder; [`ModelError::Compressor`] for a method whose tokens cannot
    /// be arranged as tiles.
    pub fn check_budget(&self, budget: Budget) -> Result<()> {
        let (method, grid, ladder) = (self.compressor.method(), self.grid(), self.ladder());
        if !ladder.contains(budget) {
            return Err(CompressError::OffLadder { method, budget, grid, ladder }.into());
        }
        match &self.config.layout {
            ImageLayout::Tiles { .. } => self.tile_grid(budget).map(|_| ()),
            ImageLayout::Single => Ok(()),
        }
    }

    /// Refuses an image or a budget that cannot be, before anything runs.
    ///
    /// # Errors
    /// As [`check_budget`](Self::check_budget); an image that is tiled for a model that is not, or the other way round.
    pub fn check(&self, image: &Image, budget: Budget) -> Result<()> {
        self.check_budget(budget)?;
        match (image, &self.config.layout) {
            (Image::Single(_), ImageLayout::Single) | (Image::Tiled { .. }, ImageLayout::Tiles { .. }) => {
                Ok(())
            }
            (Image::Single(_), _) => {
                Err(ModelError::option("image", "one picture", "this model reads tiles"))
            }
            (Image::Tiled { .. }, _) => {
                Err(ModelError::option("image", "tiles", "this model reads one picture"))
            }
        }
    }

    /// The grid on which the tokens of a tile lie.
    pub(super) fn tile_grid(&self, budget: Budget) -> Result<Grid> {
        let grid = match budget {
            Budget::Tokens(tokens) => self.compressor.token_grid(self.grid(), tokens),
            _ => None,
        };
        grid.ok_or_else(|| {
            let reason = "this model arranges tiles as rows of a picture, and these tokens lie on no grid";
            ModelError::compressor(self.compressor.method(), reason)
        })
    }

    /// Whether the projector reads the patches of one hidden state, as every compressor assumes.
    pub(super) fn reads_plain_patches(&self) -> bool {
        self.cost().reads_plain_patches()
    }

    pub(super) fn no_plain_patches(&self) -> String {
        let states = self.config.feature_states.len();
        format!(
            "the projector reads {} of {states} hidden state(s), compressors the patches of one",
            match self.config.select {
                FeatureSelect::Patches => "the patches",
                FeatureSelect::WithClass => "class token and patches",
            }
        )
    }

    /// Refuses a compressor that does not go with the rest of the model.
    pub(super) fn fits(&self) -> Result<()> {
        let (method, tower) = (self.compressor.method(), self.tower().config());
        let refuse = |reason: String| Err(ModelError::compressor(method, reason));
        if !self.reads_plain_patches() {
            return if method == Method::Identity { Ok(()) } else { refuse(self.no_plain_patches()) };
        }
        let needs = self.compressor.needs();
        if (needs.class_token || needs.attention.is_some()) && !tower.class_token() {
            return Err(CompressError::MissingClassToken(method).into());
        }
        self.cost().blocks_needed()?;
        if self.compressor.placement() != Placement::InsteadOfProjector && self.projector.is_none() {
            let carried = self.carried.method();
            return refuse(format!(
                "its tokens pass a projector, and this checkpoint has none: it ends in {carried}'s own projection"
            ));
        }
        if let Ladder::Rungs(rungs) = self.ladder()
            && rungs.is_empty()
        {
            let (grid, sides) = (self.grid(), self.grid().window_sides());
            return refuse(match self.compressor.method() {
                Method::M3 if grid.rows != grid.columns => {
                    format!("it halves squares, and the grid is {grid}")
                }
                _ => format!("its windows do not divide a grid of {grid}: possible sides are {sides:?}"),
            });
        }
        Ok(())
    }
}

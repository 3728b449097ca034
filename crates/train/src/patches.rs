//! What patches show, learnt by the tower alone.
//!
//! A tower that starts from nothing gives a language model that starts from nothing no reason to look at it: the loss of
//! an answer says little about a picture, and what is said is shared among all patches. Generated pictures know what each
//! of their patches shows, which is 144 answers a picture, each at its place.

use std::collections::BTreeMap;

use candle_core::{D, Device, Tensor};
use foveate_data::{PatchField, PatchLabels};
use foveate_model::vision::{HiddenState, Wanted};
use foveate_model::vlm::Vlm;

use crate::forward::surprise;
use crate::student::Parameter;
use crate::{Result, TrainError};

const WEIGHT: &str = "patch_head.weight";
const BIAS: &str = "patch_head.bias";
const EPSILON: f64 = 1e-6;

/// The names and shapes of the linear layer that reads a tower of this width: one output for each class of each field.
pub(crate) fn head(width: usize) -> [(&'static str, Vec<usize>); 2] {
    let classes = PatchField::ALL.iter().map(|field| field.classes()).sum();
    [(WEIGHT, vec![classes, width]), (BIAS, vec![classes])]
}

/// Patches of these pictures.
pub(crate) fn count(labels: &[PatchLabels]) -> usize {
    labels.iter().map(|labels| labels.side() * labels.side()).sum()
}

/// The sum of −log p over all patches of `pixels` `[pictures, 3, side, side]` and all their fields, a scalar. The layer
/// reads the tower's last state, normalised.
///
/// # Errors
/// [`TrainError::Field`] for a grid other than that of `labels`; those of the tensor library.
pub(crate) fn loss(
    vlm: &Vlm,
    parameters: &BTreeMap<String, Parameter>,
    pixels: &Tensor,
    labels: &[PatchLabels],
) -> Result<Tensor> {
    let last = HiddenState::new(vlm.tower().config().blocks());
    let output = vlm.tower().forward(pixels, &Wanted::states(&[last]))?;
    let state = output.patches(0)?.flatten_to(1)?; // [pictures · patches, d]
    if state.dim(0)? != count(labels) {
        let grid = format!("{} x {}", output.grid.rows, output.grid.columns);
        return Err(TrainError::field("parts.image", grid, "a square grid where patches are learnt"));
    }
    let [weight, bias] = [WEIGHT, BIAS].map(|name| {
        let layer = parameters.get(name).map(|parameter| parameter.variable.as_tensor());
        layer.ok_or_else(|| TrainError::field("rates.patches", "missing", "a rate where patches are learnt"))
    });
    let centred = state.broadcast_sub(&state.mean_keepdim(D::Minus1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + EPSILON)?.sqrt()?;
    let scores = centred.broadcast_div(&deviation)?.matmul(&weight?.t()?)?.broadcast_add(bias?)?;
    let (mut start, mut sum) = (0, Tensor::zeros((), scores.dtype(), &Device::Cpu)?);
    for field in PatchField::ALL {
        let scores = scores.narrow(D::Minus1, start, field.classes())?.contiguous()?;
        start += field.classes();
        let classes = labels.iter().flat_map(|labels| {
            (0..labels.side() * labels.side()).map(move |patch| u32::from(labels.class(patch, field)))
        });
        sum = (sum + surprise(&scores, classes.collect())?)?;
    }
    Ok(sum)
}

//! Activation functions, under the names that Hugging Face configurations give them.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use foveate_kernels as kernels;
use serde::{Deserialize, Serialize};

use crate::cpu::{like, result, rows, slice, widened, with_slice, wrap};
use crate::threads::pool;

/// An element-wise non-linearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Activation {
    /// `x · sigmoid(1.702 x)`, what CLIP was trained with.
    #[serde(rename = "quick_gelu")]
    QuickGelu,
    /// `x · Φ(x)` with the exact error function.
    #[serde(rename = "gelu")]
    Gelu,
    /// The tanh approximation of GELU, what SigLIP was trained with.
    #[serde(rename = "gelu_pytorch_tanh", alias = "gelu_new")]
    GeluTanh,
    /// `x · sigmoid(x)`, also called swish.
    #[serde(rename = "silu", alias = "swish")]
    Silu,
}

impl Activation {
    /// The same for the kernels.
    pub(crate) fn kernel(self) -> kernels::Activation {
        match self {
            Self::QuickGelu => kernels::Activation::QuickGelu,
            Self::Gelu => kernels::Activation::Gelu,
            Self::GeluTanh => kernels::Activation::GeluTanh,
            Self::Silu => kernels::Activation::Silu,
        }
    }

    /// Applies the function to each element.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn forward(self, x: &Tensor) -> candle_core::Result<Tensor> {
        if x.device().is_cpu() { x.contiguous()?.apply_op1(Each(self)) } else { self.composed(x) }
    }

    /// `f(gate) · up`, where each row holds its gates first: `[.., 2 · hidden] -> [.., hidden]`.
    ///
    /// # Errors
    /// An odd last dimension.
    pub fn gate(self, joined: &Tensor) -> candle_core::Result<Tensor> {
        if joined.device().is_cpu() {
            return joined.contiguous()?.apply_op1(Gate(self));
        }
        let halves = joined.chunk(2, candle_core::D::Minus1)?;
        self.composed(&halves[0])? * &halves[1]
    }

    /// In operations that every device has.
    pub(crate) fn composed(self, x: &Tensor) -> candle_core::Result<Tensor> {
        const QUICK: f64 = 1.702;
        match self {
            // silu(c·x) / c is the same function, and silu has a backward pass.
            Self::QuickGelu => (x * QUICK)?.silu()? * (1.0 / QUICK),
            Self::Gelu => x.gelu_erf(),
            Self::GeluTanh => x.gelu(),
            Self::Silu => x.silu(),
        }
    }
}

struct Each(Activation);

impl CustomOp1 for Each {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let out = self.0.kernel().run_new(slice(x, layout)?, &pool()).map_err(wrap)?;
        Ok(result(out, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let dx = with_slice(x, |x| {
            with_slice(dy, |dy| self.0.kernel().backward_new(x, dy, &pool()).map_err(wrap))
        })?;
        Ok(Some(like(dx, x)?))
    }
}

struct Gate(Activation);

impl CustomOp1 for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn cpu_fwd(&self, joined: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (_, width) = rows(layout.shape());
        let out = self.0.kernel().gate_new(slice(joined, layout)?, width / 2, &pool()).map_err(wrap)?;
        Ok(result(out, widened(layout.shape(), width / 2)))
    }

    fn bwd(&self, joined: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let (_, width) = rows(joined.shape());
        let mut dx = vec![0.0; joined.elem_count()];
        with_slice(joined, |joined| {
            with_slice(dy, |dy| {
                self.0.kernel().gate_backward(joined, width / 2, dy, &mut dx, &pool()).map_err(wrap)
            })
        })?;
        Ok(Some(like(dx, joined)?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::Device;

    // torch.nn.functional.gelu(x), gelu(x, approximate="tanh"), silu(x), x * torch.sigmoid(1.702 * x)
    #[test]
    fn values_of_the_definitions() {
        let at = [-3.0_f32, -1.0, -0.1, 0.0, 0.5, 2.0];
        let x = Tensor::new(&at, &Device::Cpu).unwrap();
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let tanh_gelu = |x: f64| {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
        };
        for (activation, expected) in [
            (Activation::QuickGelu, at.map(|x| f64::from(x) * sigmoid(1.702 * f64::from(x)))),
            (Activation::Silu, at.map(|x| f64::from(x) * sigmoid(f64::from(x)))),
            (Activation::GeluTanh, at.map(|x| tanh_gelu(f64::from(x)))),
            // x · Φ(x), Φ from a table of the normal distribution
            (
                Activation::Gelu,
                [
                    -3.0 * 0.001349898,
                    -0.158655254,
                    -0.1 * 0.460172163,
                    0.0,
                    0.5 * 0.691462461,
                    2.0 * 0.977249868,
                ],
            ),
        ] {
            let got = activation.forward(&x).unwrap().to_vec1::<f32>().unwrap();
            for (got, expected) in got.iter().zip(expected) {
                assert!((f64::from(*got) - expected).abs() < 1e-6, "{activation:?}: {got} {expected}");
            }
        }
    }

    #[test]
    fn names_of_the_ecosystem() {
        let named = |name: &str| serde_json::from_str::<Activation>(&format!("\"{name}\""));
        assert_eq!(named("gelu_new").unwrap(), Activation::GeluTanh);
        assert_eq!(named("quick_gelu").unwrap(), Activation::QuickGelu);
        let message = named("mish").unwrap_err().to_string();
        assert!(message.contains("mish") && message.contains("silu"), "{message}");
    }
}

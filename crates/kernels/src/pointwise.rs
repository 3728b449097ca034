//! Functions of single numbers over whole rows, forwards and backwards: activations, gates, rotary turns.

use crate::epilogue::Activation;
use crate::error::{Result, check_length};
use crate::math::{exp, gelu, gelu_tanh, sigmoid_unit};
use crate::pool::Pool;
use crate::tile::{Width, by_width};
use crate::{Error, Path};

/// Numbers that a task handles at least: less is not worth a second thread.
const TASK: usize = 1 << 13;

/// f(x).
#[inline(always)]
pub(crate) fn value<const FUSED: bool>(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::Identity => x,
        Activation::Gelu => gelu::<FUSED>(x),
        Activation::GeluTanh => gelu_tanh::<FUSED>(x),
        Activation::QuickGelu => sigmoid_unit::<FUSED>(x, 1.702),
        Activation::Silu => sigmoid_unit::<FUSED>(x, 1.0),
    }
}

/// f′(x).
#[inline(always)]
pub(crate) fn slope<const FUSED: bool>(activation: Activation, x: f32) -> f32 {
    let sigmoid = |x: f32| 1.0 / (1.0 + exp::<FUSED>(-x));
    match activation {
        Activation::Identity => 1.0,
        // Φ(x) + x · φ(x), with Φ from GELU itself where the quotient is exact enough, else from its series.
        Activation::Gelu => {
            const INVERSE_ROOT_TWO_PI: f32 = 0.398_942_3;
            let square = x * x;
            let density = INVERSE_ROOT_TWO_PI * exp::<FUSED>(-0.5 * square);
            let series = x * INVERSE_ROOT_TWO_PI * (1.0 - square * (1.0 / 6.0 - square / 40.0));
            let normal = if x.abs() < 0.125 { 0.5 + series } else { gelu::<FUSED>(x) / x };
            normal + x * density
        }
        // x · σ(2u): the tanh form written with a sigmoid.
        Activation::GeluTanh => {
            const ROOT_TWO_OVER_PI: f32 = 0.797_884_6;
            let s = sigmoid(2.0 * ROOT_TWO_OVER_PI * (x + 0.044_715 * x * x * x));
            let inner = 2.0 * ROOT_TWO_OVER_PI * (1.0 + 3.0 * 0.044_715 * x * x);
            s + x * s * (1.0 - s) * inner
        }
        Activation::QuickGelu => {
            let s = sigmoid(1.702 * x);
            s + 1.702 * x * s * (1.0 - s)
        }
        Activation::Silu => {
            let s = sigmoid(x);
            s + x * s * (1.0 - s)
        }
    }
}

impl Activation {
    /// out = f(x), number by number.
    ///
    /// # Errors
    /// [`Error::Length`] for slices of different lengths.
    pub fn run(self, x: &[f32], out: &mut [f32], pool: &Pool) -> Result<()> {
        check_length("the output", out.len(), x.len(), || format!("[{}]", x.len()))?;
        let width = Width::of(Path::best());
        pool.chunks(out, TASK, |task, out| {
            activate(width, self, &x[task * TASK..][..out.len()], out);
        });
        Ok(())
    }

    /// dx = dy · f′(x).
    ///
    /// # Errors
    /// [`Error::Length`] for slices of different lengths.
    pub fn backward(self, x: &[f32], dy: &[f32], dx: &mut [f32], pool: &Pool) -> Result<()> {
        check_length("the gradient", dy.len(), x.len(), || format!("[{}]", x.len()))?;
        check_length("the input's gradient", dx.len(), x.len(), || format!("[{}]", x.len()))?;
        let width = Width::of(Path::best());
        pool.chunks(dx, TASK, |task, dx| {
            let at = task * TASK..task * TASK + dx.len();
            activate_backward(width, self, &x[at.clone()], &dy[at], dx);
        });
        Ok(())
    }

    /// out = f(gate) · up: rows of `joined` hold `hidden` gates and then as many of what they let through,
    /// `[rows, 2 · hidden]` to `[rows, hidden]`.
    ///
    /// # Errors
    /// [`Error::Length`] and [`Error::Size`] for slices that do not fit.
    pub fn gate(self, joined: &[f32], hidden: usize, out: &mut [f32], pool: &Pool) -> Result<()> {
        let rows = check_gate(joined, hidden)?;
        check_length("the output", out.len(), rows * hidden, || format!("[rows {rows}, {hidden}]"))?;
        let width = Width::of(Path::best());
        let each = TASK.div_ceil(hidden);
        pool.chunks(out, each * hidden, |task, out| {
            let joined = &joined[2 * task * each * hidden..][..2 * out.len()];
            for (joined, out) in joined.chunks_exact(2 * hidden).zip(out.chunks_exact_mut(hidden)) {
                let (gates, up) = joined.split_at(hidden);
                gate(width, self, gates, up, out);
            }
        });
        Ok(())
    }

    /// The gradient of [`Activation::gate`] with respect to `joined`: `dy` `[rows, hidden]`, `dx` `[rows, 2 · hidden]`.
    ///
    /// # Errors
    /// As [`Activation::gate`].
    pub fn gate_backward(
        self,
        joined: &[f32],
        hidden: usize,
        dy: &[f32],
        dx: &mut [f32],
        pool: &Pool,
    ) -> Result<()> {
        let rows = check_gate(joined, hidden)?;
        check_length("the gradient", dy.len(), rows * hidden, || format!("[rows {rows}, {hidden}]"))?;
        check_length("the input's gradient", dx.len(), joined.len(), || {
            format!("[rows {rows}, {}]", 2 * hidden)
        })?;
        let width = Width::of(Path::best());
        let each = TASK.div_ceil(hidden);
        pool.chunks(dx, 2 * each * hidden, |task, dx| {
            let at = task * each * hidden;
            let rows = joined[2 * at..].chunks_exact(2 * hidden).zip(dy[at..].chunks_exact(hidden));
            for ((joined, dy), dx) in rows.zip(dx.chunks_exact_mut(2 * hidden)) {
                let ((gates, up), (d_gates, d_up)) = (joined.split_at(hidden), dx.split_at_mut(hidden));
                gate_backward(width, self, gates, up, dy, d_gates, d_up);
            }
        });
        Ok(())
    }
}

/// The rows of `joined`.
fn check_gate(joined: &[f32], hidden: usize) -> Result<usize> {
    if hidden == 0 {
        return Err(Error::Size { what: "the width of a gate", found: 0, allowed: "at least 1" });
    }
    let rows = joined.len() / (2 * hidden);
    check_length("the input", joined.len(), rows * 2 * hidden, || format!("[rows {rows}, {}]", 2 * hidden))?;
    Ok(rows)
}

/// `body` with `chosen` as a constant, written out for each function: the choice must not be made for every number.
macro_rules! by_activation {
    ($activation:expr, $chosen:ident => $body:expr) => {
        by_activation!($activation, $chosen => $body; Identity Gelu GeluTanh QuickGelu Silu)
    };
    ($activation:expr, $chosen:ident => $body:expr; $($name:ident)*) => {
        match $activation {
            $($crate::Activation::$name => {
                const $chosen: $crate::Activation = $crate::Activation::$name;
                $body
            })*
        }
    };
}
pub(crate) use by_activation;

by_width! {
    fn activate(activation: Activation, x: &[f32], out: &mut [f32]) {
        by_activation!(activation, CHOSEN => for (out, x) in out.iter_mut().zip(x) {
            *out = value::<FUSED>(CHOSEN, *x);
        });
    }
}

by_width! {
    fn activate_backward(activation: Activation, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        by_activation!(activation, CHOSEN => for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
            *dx = dy * slope::<FUSED>(CHOSEN, *x);
        });
    }
}

by_width! {
    fn gate(activation: Activation, gates: &[f32], up: &[f32], out: &mut [f32]) {
        by_activation!(activation, CHOSEN => for ((out, gate), up) in out.iter_mut().zip(gates).zip(up) {
            *out = value::<FUSED>(CHOSEN, *gate) * up;
        });
    }
}

by_width! {
    fn gate_backward(
        activation: Activation,
        gates: &[f32],
        up: &[f32],
        dy: &[f32],
        d_gates: &mut [f32],
        d_up: &mut [f32],
    ) {
        by_activation!(activation, CHOSEN => {
            let outputs = d_gates.iter_mut().zip(d_up);
            for ((((d_gate, d_up), gate), up), dy) in outputs.zip(gates).zip(up).zip(dy) {
                *d_gate = dy * up * slope::<FUSED>(CHOSEN, *gate);
                *d_up = dy * value::<FUSED>(CHOSEN, *gate);
            }
        });
    }
}

/// Rotary turns of the heads at the start of each row, in the half-split form: channel i of a head turns together with
/// channel i + half. What lies behind the turned heads, and behind the turned channels of a head, is copied.
#[derive(Debug, Clone, Copy)]
pub struct Turn<'a> {
    /// Cosines, `[positions, half]`; row r of the data stands at position r mod positions.
    pub cos: &'a [f32],
    /// Sines, likewise.
    pub sin: &'a [f32],
    /// Half the channels that turn in each head.
    pub half: usize,
    /// Channels of a head.
    pub head_size: usize,
    /// Heads that turn.
    pub heads: usize,
    /// Numbers of a row.
    pub width: usize,
}

impl Turn<'_> {
    /// Turns rows `[rows, width]`; `back` turns the other way round, which is the gradient.
    ///
    /// # Errors
    /// [`Error::Length`] and [`Error::Size`] for sizes that do not fit each other.
    pub fn run(&self, x: &[f32], out: &mut [f32], back: bool, pool: &Pool) -> Result<()> {
        let &Self { cos, sin, half, head_size, heads, width } = self;
        if half == 0 || 2 * half > head_size {
            let allowed = "1 to half the head size";
            return Err(Error::Size { what: "half the turning channels", found: half, allowed });
        }
        if width == 0 || heads.saturating_mul(head_size) > width {
            let allowed = "heads · head size at least";
            return Err(Error::Size { what: "the width of a row that turns", found: width, allowed });
        }
        let positions = cos.len() / half;
        check_length("the cosines", cos.len(), positions.max(1) * half, || "[positions, half]".to_owned())?;
        check_length("the sines", sin.len(), cos.len(), || format!("[positions {positions}, half {half}]"))?;
        let rows = x.len() / width;
        check_length("the input", x.len(), rows * width, || format!("[rows {rows}, width {width}]"))?;
        check_length("the output", out.len(), x.len(), || format!("[rows {rows}, width {width}]"))?;
        let path = Width::of(Path::best());
        let each = TASK.div_ceil(width);
        pool.chunks(out, each * width, |task, out| {
            let x = &x[task * each * width..][..out.len()];
            for (i, (x, out)) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)).enumerate() {
                let at = (task * each + i) % positions * half;
                let (turning, rest) = out.split_at_mut(heads * head_size);
                rest.copy_from_slice(&x[heads * head_size..]);
                for (x, out) in x.chunks_exact(head_size).zip(turning.chunks_exact_mut(head_size)) {
                    turn(path, x, &cos[at..at + half], &sin[at..at + half], back, out);
                }
            }
        });
        Ok(())
    }
}

by_width! {
    fn turn(x: &[f32], cos: &[f32], sin: &[f32], back: bool, out: &mut [f32]) {
        let half = cos.len();
        let sign = if back { -1.0 } else { 1.0 };
        let ((first, rest), (out_first, out_rest)) = (x.split_at(half), out.split_at_mut(half));
        let ((second, kept), (out_second, out_kept)) = (rest.split_at(half), out_rest.split_at_mut(half));
        out_kept.copy_from_slice(kept);
        let angles = cos.iter().zip(sin);
        for ((((a, b), x), y), (cos, sin)) in
            out_first.iter_mut().zip(out_second).zip(first).zip(second).zip(angles)
        {
            let sin = sign * sin;
            *a = x * cos - y * sin;
            *b = y * cos + x * sin;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ALL: [Activation; 5] = [
        Activation::Identity,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::QuickGelu,
        Activation::Silu,
    ];

    /// The textbook forms in f64; Φ by the midpoint rule.
    fn reference(activation: Activation, x: f64) -> f64 {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        match activation {
            Activation::Identity => x,
            Activation::Silu => x * sigmoid(x),
            Activation::QuickGelu => x * sigmoid(1.702 * x),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
            }
            Activation::Gelu => {
                let steps = 2000;
                let step = x / f64::from(steps);
                let area: f64 =
                    (0..steps).map(|i| (-((f64::from(i) + 0.5) * step).powi(2) / 2.0).exp() * step).sum();
                x * (0.5 + area / (2.0 * std::f64::consts::PI).sqrt())
            }
        }
    }

    #[test]
    fn values_and_slopes_are_those_of_the_definitions() {
        let pool = Pool::new(2).unwrap();
        let x: Vec<f32> = (0..=400).map(|i| (i - 200) as f32 / 25.0 + 1e-4).collect();
        let ones = vec![1.0; x.len()];
        let mut out = vec![0.0; x.len()];
        for activation in ALL {
            activation.run(&x, &mut out, &pool).unwrap();
            for (x, got) in x.iter().zip(&out) {
                let expected = reference(activation, f64::from(*x));
                assert!((f64::from(*got) - expected).abs() < 4e-6, "{activation:?}({x}): {got} {expected}");
            }
            activation.backward(&x, &ones, &mut out, &pool).unwrap();
            for (x, got) in x.iter().zip(&out) {
                let f = |x: f64| reference(activation, x);
                let expected = (f(f64::from(*x) + 1e-4) - f(f64::from(*x) - 1e-4)) / 2e-4;
                assert!((f64::from(*got) - expected).abs() < 1e-5, "{activation:?}′({x}): {got} {expected}");
            }
        }
    }

    #[test]
    fn slopes_near_zero_are_smooth() {
        let pool = Pool::single();
        for x in [0.0_f32, 1e-7, -1e-5, 9.9e-4, 1.1e-3] {
            for activation in ALL {
                let mut out = [0.0];
                activation.backward(&[x], &[1.0], &mut out, &pool).unwrap();
                let expected = if activation == Activation::Identity { 1.0 } else { 0.5 };
                assert!((out[0] - expected).abs() < 2e-3, "{activation:?}′({x}) = {}", out[0]);
            }
        }
    }

    #[test]
    fn a_gate_is_an_activation_times_what_it_lets_through() {
        let pool = Pool::new(3).unwrap();
        let (rows, hidden) = (700, 37);
        let joined: Vec<f32> = (0..rows * 2 * hidden).map(|i| (i as f32 * 0.37).sin() * 3.0).collect();
        let dy: Vec<f32> = (0..rows * hidden).map(|i| (i as f32 * 0.11).cos()).collect();
        let (mut out, mut dx) = (vec![0.0; rows * hidden], vec![0.0; joined.len()]);
        for activation in ALL {
            activation.gate(&joined, hidden, &mut out, &pool).unwrap();
            activation.gate_backward(&joined, hidden, &dy, &mut dx, &pool).unwrap();
            for row in (0..rows).step_by(13) {
                for i in 0..hidden {
                    let (gate, up) = (joined[2 * row * hidden + i], joined[(2 * row + 1) * hidden + i]);
                    let (mut value, mut slope) = ([0.0], [0.0]);
                    activation.run(&[gate], &mut value, &pool).unwrap();
                    activation.backward(&[gate], &[1.0], &mut slope, &pool).unwrap();
                    let dy = dy[row * hidden + i];
                    let close = |got: f32, expected: f32| {
                        assert!((got - expected).abs() <= 2e-6 * (1.0 + expected.abs()), "{got} {expected}");
                    };
                    close(out[row * hidden + i], value[0] * up);
                    close(dx[2 * row * hidden + i], dy * up * slope[0]);
                    close(dx[(2 * row + 1) * hidden + i], dy * value[0]);
                }
            }
        }
    }

    #[test]
    fn turns_keep_lengths_and_turn_back() {
        let pool = Pool::new(2).unwrap();
        // Two positions, three rows; heads of 5 channels of which 4 turn; 2 of 3 heads turn, 2 numbers follow.
        let angles = [0.3_f32, 1.1, -0.4, 2.0];
        let (cos, sin) = (angles.map(f32::cos), angles.map(f32::sin));
        let turn = Turn { cos: &cos, sin: &sin, half: 2, head_size: 5, heads: 2, width: 17 };
        let x: Vec<f32> = (0..3 * 17).map(|i| (i as f32).sin()).collect();
        let (mut turned, mut back) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        turn.run(&x, &mut turned, false, &pool).unwrap();
        turn.run(&turned, &mut back, true, &pool).unwrap();
        assert!(x.iter().zip(&back).all(|(x, back)| (x - back).abs() < 1e-6));
        for row in 0..3 {
            let (x, turned) = (&x[row * 17..][..17], &turned[row * 17..][..17]);
            assert_eq!((x[4], x[9], &x[10..]), (turned[4], turned[9], &turned[10..]));
            for head in [0, 5] {
                for i in 0..2 {
                    let angle = angles[row % 2 * 2 + i];
                    let (a, b) = (x[head + i], x[head + i + 2]);
                    assert!((turned[head + i] - (a * angle.cos() - b * angle.sin())).abs() < 1e-6);
                    assert!((turned[head + i + 2] - (b * angle.cos() + a * angle.sin())).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_errors() {
        let pool = Pool::single();
        assert!(Activation::Silu.gate(&[0.0; 5], 2, &mut [0.0; 2], &pool).is_err());
        assert!(Activation::Silu.gate(&[0.0; 4], 0, &mut [], &pool).is_err());
        let turn = Turn { cos: &[1.0], sin: &[0.0], half: 1, head_size: 2, heads: 2, width: 3 };
        assert!(turn.run(&[0.0; 3], &mut [0.0; 3], false, &pool).is_err());
        let turn = Turn { cos: &[], sin: &[], half: 1, head_size: 2, heads: 1, width: 2 };
        assert!(turn.run(&[0.0; 2], &mut [0.0; 2], false, &pool).is_err());
    }
}

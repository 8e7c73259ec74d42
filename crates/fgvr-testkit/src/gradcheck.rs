//! Gradients against central differences.

use candle_core::{DType, Device, Result, Tensor, Var};

use crate::close::{position, values};
use crate::normal_values;

/// How differences are taken, and how far a gradient may be from them.
#[derive(Clone, Debug, PartialEq)]
pub struct GradCheck {
    /// Half the distance between the two points of a difference.
    pub step: f64,
    /// Largest |analytic - numeric| allowed, as a share of the largest |numeric|.
    pub rel: f64,
}

impl GradCheck {
    /// For functions computed in f64: rounding (1e-16 / step) and curvature (step²) both stay
    /// near 1e-10.
    #[must_use]
    pub fn f64() -> Self {
        Self {
            step: 1e-5,
            rel: 1e-7,
        }
    }

    /// For functions computed in f32: rounding of 1e-7 over a step of 1e-2 leaves an error near
    /// 1e-5 for each value that is summed, so only gross errors (a wrong factor, a missing term)
    /// are found. Prefer an f64 reference.
    #[must_use]
    pub fn f32() -> Self {
        Self {
            step: 1e-2,
            rel: 1e-2,
        }
    }

    /// A reference in f64, against a gradient that was computed in f32.
    #[must_use]
    pub fn f32_against_f64() -> Self {
        Self {
            step: 1e-5,
            rel: 2e-5,
        }
    }
}

impl Default for GradCheck {
    fn default() -> Self {
        Self::f64()
    }
}

/// Asserts that `analytic` is the gradient of `f` at `x`.
///
/// # Panics
/// With `name` and the worst element where it is not, or where a value is not finite.
#[track_caller]
pub fn gradcheck(
    name: &str,
    f: impl Fn(&[f64]) -> f64,
    x: &[f64],
    analytic: &[f64],
    cfg: &GradCheck,
) {
    let numeric = differences(f, x, cfg.step);
    compare(name, analytic, &numeric, &[x.len()], cfg);
}

/// Asserts that candle's backward through `f` is right for every input.
///
/// `f` may return a tensor of any shape: it is weighted with fixed random numbers and summed, in
/// f64, so that gradients of equal elements do not cancel. The inputs' dtype is kept: use f64.
///
/// # Panics
/// With `name`, the input and its worst element where a gradient is wrong, missing or not finite,
/// and where `f` fails.
#[track_caller]
pub fn gradcheck_tensors(
    name: &str,
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
    inputs: &[Tensor],
    cfg: &GradCheck,
) {
    let gradients = match analytic(&f, inputs) {
        Ok(gradients) => gradients,
        Err(error) => panic!("{name}: {error}"),
    };
    for (i, (input, gradient)) in inputs.iter().zip(gradients).enumerate() {
        let name = format!("{name}, input {i}");
        let Some(gradient) = gradient else {
            panic!("{name}: no gradient arrives");
        };
        let scalar = |x: &[f64]| -> f64 {
            let run = || -> Result<f64> {
                let mut inputs = inputs.to_vec();
                inputs[i] =
                    Tensor::from_slice(x, input.dims(), &Device::Cpu)?.to_dtype(input.dtype())?;
                let out = values(&f(&inputs)?)?;
                let weights = normal_values(OUTPUT_WEIGHTS, out.len());
                Ok(out.iter().zip(weights).map(|(o, w)| o * f64::from(w)).sum())
            };
            match run() {
                Ok(value) => value,
                Err(error) => panic!("{name}: {error}"),
            }
        };
        let at = match values(input) {
            Ok(at) => at,
            Err(error) => panic!("{name}: {error}"),
        };
        compare(
            &name,
            &gradient,
            &differences(scalar, &at, cfg.step),
            input.dims(),
            cfg,
        );
    }
}

const OUTPUT_WEIGHTS: u64 = 0x6772_6164;

type Gradient = Option<Vec<f64>>;

fn analytic(f: impl Fn(&[Tensor]) -> Result<Tensor>, inputs: &[Tensor]) -> Result<Vec<Gradient>> {
    let vars = inputs
        .iter()
        .map(|x| Var::from_tensor(&x.detach()))
        .collect::<Result<Vec<_>>>()?;
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let out = f(&tensors)?;
    let weights = normal_values(OUTPUT_WEIGHTS, out.elem_count());
    let weights = Tensor::from_vec(weights, out.dims(), &Device::Cpu)?.to_dtype(out.dtype())?;
    let gradients = (out * weights)?
        .to_dtype(DType::F64)?
        .sum_all()?
        .backward()?;
    vars.iter()
        .map(|v| gradients.get(v).map(values).transpose())
        .collect()
}

fn differences(f: impl Fn(&[f64]) -> f64, x: &[f64], step: f64) -> Vec<f64> {
    let mut x = x.to_vec();
    (0..x.len())
        .map(|i| {
            let at = x[i];
            x[i] = at + step;
            let above = f(&x);
            x[i] = at - step;
            let below = f(&x);
            x[i] = at;
            (above - below) / (2. * step)
        })
        .collect()
}

#[track_caller]
fn compare(name: &str, analytic: &[f64], numeric: &[f64], dims: &[usize], cfg: &GradCheck) {
    assert_eq!(
        analytic.len(),
        numeric.len(),
        "{name}: the gradient has {} elements, the input {}",
        analytic.len(),
        numeric.len()
    );
    if let Some(i) = numeric.iter().position(|v| !v.is_finite()) {
        panic!(
            "{name}: the difference at {:?} is {}",
            position(i, dims),
            numeric[i]
        );
    }
    let (error, at) = crate::relative_error(analytic, numeric);
    assert!(
        error <= cfg.rel,
        "{name}: gradient off by {error:.3e} > {:.1e}; worst at {:?}: {} instead of {} by differences",
        cfg.rel,
        position(at, dims),
        analytic[at],
        numeric[at]
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input() -> Tensor {
        crate::normal(11, (2, 3)).to_dtype(DType::F64).unwrap()
    }

    #[test]
    fn right_gradients_pass() {
        let product = |x: &[Tensor]| x[0].matmul(&x[1].t()?)?.tanh();
        let other = crate::normal(12, (4, 3)).to_dtype(DType::F64).unwrap();
        gradcheck_tensors(
            "tanh of a product",
            product,
            &[input(), other],
            &GradCheck::f64(),
        );
        let x = [0.5, -2.];
        gradcheck(
            "cube",
            |x| x.iter().map(|v| v * v * v).sum(),
            &x,
            &[0.75, 12.],
            &GradCheck::f64(),
        );
    }

    #[test]
    fn f32_is_checked_to_its_own_accuracy() {
        gradcheck_tensors(
            "f32 square",
            |x| x[0].sqr(),
            &[crate::normal(1, 5)],
            &GradCheck::f32(),
        );
    }

    #[test]
    #[should_panic(expected = "half, input 0: gradient off by 5.000e-1")]
    fn a_wrong_factor_is_found() {
        // The detached half has a value but no gradient.
        let half = |x: &[Tensor]| (&x[0] * 0.5)? + (&x[0] * 0.5)?.detach();
        gradcheck_tensors("half", half, &[input()], &GradCheck::f64());
    }

    #[test]
    #[should_panic(expected = "cut, input 0: no gradient arrives")]
    fn a_cut_graph_is_found() {
        gradcheck_tensors(
            "cut",
            |x| (x[0].detach() + &x[1])?.sqr(),
            &[input(), input()],
            &GradCheck::f64(),
        );
    }

    #[test]
    #[should_panic(expected = "worst at [1]: 3 instead of")]
    fn the_worst_element_is_named() {
        gradcheck(
            "line",
            |x| x[0] + 2. * x[1],
            &[0., 0.],
            &[1., 3.],
            &GradCheck::f64(),
        );
    }
}

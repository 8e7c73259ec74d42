//! Running one operation, and comparing it.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use fgvr_nn::ParameterGradients;
use fgvr_nn::{Activation, Parameters, Tape};
use fgvr_testkit::{Golden, GradCheck, assert_close, assert_close_values, gradcheck, normal};

/// f32 sums of some hundred terms of size 1.
pub(crate) const REL: f64 = 1e-5;

/// What one operation gave for the input `x` and the gradient `dy` of its output.
pub(crate) struct Outcome {
    pub(crate) y: Tensor,
    pub(crate) dx: Tensor,
    pub(crate) gradients: ParameterGradients,
}

/// Runs `op` on a tape, forward and backward. `dy` has the shape of `y`, (N, C, H, W), or (N, C)
/// where the output has one place.
pub(crate) fn run(
    x: &Tensor,
    dy: Option<&Tensor>,
    op: impl FnOnce(&mut Tape, &Activation) -> Result<Activation>,
) -> Outcome {
    let mut tape = Tape::recording();
    let input = tape.input(x, true).unwrap();
    let y = op(&mut tape, &input).unwrap();
    let y = tape.output(&y).unwrap();
    let dy = match dy {
        Some(dy) => dy.reshape(y.shape()).unwrap(),
        None => output_weights(y.as_tensor()),
    };
    let leaves = (y.as_tensor() * dy)
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap();
    let mut gradients = ParameterGradients::default();
    let dx = tape.backward(&leaves, &mut gradients).unwrap().unwrap();
    Outcome {
        y: y.as_tensor().detach(),
        dx,
        gradients,
    }
}

fn output_weights(y: &Tensor) -> Tensor {
    normal(99, y.dims())
}

/// Checks an operation against `reference`, the same function of f64 values in the order of
/// (N, C, H, W): outputs to 1e-5, and the gradients of `x` and of each parameter against central
/// differences of the reference, which are free of f32 noise.
pub(crate) fn check(
    name: &str,
    x: &Tensor,
    parameters: &[&Tensor],
    op: impl FnOnce(&mut Tape, &Activation) -> Result<Activation>,
    reference: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) {
    let outcome = run(x, None, op);
    let mut inputs = vec![values(x)];
    inputs.extend(parameters.iter().map(|p| values(p)));
    assert_close_values(name, &values(&outcome.y), &reference(&inputs), REL);
    let weights = values(&output_weights(&outcome.y));
    for i in 0..inputs.len() {
        let gradient = match i {
            0 => outcome.dx.clone(),
            i => outcome.gradients.get(parameters[i - 1]).unwrap().clone(),
        };
        let scalar = |values: &[f64]| {
            let mut inputs = inputs.clone();
            inputs[i] = values.to_vec();
            reference(&inputs)
                .iter()
                .zip(&weights)
                .map(|(y, w)| y * w)
                .sum()
        };
        let name = format!("{name}, gradient {i}");
        gradcheck(
            &name,
            scalar,
            &inputs[i],
            &values(&gradient),
            &GradCheck::f32_against_f64(),
        );
    }
}

/// Checks `op` against the golden case's y and d_x.
pub(crate) fn check_golden(
    golden: &Golden,
    case: &str,
    op: impl FnOnce(&mut Tape, &Activation) -> Result<Activation>,
) -> Outcome {
    let get = |name: &str| golden.get(&format!("{case}.{name}"));
    let outcome = run(&get("x"), Some(&get("dy")), op);
    let y = get("y");
    assert_close(
        &format!("{case} y"),
        &outcome.y.reshape(y.shape()).unwrap(),
        &y,
        REL,
    );
    assert_close(&format!("{case} dx"), &outcome.dx, &get("d_x"), REL);
    outcome
}

/// Parameters that hold the golden case's tensors called `names`.
pub(crate) fn parameters(
    golden: &Golden,
    case: &str,
    names: &[&str],
) -> (Parameters, VarBuilder<'static>) {
    let tensors: Vec<_> = names
        .iter()
        .map(|n| (*n, golden.get(&format!("{case}.{n}"))))
        .collect();
    parameters_of(&tensors)
}

/// Parameters that hold `tensors` by name.
pub(crate) fn parameters_of(tensors: &[(&str, Tensor)]) -> (Parameters, VarBuilder<'static>) {
    let parameters = Parameters::new(0);
    let vb = parameters.builder(DType::F32, &Device::Cpu);
    for (name, tensor) in tensors {
        vb.get_with_hints(tensor.shape(), name, candle_nn::Init::Const(0.))
            .unwrap();
    }
    let tensors: HashMap<String, Tensor> = tensors
        .iter()
        .map(|(n, t)| ((*n).to_owned(), t.clone()))
        .collect();
    parameters.set_all(&tensors).unwrap();
    (parameters, vb)
}

pub(crate) fn values(tensor: &Tensor) -> Vec<f64> {
    tensor
        .to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

/// The bits of a tensor.
pub(crate) fn bits(tensor: &Tensor) -> Vec<u32> {
    let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    values.iter().map(|v| v.to_bits()).collect()
}

/// `f` in a pool of its own with `threads` threads.
pub(crate) fn with_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap()
        .install(f)
}

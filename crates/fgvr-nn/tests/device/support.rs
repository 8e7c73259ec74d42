//! A layer run on the CPU and on the emulator, and what differs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Result, Tensor};
use candle_nn::VarBuilder;
use fgvr_nn::ParameterGradients;
use fgvr_nn::cuda::Real;
use fgvr_nn::cuda::emulator::Emulator;
use fgvr_nn::{Activation, Device, Parameters, Tape};
use fgvr_testkit::{assert_close_each, normal};

pub(crate) type Forward = Box<dyn Fn(&mut Tape, &Activation) -> Result<Activation>>;

/// The devices there are: maps of f32 and of bf16, and the difference
/// allowed, see [`assert_close_each`]. With bf16
/// a value near zero may fall on the other side of a ReLU, and its whole gradient with it.
pub(crate) fn devices() -> Vec<(Device, f64)> {
    let emulator = match Emulator::new(Path::new(env!("CARGO_TARGET_TMPDIR"))) {
        Ok(emulator) => Arc::new(emulator),
        Err(error) => {
            fgvr_testkit::skipped(error);
            return Vec::new();
        }
    };
    vec![
        (Device::new(emulator.clone(), Real::F32, "emulator"), 2e-5),
        (Device::new(emulator, Real::Bf16, "emulator"), 1e-1),
    ]
}

/// Where a pass runs, and whether the variables are resident there.
#[derive(Clone, Copy, Debug)]
enum Where<'a> {
    Cpu,
    Sent(&'a Device),
    Living(&'a Device),
}

/// What a pass says: the output, the gradient at the input, the gradients of the variables, the buffers.
fn pass(
    build: &dyn Fn(VarBuilder) -> Result<Forward>,
    input: &Tensor,
    place: Where<'_>,
) -> Result<BTreeMap<String, Tensor>> {
    let parameters = Parameters::new(3);
    let forward = build(parameters.builder(DType::F32, &candle_core::Device::Cpu))?;
    for (i, (name, var)) in parameters.trainable().iter().enumerate() {
        // Norms start at weight 1 and bias 0, layer scales small, projections without a bias: all of which
        // hide a mistake.
        if ["bn", "norm", "gamma", "bias"]
            .iter()
            .any(|part| name.contains(part))
        {
            var.set(&(var.as_tensor() + (normal(50 + i as u64, var.dims()) * 0.3)?)?)?;
        }
    }
    let device = match place {
        Where::Cpu => None,
        Where::Sent(device) | Where::Living(device) => Some(device),
    };
    if let Where::Living(device) = place {
        parameters.to_device(device)?;
    }
    let mut tape = Tape::recording().on(device);
    let x = tape.input(input, true)?;
    let y = forward(&mut tape, &x)?;
    let y = tape.output(&y)?;
    // An uneven weighting, so that every output counts.
    let weights = normal(9, y.dims());
    let leaves = (y.as_tensor() * weights)?.sum_all()?.backward()?;
    let mut gradients = ParameterGradients::default();
    let dx = tape.backward(&leaves, &mut gradients)?;
    let mut found = BTreeMap::from([("output".to_owned(), y.as_tensor().clone())]);
    found.extend(dx.map(|dx| ("gradient at the input".to_owned(), dx)));
    for (name, var) in parameters.trainable() {
        // Where a variable lives, its gradient stays.
        let stayed = gradients.get(&var).is_none();
        assert_eq!(stayed, matches!(place, Where::Living(_)), "{name}");
        let gradient = gradients.tensor(&var)?;
        let gradient = gradient.expect("every variable has a gradient");
        found.insert(format!("gradient of {name}"), gradient);
    }
    parameters.to_host()?;
    for (name, var) in parameters.buffers() {
        found.insert(name, var.as_tensor().clone());
    }
    Ok(found)
}

pub(crate) fn agrees(what: &str, input: &Tensor, build: impl Fn(VarBuilder) -> Result<Forward>) {
    agrees_on(&devices(), what, input, build);
}

/// As [`agrees`], on maps of f32 alone.
pub(crate) fn agrees_in_f32(
    what: &str,
    input: &Tensor,
    build: impl Fn(VarBuilder) -> Result<Forward>,
) {
    let devices: Vec<_> = devices().into_iter().take(1).collect();
    agrees_on(&devices, what, input, build);
}

fn agrees_on(
    devices: &[(Device, f64)],
    what: &str,
    input: &Tensor,
    build: impl Fn(VarBuilder) -> Result<Forward>,
) {
    let run = |place: Where<'_>| match pass(&build, input, place) {
        Ok(found) => found,
        Err(error) => panic!("{what}, {place:?}: {error}"),
    };
    let expected = run(Where::Cpu);
    for (device, allowed) in devices {
        for place in [Where::Sent(device), Where::Living(device)] {
            let found = run(place);
            assert_close_each(&format!("{what}, {place:?}"), &found, &expected, *allowed);
        }
    }
}

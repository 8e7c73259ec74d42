//! Variables that are resident on a device: trained, averaged and saved there as on the CPU.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use candle_core::{DType, Result, Tensor, Var};
use fgvr_nn::cuda::Real;
use fgvr_nn::layers::{After, BatchNorm, Linear};
use fgvr_nn::optim::{
    Adam, AdamConfig, Following, Lars, LarsConfig, MissingGradient, Sgd, SgdConfig,
    clip_gradient_norm, follow,
};
use fgvr_nn::{Activation, Device, NormMode, ParameterGradients, Parameters, Tape};
use fgvr_testkit::{assert_close_each, normal};

use crate::support::devices;

/// Two layers with a norm between them.
struct Net {
    first: Linear,
    norm: BatchNorm,
    last: Linear,
    parameters: Parameters,
}

impl Net {
    fn new(device: Option<&Device>) -> Self {
        let parameters = Parameters::new(5);
        let vb = parameters.builder(DType::F32, &candle_core::Device::Cpu);
        let net = Self {
            // A bias in front of a norm has no gradient but rounding.
            first: Linear::new(6, 9, false, vb.pp("first")).unwrap(),
            norm: BatchNorm::new(9, vb.pp("norm")).unwrap(),
            last: Linear::new(9, 4, true, vb.pp("last")).unwrap(),
            parameters,
        };
        if let Some(device) = device {
            net.parameters.to_device(device).unwrap();
        }
        net
    }

    /// Adds the gradients of a loss of `input`; without the last layer's if it is left out.
    fn gradients(
        &self,
        device: Option<&Device>,
        input: &Tensor,
        whole: bool,
        gradients: &mut ParameterGradients,
    ) -> Result<()> {
        let mut tape = Tape::recording().on(device);
        let x = tape.input(input, false)?;
        let x = self.first.apply(&mut tape, &x)?;
        let mut x: Activation = self
            .norm
            .apply(&mut tape, &x, NormMode::Train, After::RELU)?;
        if whole {
            x = self.last.apply(&mut tape, &x)?;
        }
        let y = tape.output_vector(&x)?;
        let leaves = (y.sqr()? * normal(3, y.dims()))?.sum_all()?.backward()?;
        tape.backward(&leaves, gradients)?;
        Ok(())
    }

    fn values(&self) -> BTreeMap<String, Tensor> {
        self.parameters.to_host().unwrap();
        let vars = self.parameters.all().into_iter();
        vars.map(|(name, var)| (name, var.as_tensor().copy().unwrap()))
            .collect()
    }
}

/// The variables and the optimiser's state after four steps, the second of two batches, the third without the last
/// layer.
fn train<O: 'static>(
    device: Option<&Device>,
    make: &dyn Fn(BTreeMap<String, Var>) -> O,
    step: fn(&mut O, &ParameterGradients, f64) -> Result<()>,
    state: fn(&O) -> Result<BTreeMap<String, Tensor>>,
) -> BTreeMap<String, Tensor> {
    let net = Net::new(device);
    let vars = net.parameters.trainable();
    let mut optimizer = make(vars.clone());
    let mut norms = Vec::new();
    for at in 0..4 {
        let mut gradients = ParameterGradients::default();
        for part in 0..=u64::from(at == 1) {
            let mut more = ParameterGradients::default();
            let input = normal(10 * at + part, (7, 6));
            net.gradients(device, &input, at != 2, &mut more).unwrap();
            gradients.append(more).unwrap();
        }
        gradients
            .scale(vars.values().map(Var::as_tensor), 0.7)
            .unwrap();
        let norm = clip_gradient_norm(&vars, &mut gradients, Some(1.5)).unwrap();
        norms.push(norm as f32);
        step(&mut optimizer, &gradients, 0.05).unwrap();
    }
    let mut found = net.values();
    found.extend(state(&optimizer).unwrap().into_iter().map(|(name, t)| {
        let values = t.to_dtype(DType::F32).unwrap();
        (format!("state {name}"), values)
    }));
    let norms = Tensor::new(norms, &candle_core::Device::Cpu).unwrap();
    found.insert("gradient norms".to_owned(), norms);
    found
}

fn agrees<O: 'static>(
    what: &str,
    make: impl Fn(BTreeMap<String, Var>) -> O,
    step: fn(&mut O, &ParameterGradients, f64) -> Result<()>,
    state: fn(&O) -> Result<BTreeMap<String, Tensor>>,
) {
    let expected = train(None, &make, step, state);
    for (device, _) in devices().iter().filter(|(d, _)| d.real() == Real::F32) {
        let found = train(Some(device), &make, step, state);
        assert_close_each(what, &found, &expected, 1e-4);
    }
}

#[test]
fn optimisers_step_where_variables_live_as_on_the_cpu() {
    let missing = MissingGradient::Skip;
    let sgd = |vars| {
        let cfg = SgdConfig {
            missing,
            exclude_norm_and_bias: true,
            weight_decay: 0.05,
            ..SgdConfig::default()
        };
        Sgd::new(vars, &cfg).unwrap()
    };
    agrees("sgd", sgd, |o, g, lr| o.step(g, lr), Sgd::state);
    let adam = |vars| {
        let cfg = AdamConfig {
            missing,
            exclude_norm_and_bias: true,
            weight_decay: 0.1,
            ..AdamConfig::default()
        };
        Adam::new(vars, &cfg).unwrap()
    };
    agrees("adam", adam, |o, g, lr| o.step(g, lr), Adam::state);
    let lars = |vars| {
        let cfg = LarsConfig {
            missing,
            trust: 0.02,
            weight_decay: 0.05,
            ..LarsConfig::default()
        };
        Lars::new(vars, &cfg).unwrap()
    };
    agrees("lars", lars, |o, g, lr| o.step(g, lr), Lars::state);
}

#[test]
fn a_state_that_was_saved_goes_on_there_with_the_same_bits() {
    for (device, _) in devices() {
        let run = |resumed: bool| {
            let net = Net::new(Some(&device));
            let vars = net.parameters.trainable();
            let make = || Adam::new(vars.clone(), &AdamConfig::default()).unwrap();
            let mut adam = make();
            for at in 0..3 {
                if resumed && at == 2 {
                    let (values, state) = (net.values(), adam.state().unwrap());
                    adam = make();
                    adam.load_state(&state.into_iter().collect()).unwrap();
                    net.parameters
                        .set_all(&values.into_iter().collect())
                        .unwrap();
                }
                let mut gradients = ParameterGradients::default();
                let input = normal(at, (7, 6));
                net.gradients(Some(&device), &input, true, &mut gradients)
                    .unwrap();
                adam.step(&gradients, 0.05).unwrap();
            }
            let bits = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            net.values().values().map(bits).collect::<Vec<_>>()
        };
        assert_eq!(run(false), run(true), "{device:?}");
    }
}

#[test]
fn averages_are_those_of_the_cpu() {
    for (device, _) in devices() {
        let (online, target) = (Net::new(Some(&device)), Net::new(Some(&device)));
        let before = online.values();
        let moved: BTreeMap<String, Tensor> = (before.iter())
            .map(|(name, t)| (name.clone(), (t + normal(7, t.dims())).unwrap()))
            .collect();
        online
            .parameters
            .set_all(&moved.clone().into_iter().collect())
            .unwrap();
        let targets = target.parameters.all();
        let pairs: Vec<_> = (online.parameters.all().into_iter())
            .map(|(name, var)| Following {
                copied: name.contains("running"),
                target: targets[&name].clone(),
                online: var,
            })
            .collect();
        follow(&device, &pairs, 0.9).unwrap();
        let expected = before.iter().map(|(name, old)| {
            let new = &moved[name];
            let value = match name.contains("running") {
                true => new.clone(),
                false => ((old * 0.9).unwrap() + (new * 0.1).unwrap()).unwrap(),
            };
            (name.clone(), value)
        });
        assert_close_each("average", &target.values(), &expected.collect(), 1e-5);
    }
}

#[test]
fn variables_leave_with_the_last_handle_and_live_in_one_place() {
    let found = devices();
    let [(device, _), (other, _)] = found.as_slice() else {
        return;
    };
    let before = device.memory().unwrap().held;
    let net = Net::new(Some(device));
    assert!(device.memory().unwrap().held > before);
    let error = net.parameters.to_device(other).unwrap_err().to_string();
    assert!(error.contains("was asked for"), "{error}");
    drop(net);
    assert_eq!(device.memory().unwrap().held, before);
}

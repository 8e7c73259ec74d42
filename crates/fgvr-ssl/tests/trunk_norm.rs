//! A trunk whose batch norm keeps its running statistics while it is trained.
#![allow(clippy::unwrap_used)] // in helpers of tests

mod toy;

use std::collections::BTreeMap;

use candle_core::Tensor;
use fgvr_nn::{NormMode, ParameterGradients};
use fgvr_ssl::{Base, BaseKind, Network, NormedBy, Parts, RunLength, TrunkNorm, Views};
use toy::{ToyEncoder, batch, crops, network, settings};

const N: usize = 8;

fn base(kind: BaseKind, norm: TrunkNorm) -> Box<dyn Base> {
    let mut seed = 0;
    let mut make = || {
        seed += 1;
        let Network {
            encoder,
            parameters,
        } = network(seed);
        // Statistics that those of a batch are not.
        for (name, var) in parameters.buffers() {
            let value = if name.ends_with("var") { 2. } else { 0.3 };
            var.set(&(var.ones_like()? * value)?)?;
        }
        let network = Network {
            encoder: NormedBy::<ToyEncoder>::new(encoder, norm),
            parameters,
        };
        Ok(network.any())
    };
    let run = RunLength {
        steps: 20,
        steps_per_epoch: 5,
    };
    let parts = Parts {
        network: &mut make,
        seed: 1,
        run,
    };
    settings().of(kind).build(parts).unwrap()
}

/// Loss and gradients of one batch; nothing is stepped.
fn gradients(base: &mut dyn Base, seed: u64) -> (f64, ParameterGradients) {
    let ([first, second], images) = batch(seed, N);
    let local = crops(base.kind(), &settings(), seed, N);
    let views = Views {
        global: [&first, &second],
        local: &local,
        sent: None,
    };
    let pass = base.real(views, &images).unwrap();
    let loss = f64::from(pass.found.tensor().unwrap().to_scalar::<f32>().unwrap());
    let (leaves, mut gradients) = (
        pass.found.tensor().unwrap().backward().unwrap(),
        ParameterGradients::default(),
    );
    pass.backward(leaves.into(), &base.trainable(), &mut gradients)
        .unwrap();
    (loss, gradients)
}

fn step(base: &mut dyn Base, seed: u64, rate: f64) {
    let (_, gradients) = gradients(base, seed);
    let withheld = base.withheld();
    let mut vars = base.trainable();
    vars.retain(|name, _| !withheld.contains(name));
    toy::descend(&vars, &gradients, rate);
    base.after_step().unwrap();
}

/// Running statistics of the trunk and of the one that follows it.
fn statistics(base: &dyn Base) -> BTreeMap<String, Vec<f32>> {
    let state = base.state().unwrap().into_iter();
    let of_trunk = |name: &String| name.contains("encoder.") && name.contains(".running_");
    state
        .filter(|(name, _)| of_trunk(name))
        .map(|(name, t)| (name, t.flatten_all().unwrap().to_vec1().unwrap()))
        .collect()
}

#[test]
fn no_step_moves_the_trunks_statistics_nor_its_features_at_a_rate_of_zero() {
    for kind in BaseKind::ALL {
        let mut base = base(kind, TrunkNorm::Running);
        let before = statistics(base.as_ref());
        let trunks = if base.target_encoder().is_none() {
            1
        } else {
            2
        };
        assert_eq!(before.len(), 2 * trunks, "{kind}");
        let ([seen, _], _) = batch(70, N);
        let features = |base: &dyn Base| -> Vec<Vec<f32>> {
            let features = base.encoder().features(&seen, NormMode::Eval).unwrap();
            features.pooled.to_vec2().unwrap()
        };
        let start = features(base.as_ref());
        (0..3).for_each(|seed| step(base.as_mut(), seed, 0.));
        assert_eq!(features(base.as_ref()), start, "{kind}");
        (3..6).for_each(|seed| step(base.as_mut(), seed, 0.1));
        assert_eq!(statistics(base.as_ref()), before, "{kind}");
        assert_ne!(features(base.as_ref()), start, "{kind}");
        // What it is for: with the batch's statistics a rate of 0 changes features.
        let mut by_batch = self::base(kind, TrunkNorm::Batch);
        step(by_batch.as_mut(), 0, 0.);
        assert_ne!(features(by_batch.as_ref()), start, "{kind}");
    }
}

/// A base whose targets are of another network, or none, so that the loss's slope is the gradient.
#[test]
fn gradients_are_those_of_finite_differences() {
    for kind in [
        BaseKind::MOCO_V2,
        BaseKind::BYOL,
        BaseKind::MOCO_V3,
        BaseKind::DINO,
        BaseKind::DIET,
    ] {
        let mut base = base(kind, TrunkNorm::Running);
        // MoCo v2 has no negatives at its first step, DINO's prototypes are frozen in the first epoch.
        (0..6).for_each(|seed| step(base.as_mut(), seed, 0.05));
        let (_, found) = gradients(base.as_mut(), 9);
        for (name, var) in base.trainable() {
            let gradient = found.get(&var).unwrap();
            let length = gradient.sqr().unwrap().sum_all().unwrap();
            let length = f64::from(length.to_scalar::<f32>().unwrap()).sqrt();
            // In front of a norm, a bias changes nothing: its gradient is rounding.
            if length < 1e-4 {
                continue;
            }
            let start = var.copy().unwrap();
            let mut at = |step: f64| {
                let moved: Tensor = (&start + (gradient * (step / length)).unwrap()).unwrap();
                var.set(&moved).unwrap();
                gradients(base.as_mut(), 9).0
            };
            let slope = (at(2e-3) - at(-2e-3)) / 4e-3;
            at(0.);
            let off = (slope - length).abs();
            assert!(
                off < 0.05 * length + 1e-3,
                "{kind}: {name}: slope {slope}, length of the gradient {length}"
            );
        }
    }
}

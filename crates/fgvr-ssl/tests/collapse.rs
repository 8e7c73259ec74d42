//! SimSiam's stop-gradient is what keeps it from collapsing.
#![allow(clippy::unwrap_used)] // in helpers of tests

mod toy;

use fgvr_nn::ParameterGradients;
use fgvr_nn::optim::{Sgd, SgdConfig};
use fgvr_ssl::{BaseKind, FeatureStatistics};
use toy::{base, batch, settings};

/// The engine's alarm rings below this.
const MIN_EMBEDDING_STD: f64 = 0.1;
const STEPS: u64 = 250;
/// The last steps, over which figures are averaged.
const LAST: usize = 20;

/// The figure that the alarm looks at, at each step. The projector has no batch norm behind its last layer:
/// with it, a collapsing network at first uses fewer dimensions rather than a smaller part of each.
fn train(stop_gradient: bool) -> Vec<f64> {
    let mut settings = settings();
    settings.simsiam.stop_gradient = stop_gradient;
    settings.simsiam.last_norm = false;
    let mut base = base(BaseKind::SIMSIAM, &settings, 1);
    let mut sgd = Sgd::new(base.trainable(), &SgdConfig::default()).unwrap();
    (0..STEPS)
        .map(|step| {
            let ([first, second], images) = batch(step % 16, 32);
            let pass = base.real([&first, &second].into(), &images).unwrap();
            let query = pass.query.to_host().unwrap();
            let dim = query.dim(1).unwrap() as f64;
            let std = FeatureStatistics::of(&query).unwrap().std * dim.sqrt();
            let (leaves, mut gradients) = (
                pass.found.tensor().unwrap().backward().unwrap(),
                ParameterGradients::default(),
            );
            pass.backward(leaves.into(), &base.trainable(), &mut gradients)
                .unwrap();
            sgd.step(&gradients, 0.5).unwrap();
            base.after_step().unwrap();
            std
        })
        .collect()
}

#[test]
fn without_stop_gradient_the_embedding_collapses_and_with_it_not() {
    let (with, without) = (train(true), train(false));
    let last = |of: &[f64]| of[of.len() - LAST..].iter().sum::<f64>() / LAST as f64;
    println!(
        "s.d. {:.3} with, {:.3} without",
        last(&with),
        last(&without)
    );
    assert!(without[0] > 0.5 && last(&without) < MIN_EMBEDDING_STD);
    assert!(with.iter().all(|std| *std > 2. * MIN_EMBEDDING_STD));
}

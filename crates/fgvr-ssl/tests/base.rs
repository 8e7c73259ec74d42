//! A pass with two query branches, as objectives symmetric in the views have.
#![allow(clippy::unwrap_used)] // in helpers of tests

mod toy;

use candle_core::{Tensor, Var};
use fgvr_nn::{NormMode, ParameterGradients};
use fgvr_ssl::{Branch, FeatureGradients, FeatureOutput, Found, InfoNce, Pass, Rows, Values};
use fgvr_testkit::{assert_close, normal};
use toy::{WIDTH, batch, network};

/// Two query passes, and a loss that weighs the first by 1 and the second by -3.
fn pass(network: &fgvr_ssl::Network<toy::ToyEncoder>, views: [&Tensor; 2]) -> Pass {
    let branches = [0, 1].map(|view| {
        let images = Values::from(views[view]);
        Branch::forward(&network.encoder, &images, NormMode::Train, view).unwrap()
    });
    let pooled = |branch: &Branch| branch.leaves().unwrap().pooled.clone();
    let sum = |branch: &Branch| pooled(branch).sum_all().unwrap();
    let loss = (sum(&branches[0]) - (sum(&branches[1]) * 3.).unwrap()).unwrap();
    let pooled = Rows::Host(pooled(&branches[1]).detach());
    Pass {
        branches: branches.into(),
        found: Found::Host(InfoNce {
            loss,
            top1: 0.,
            positive: 0.,
            negative: None,
        }),
        query: pooled.clone(),
        keys: pooled.clone(),
        key_pooled: pooled,
        key_map: None,
    }
}

fn leaves(pass: &Pass) -> FeatureGradients {
    pass.found.tensor().unwrap().backward().unwrap().into()
}

#[test]
fn gradients_of_two_branches_add_up_in_the_trunk() {
    let network = network(1);
    let ([first, second], _) = batch(0, 4);
    let pass = pass(&network, [&first, &second]);
    let rows = |t: &Rows| {
        t.to_host()
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
    };
    assert_eq!(pass.pooled().unwrap().len(), 2);

    let mut leaves = leaves(&pass);
    let at_features = pass.pooled_gradient(&leaves).unwrap();
    assert!(rows(&at_features[0]).iter().all(|g| *g == 1.));
    assert!(rows(&at_features[1]).iter().all(|g| *g == -3.));
    for (seed, branch) in [9, 10].into_iter().zip(&pass.branches) {
        let added = Values::from(&normal(seed, (4, WIDTH)));
        leaves.add(branch, FeatureOutput::Pooled, &added).unwrap();
    }
    let summed = pass.pooled_gradient(&leaves).unwrap();

    let vars = network.parameters.trainable();
    let mut gradients = ParameterGradients::default();
    pass.backward(leaves, &vars, &mut gradients).unwrap();
    let graph = |view: &Tensor, branch: usize| {
        let (map, _) = network.encoder.graph(view, NormMode::NoUpdate).unwrap();
        let weight = summed[branch].to_host().unwrap();
        (map.mean((2, 3)).unwrap() * weight)
            .unwrap()
            .sum_all()
            .unwrap()
    };
    let total = (graph(&first, 0) + graph(&second, 1)).unwrap();
    let expected = total.backward().unwrap();
    for (name, var) in &vars {
        let found = gradients.get(var).unwrap();
        assert_close(name, found, expected.get(var).unwrap(), 1e-4);
    }
}

#[test]
fn a_loss_that_does_not_depend_on_a_branch_is_an_error() {
    let network = network(1);
    let ([first, second], _) = batch(0, 4);
    let pass = pass(&network, [&first, &second]);
    let elsewhere = Var::from_tensor(&first).unwrap();
    let elsewhere = elsewhere.sum_all().unwrap().backward().unwrap();
    let error = pass.pooled_gradient(&elsewhere.into()).unwrap_err();
    assert!(error.to_string().contains("features of view 0"), "{error}");
    let short = Values::from(&normal(9, (3, WIDTH)));
    let error = leaves(&pass).add(&pass.branches[0], FeatureOutput::Pooled, &short);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("[3, "), "{error}");
}

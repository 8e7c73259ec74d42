//! A pass with two query branches, as objectives symmetric in the views have.
#![allow(clippy::unwrap_used)] // in helpers of tests

mod toy;

use candle_core::{Tensor, Var};
use fgvr_nn::ParameterGradients;
use fgvr_nn::{Encoder, NormMode};
use fgvr_ssl::{Branch, Pass};
use fgvr_testkit::{assert_close, normal};
use toy::{WIDTH, batch, network};

/// Two query passes, and a loss that weighs the first by 1 and the second by -3.
fn pass(network: &fgvr_ssl::Network<toy::ToyEncoder>, views: [&Tensor; 2]) -> Pass {
    let branches = [0, 1].map(|view| {
        let (features, tape) = network
            .encoder
            .forward_train(views[view], NormMode::Train)
            .unwrap();
        Branch {
            features,
            tape,
            view,
        }
    });
    let sum = |branch: &Branch| branch.features.pooled.sum_all().unwrap();
    let loss = (sum(&branches[0]) - (sum(&branches[1]) * 3.).unwrap()).unwrap();
    let pooled = branches[1].features.pooled.detach();
    Pass {
        branches: branches.into(),
        loss,
        queries: vec![],
        query: pooled.clone(),
        keys: pooled.clone(),
        key_pooled: pooled,
        key_map: None,
        top1: 0.,
        positive: 0.,
        negative: None,
    }
}

#[test]
fn two_branches_stack_and_their_gradients_add_up_in_the_trunk() {
    let network = network(1);
    let ([first, second], _) = batch(0, 4);
    let views = [&first, &second];
    let pass = pass(&network, views);
    let rows = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let both = Tensor::cat(&[&first, &second], 0).unwrap();
    assert_eq!(rows(&pass.seen(views.into()).unwrap()), rows(&both));
    assert_eq!(pass.pooled().unwrap().dims(), [8, WIDTH]);

    let mut leaves = pass.loss.backward().unwrap();
    let at_features = rows(&pass.pooled_gradient(&leaves).unwrap());
    assert!(at_features[..4 * WIDTH].iter().all(|g| *g == 1.));
    assert!(at_features[4 * WIDTH..].iter().all(|g| *g == -3.));
    let added = normal(9, (8, WIDTH));
    pass.add_pooled_gradient(&mut leaves, &added).unwrap();
    let summed = pass.pooled_gradient(&leaves).unwrap();

    let vars = network.parameters.trainable();
    let mut gradients = ParameterGradients::default();
    pass.backward(leaves, &vars, &mut gradients).unwrap();
    let graph = |view: &Tensor, from: usize| {
        let (map, _) = network.encoder.graph(view, NormMode::NoUpdate).unwrap();
        let weight = summed.narrow(0, from, 4).unwrap();
        (map.mean((2, 3)).unwrap() * weight)
            .unwrap()
            .sum_all()
            .unwrap()
    };
    let total = (graph(&first, 0) + graph(&second, 4)).unwrap();
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
    let leaves = elsewhere.sum_all().unwrap().backward().unwrap();
    let error = pass.pooled_gradient(&leaves).unwrap_err().to_string();
    assert!(error.contains("features of view 0"), "{error}");
    let short = normal(9, (7, WIDTH));
    let mut leaves = pass.loss.backward().unwrap();
    let error = pass
        .add_pooled_gradient(&mut leaves, &short)
        .unwrap_err()
        .to_string();
    assert!(error.contains("7 rows"), "{error}");
}

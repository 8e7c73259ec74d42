//! Patch match against PyTorch, what it compares with what, and that it runs on bases of either kind.
#![allow(clippy::unwrap_used)] // in helpers of tests

mod toy;

use std::collections::HashMap;

use candle_core::{Device, Tensor, Var};
use fgvr_ssl::{
    Addon, AddonParts, BaseKind, MethodConfig as _, PatchMatch, PatchMatchConfig, RunLength, Views,
    step,
};
use fgvr_testkit::{assert_close, golden, uniform};
use toy::{WIDTH, base, batch, crops, input, settings};

fn patch_match(cfg: &PatchMatchConfig, width: usize) -> PatchMatch {
    let run = RunLength {
        steps: 10,
        steps_per_epoch: 2,
    };
    let parts = AddonParts::new(width, 2, run);
    PatchMatch::new(cfg, parts).unwrap()
}

#[test]
fn loss_and_gradients_are_pytorchs() {
    let golden = golden("patch_match.safetensors");
    let cfg = PatchMatchConfig {
        dim: 6,
        hidden: Some(7),
        ..PatchMatchConfig::default()
    };
    let method = patch_match(&cfg, 5);
    for (name, var) in method.trainable() {
        let name = name.strip_prefix("addon.patch_match.").unwrap();
        var.set(&golden.get(&format!("head.{name}"))).unwrap();
    }
    let leaf = |name: &str| Var::from_tensor(&golden.get(name)).unwrap();
    let (first, second) = (leaf("first"), leaf("second"));
    let images = [4, 9, 4, 2];
    let between = |a: &Tensor, b: &Tensor| method.between(a, b, &images, [0, 0]).unwrap().loss;
    let (forth, back) = (between(&first, &second), between(&second, &first));
    assert_close("forth", &forth, &golden.get("forth"), 1e-5);
    assert_close("back", &back, &golden.get("back"), 1e-5);
    let loss = ((forth + back).unwrap() * 0.5).unwrap();
    let gradients = loss.backward().unwrap();
    let mut vars = vec![
        ("first".to_owned(), first.clone()),
        ("second".to_owned(), second.clone()),
    ];
    for (name, var) in method.trainable() {
        let name = name.strip_prefix("addon.patch_match.").unwrap();
        vars.push((name.to_owned(), var));
    }
    for (name, var) in vars {
        let expected = golden.get(&format!("grad.{name}"));
        assert_close(&name, gradients.get(&var).unwrap(), &expected, 1e-4);
    }
}

#[test]
fn every_base_gets_a_gradient_through_its_maps_and_its_own_loss_stays() {
    for kind in BaseKind::ALL {
        let gradient = |weight: f64| {
            let mut base = base(kind, &settings(), 1);
            let mut method = patch_match(
                &PatchMatchConfig {
                    weight,
                    ..PatchMatchConfig::default()
                },
                WIDTH,
            );
            let ([first, second], images) = batch(0, 8);
            let local = crops(kind, &settings(), 0, 8);
            let input = input(
                Views {
                    global: [&first, &second],
                    local: &local,
                    sent: None,
                },
                &images,
                0,
            );
            let output = step(base.as_mut(), &mut [&mut method], input).unwrap();
            let of = &base.trainable()["encoder.conv.weight"];
            let found = output.gradients.get(of).unwrap().clone();
            (found, output.losses, output.figures)
        };
        let (alone, losses, figures) = gradient(0.);
        assert!(losses.terms.len() == 1 && figures.is_empty(), "{kind}");
        let (once, one, figures) = gradient(1.);
        let (twice, ..) = gradient(2.);
        assert_eq!(one.base(), losses.base(), "{kind}");
        assert_eq!(one.terms[1].name, "loss_patch_match");
        assert!((0. ..=1.).contains(&figures[0].1), "{kind}: {figures:?}");
        let (once, twice) = ((once - &alone).unwrap(), (twice - &alone).unwrap());
        assert_close(kind.name(), &twice, &(once * 2.).unwrap(), 1e-4);
    }
}

#[test]
fn fewer_places_are_drawn_by_seed_step_and_image_and_the_match_is_among_all() {
    let cfg = PatchMatchConfig {
        places: 3,
        ..PatchMatchConfig::default()
    };
    let method = patch_match(&cfg, 4);
    let (map, other) = (
        uniform(1, (3, 4, 3, 3), 0., 1.),
        uniform(2, (3, 4, 3, 3), 0., 1.),
    );
    let loss = |map: &Tensor, other: &Tensor, images: &[u32], draw| {
        let found = method.between(map, other, images, draw).unwrap();
        found.loss.to_scalar::<f32>().unwrap()
    };
    let images = [1, 2, 3];
    assert_ne!(
        loss(&map, &other, &images, [1, 1]),
        loss(&map, &other, &images, [1, 2])
    );
    // The batch's order changes nothing.
    let order = Tensor::new(&[2u32, 0, 1], &Device::Cpu).unwrap();
    let turn = |x: &Tensor| x.index_select(&order, 0).unwrap();
    let turned = loss(&turn(&map), &turn(&other), &[3, 1, 2], [1, 1]);
    assert!((turned - loss(&map, &other, &images, [1, 1])).abs() < 1e-5);
    // A view's own copy: each place matches itself, and no image but its own looks the same.
    let same = method.between(&map, &map, &images, [1, 1]).unwrap();
    assert!(same.positive > 1. - 1e-5, "{}", same.positive);
    // One image alone has no negatives.
    let one = map.narrow(0, 0, 1).unwrap();
    assert_eq!(loss(&one, &one, &[1], [1, 1]), 0.);
}

#[test]
fn a_state_is_taken_over_and_bad_settings_are_refused_by_name() {
    let cfg = PatchMatchConfig::default();
    let (saved, mut loaded) = (patch_match(&cfg, 4), patch_match(&cfg, 4));
    for var in saved.trainable().values() {
        var.set(&(var.as_tensor() + 1.).unwrap()).unwrap();
    }
    let state: HashMap<_, _> = saved.state().unwrap().into_iter().collect();
    loaded.load_state(&state).unwrap();
    for (name, tensor) in loaded.state().unwrap() {
        assert_close(&name, &tensor, &state[&name], 1e-12);
    }
    let refused = |change: fn(&mut PatchMatchConfig)| {
        let mut cfg = PatchMatchConfig::default();
        change(&mut cfg);
        cfg.validate().unwrap_err().to_string()
    };
    assert!(refused(|cfg| cfg.weight = -1.).contains("weight is -1"));
    assert!(refused(|cfg| cfg.places = 0).contains("places is 0"));
    assert!(refused(|cfg| cfg.temperature = 0.).contains("temperature"));
    let map = uniform(1, (2, 4, 3, 3), 0., 1.);
    let other = uniform(1, (2, 4, 3, 2), 0., 1.);
    let error = saved.between(&map, &other, &[1, 2], [0, 0]).unwrap_err();
    assert!(error.to_string().contains("expected two of one shape"));
}

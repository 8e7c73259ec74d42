//! Local discrimination against PyTorch (`tests/golden/lodisc.py`), and what it leaves untouched.
#![allow(clippy::unwrap_used)] // in helpers of tests

mod toy;

use std::collections::HashMap;

use candle_core::{D, Device, Result, Tensor, Var};
use candle_nn::ops::softmax;
use fgvr_gradcam::Sign;
use fgvr_nn::ParameterGradients;
use fgvr_nn::{Activation, Encoder, FeatureMaps, Features, NormMode, Tape};
use fgvr_ssl::{
    Addon, AddonParts, Base, BaseKind, LODISC_RECIPE, LoDisc, LoDiscConfig, MethodConfig, MoCoV3,
    MoCoV3Config, MoCoV3Objective, Network, Objective, Parts, Regions, RunLength, StepOutput,
    Views, masked, step,
};
use fgvr_testkit::{assert_close, golden};
use toy::{SIDE, ToyEncoder, WIDTH, base, batch, input, network, settings, values};

const N: usize = 8;

/// A toy whose attention is a softmax over places of three of its channels, a layer each.
struct Attentive(ToyEncoder);

impl Encoder for Attentive {
    fn apply(&self, tape: &mut Tape, images: &Activation, norm: NormMode) -> Result<FeatureMaps> {
        self.0.apply(tape, images, norm)
    }

    fn forward_train(&self, images: &Tensor, norm: NormMode) -> Result<(Features, Tape)> {
        self.0.forward_train(images, norm)
    }

    fn features(&self, images: &Tensor, norm: NormMode) -> Result<Features> {
        self.0.features(images, norm)
    }

    fn class_attention(&self, images: &Tensor, norm: NormMode) -> Result<Option<Vec<Tensor>>> {
        let (map, _) = self.0.graph(images, norm)?;
        let (_, _, h, w) = map.dims4()?;
        let layer = |channel| {
            let flat = map.narrow(1, channel, 1)?.flatten_from(1)?.contiguous()?;
            softmax(&flat, D::Minus1)?.reshape(((), h, w))
        };
        [0, 3, 6]
            .into_iter()
            .map(layer)
            .collect::<Result<_>>()
            .map(Some)
    }

    fn width(&self) -> usize {
        WIDTH
    }
}

const RUN: RunLength = RunLength {
    steps: 20,
    steps_per_epoch: 5,
};

fn attentive(cfg: &MoCoV3Config) -> MoCoV3<Attentive> {
    let mut made = 0;
    let mut make = || {
        made += 1;
        let toy = network(100 * made);
        Ok(Network {
            encoder: Attentive(toy.encoder),
            parameters: toy.parameters,
        })
    };
    let parts = Parts {
        network: &mut make,
        seed: 5,
        run: RUN,
    };
    MoCoV3::new(cfg, parts).unwrap()
}

fn lodisc(cfg: LoDiscConfig) -> LoDisc {
    let parts = AddonParts::new(WIDTH, 2, RUN);
    LoDisc::new(&cfg, parts).unwrap()
}

fn of_regions(regions: Regions) -> LoDiscConfig {
    LoDiscConfig {
        regions,
        ..LoDiscConfig::default()
    }
}

fn take_step(
    base: &mut dyn Base,
    addon: &mut LoDisc,
    views: [&Tensor; 2],
    images: &[u32],
) -> Result<StepOutput> {
    let input = input(views, images, 0);
    step(base, &mut [addon], input)
}

/// The script's images.
fn image_values(stream: u64) -> Tensor {
    let value = |index: usize| {
        let wave = (12.9898 * index as f64 + 78.233 * stream as f64 + 0.5).sin() * 43758.5453;
        (2. * (wave - wave.floor()) - 1.) as f32
    };
    let all: Vec<f32> = (0..N * 3 * SIDE * SIDE).map(value).collect();
    Tensor::from_vec(all, (N, 3, SIDE, SIDE), &Device::Cpu).unwrap()
}

#[test]
fn a_step_on_moco_v3_is_pytorchs() {
    let golden = golden("lodisc.safetensors");
    let mut base = attentive(&settings().moco_v3);
    let mut state: HashMap<String, Tensor> = base.state().unwrap().into_iter().collect();
    for (name, tensor) in &mut state {
        if let Some(given) = golden.tensors().get(&format!("start.{name}")) {
            *tensor = given.clone();
        }
    }
    base.load_state(&state).unwrap();
    let first = image_values(1);
    let second = (&first + (image_values(2) * 0.3).unwrap()).unwrap();
    let images: Vec<u32> = (0..N as u32).collect();
    let mut addon = lodisc(LoDiscConfig::default());
    let output = take_step(&mut base, &mut addon, [&first, &second], &images).unwrap();

    let expected = golden.get("losses").to_vec1::<f32>().unwrap();
    let term = output.losses.terms[1];
    assert_eq!((term.name, term.weight), ("loss_local", 1.));
    let found = [output.losses.base(), term.loss];
    for (found, expected) in found.iter().zip(&expected) {
        assert!(
            (found - f64::from(*expected)).abs() < 1e-5,
            "{found} {expected}"
        );
    }
    assert!((output.losses.total - found[0] - found[1]).abs() < 1e-9);
    let (name, mask) = &output.pictures.as_ref().unwrap().maps[0];
    assert_eq!(*name, "pivotal");
    assert_close("mask of view 1", mask, &golden.get("mask.0"), 0.);
    for (view, images) in [&first, &second].into_iter().enumerate() {
        let mask = golden.get(&format!("mask.{view}"));
        let expected = golden.get(&format!("masked.{view}"));
        assert_close(
            "masked view",
            &masked(images, &mask).unwrap(),
            &expected,
            1e-6,
        );
    }
    for (name, var) in base.trainable() {
        let expected = golden.get(&format!("gradient.{name}"));
        assert_close(&name, output.gradients.get(&var).unwrap(), &expected, 1e-4);
    }
}

#[test]
fn the_gradient_at_the_queries_is_pytorchs() {
    let golden = golden("lodisc.safetensors");
    let objective = MoCoV3Objective::new(&MoCoV3Config::default()).unwrap();
    let images: Vec<u32> = (0..N as u32).collect();
    let q = [0, 1].map(|i| Var::from_tensor(&golden.get(&format!("q.{i}"))).unwrap());
    for (i, q) in q.iter().enumerate() {
        let of = |keys| {
            let keys = golden.get(&format!("{keys}.{}", 1 - i));
            objective.comparison().of(q, &keys, &images).unwrap().loss
        };
        let gradients = (of("k") + of("k_local")).unwrap().backward().unwrap();
        let expected = golden.get(&format!("q_grad.{i}"));
        assert_close("q", gradients.get(q).unwrap(), &expected, 1e-4);
    }
}

#[test]
fn losses_added_one_after_the_other_are_one_joint_backward() {
    let weight = 0.7;
    let ([first, second], images) = batch(1, N);
    let views = [&first, &second];
    let mut addon = lodisc(LoDiscConfig {
        weight,
        ..LoDiscConfig::default()
    });
    let mut base = attentive(&settings().moco_v3);
    let found = take_step(&mut base, &mut addon, views, &images).unwrap();
    base.forget_step();

    let mut again = attentive(&settings().moco_v3);
    let target = again.target().unwrap();
    let masks = views.map(|view| {
        let layers = target.encoder.class_attention(view, NormMode::NoUpdate);
        let scores = fgvr_ssl::attention_product(&layers.unwrap().unwrap()).unwrap();
        fgvr_ssl::pivotal_mask(&scores, 0.3).unwrap()
    });
    let local = [0, 1].map(|i| masked(views[i], &masks[i]).unwrap());
    let pass = again.real(views.into(), &images).unwrap();
    let other = again
        .against(&pass, [&local[0], &local[1]], &images)
        .unwrap();
    let other = other.tensor().unwrap();
    let leaves = (pass.found.tensor().unwrap() + (other * weight).unwrap())
        .unwrap()
        .backward()
        .unwrap();
    let (trainable, mut gradients) = (again.trainable(), ParameterGradients::default());
    pass.backward(leaves.into(), &trainable, &mut gradients)
        .unwrap();
    let of_base = base.trainable();
    assert!(
        trainable
            .keys()
            .any(|name| name.starts_with("head.predictor"))
    );
    for (name, var) in trainable {
        let joint = gradients.get(&var).unwrap();
        let added = found.gradients.get(&of_base[&name]).unwrap();
        assert_close(&name, added, joint, 1e-5);
    }
}

/// A step without change of weights, after which a queue holds keys: against an empty one the loss is 0.
fn fill(base: &mut dyn Base) {
    let ([first, second], images) = batch(2, N);
    let local = toy::crops(base.kind(), &settings(), 2, N);
    let views = Views {
        global: [&first, &second],
        local: &local,
        sent: None,
    };
    base.real(views, &images).unwrap();
    base.after_step().unwrap();
}

/// Every tensor of a base's state, as text.
fn snapshot(base: &dyn Base) -> Vec<(String, String)> {
    let state = base.state().unwrap().into_iter();
    state
        .map(|(name, t)| {
            (
                name,
                format!(
                    "{:?}",
                    t.to_dtype(candle_core::DType::F64)
                        .unwrap()
                        .flatten_all()
                        .unwrap()
                        .to_vec1::<f64>()
                        .unwrap()
                ),
            )
        })
        .collect()
}

#[test]
fn the_local_branch_leaves_no_statistic_queue_or_key_and_reaches_no_target() {
    for kind in BaseKind::ALL {
        if kind.refuses_view_targets().is_some() {
            continue;
        }
        let settings = settings();
        let ([first, second], images) = batch(1, N);
        let local = toy::crops(kind, &settings, 1, N);
        let run = |weight| {
            let mut base = base(kind, &settings, 1);
            fill(base.as_mut());
            let mut addon = lodisc(LoDiscConfig {
                weight,
                ..LoDiscConfig::default()
            });
            let input = input(
                Views {
                    global: [&first, &second],
                    local: &local,
                    sent: None,
                },
                &images,
                0,
            );
            let output = step(base.as_mut(), &mut [&mut addon], input).unwrap();
            let before = snapshot(base.as_ref());
            // Weights are as they were: the average moves nothing but by rounding, queues take the keys.
            base.after_step().unwrap();
            (output, before, snapshot(base.as_ref()), base.trainable())
        };
        let (alone, before, after, _) = run(0.);
        let (with, same, too, trainable) = run(1.);
        assert!(alone.losses.terms.len() == 1);
        assert_eq!(with.losses.terms.len(), 2, "{kind}");
        assert_eq!(with.losses.base(), alone.losses.base(), "{kind}");
        assert!(with.losses.terms[1].loss.is_finite());
        assert_eq!(before, same, "{kind}");
        assert_eq!(after, too, "{kind}");
        assert_eq!(with.figures[0].0, "lodisc_mass", "{kind}");
        let reached = trainable
            .values()
            .filter(|var| with.gradients.get(var).is_some());
        assert_eq!(
            reached.count() + usize::from(kind == BaseKind::DINO),
            trainable.len()
        );
        // Gradients of the trained variables and no others.
        assert_eq!(
            with.gradients.get_ids().count(),
            alone.gradients.get_ids().count(),
            "{kind}"
        );
    }
}

#[test]
fn each_kind_of_region_gives_a_mask_of_its_own_and_of_equal_size() {
    let ([first, second], images) = batch(1, N);
    let mut masks = Vec::new();
    for (regions, sign) in [
        (Regions::AutoByEncoder, Sign::LowersLoss),
        (Regions::Attention, Sign::LowersLoss),
        (Regions::GradCam, Sign::LowersLoss),
        (Regions::GradCam, Sign::RaisesLoss),
        (Regions::Random, Sign::LowersLoss),
    ] {
        let mut base = attentive(&settings().moco_v3);
        let mut addon = lodisc(LoDiscConfig {
            sign,
            ..of_regions(regions)
        });
        let output = take_step(&mut base, &mut addon, [&first, &second], &images).unwrap();
        let mask = output.pictures.unwrap().maps.remove(0).1;
        assert_eq!(mask.dims(), [N, 4, 4]);
        let counts = mask.sum((1, 2)).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(counts, [4.; N], "{regions:?}");
        assert_eq!(output.figures.is_empty(), regions == Regions::Random);
        for (_, mass) in output.figures {
            assert!(
                (0. ..=1.).contains(&mass) && mass > 0.25,
                "{regions:?} {mass}"
            );
        }
        let map = addon.map(&base, &first, &second, &images).unwrap().unwrap();
        assert_eq!(map.sum((1, 2)).unwrap().to_vec1::<f32>().unwrap(), counts);
        masks.push(mask.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    }
    assert_eq!(masks[0], masks[1]);
    for (a, b) in [(1, 2), (2, 3), (2, 4), (1, 4)] {
        assert_ne!(masks[a], masks[b]);
    }
    // The two signs rank in opposite orders.
    let both = masks[2]
        .iter()
        .zip(&masks[3])
        .filter(|(a, b)| **a + **b == 2.);
    assert_eq!(both.count(), 0);
}

#[test]
fn moco_v2_masks_the_view_of_its_keys() {
    let ([first, second], images) = batch(1, N);
    let mut base = base(BaseKind::MOCO_V2, &settings(), 1);
    fill(base.as_mut());
    let mut addon = lodisc(LoDiscConfig::default());
    let output = take_step(base.as_mut(), &mut addon, [&first, &second], &images).unwrap();
    base.forget_step();
    let mask = addon
        .map(base.as_ref(), &second, &first, &images)
        .unwrap()
        .unwrap();
    let pass = base.real([&first, &second].into(), &images).unwrap();
    let local = masked(&second, &mask).unwrap();
    let expected = base.against(&pass, [&first, &local], &images).unwrap();
    let expected = expected.numbers().unwrap().loss;
    // The first pass moved the running statistics by which the region is found again.
    let found = output.losses.terms[1].loss;
    assert!(
        (found - expected).abs() < 0.1 * expected,
        "{found} {expected}"
    );
    assert_ne!(found, output.losses.base());
}

#[test]
fn the_released_form_has_no_projector_a_faster_average_and_dropout() {
    let released = MoCoV3Config {
        projector_layers: 0,
        updates_per_step: 4,
        predictor_dropout: 0.2,
        ..settings().moco_v3
    };
    let ([first, second], images) = batch(1, N);
    let mut base = attentive(&released);
    assert!((base.momentum().unwrap() - 0.9f64.powi(4)).abs() < 1e-12);
    let names: Vec<_> = base.trainable().into_keys().collect();
    assert!(
        !names.iter().any(|name| name.contains("projector")),
        "{names:?}"
    );
    let mut addon = lodisc(LoDiscConfig::default());
    let output = take_step(&mut base, &mut addon, [&first, &second], &images).unwrap();
    assert_eq!(output.query.dims(), [N, WIDTH]);
    let loss = |base: &mut MoCoV3<Attentive>| {
        let pass = base.real([&first, &second].into(), &images).unwrap();
        (
            pass.found.tensor().unwrap().to_scalar::<f32>().unwrap(),
            pass.keys.to_host().unwrap(),
            pass.key_pooled.to_host().unwrap(),
        )
    };
    // The same step draws the same, another one draws anew, and without dropout it is another loss.
    let (once, keys, pooled) = loss(&mut base);
    assert_eq!(once, loss(&mut base).0);
    let normalised = fgvr_ssl::l2_normalise(&pooled).unwrap();
    assert_close("keys are features", &keys, &normalised, 1e-6);
    let mut plain = attentive(&MoCoV3Config {
        predictor_dropout: 0.,
        ..released.clone()
    });
    assert_ne!(once, loss(&mut plain).0);
    let before = values(&base.trainable());
    base.after_step().unwrap();
    assert_eq!(before, values(&base.trainable()));
    assert_ne!(once, loss(&mut base).0);
    for (cfg, words) in [
        (
            MoCoV3Config {
                predictor_dropout: 1.,
                ..released.clone()
            },
            "predictor_dropout is 1",
        ),
        (
            MoCoV3Config {
                updates_per_step: 0,
                ..released
            },
            "updates_per_step is 0",
        ),
    ] {
        let error = cfg.validate().unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let refused = |cfg: LoDiscConfig| cfg.validate().unwrap_err().to_string();
    let weight = LoDiscConfig {
        weight: f64::NAN,
        ..LoDiscConfig::default()
    };
    assert!(refused(weight).contains("weight is NaN"));
    let fraction = LoDiscConfig {
        fraction: 1.,
        ..LoDiscConfig::default()
    };
    assert!(refused(fraction).contains("fraction is 1"));
    let cfg = LoDiscConfig::default();
    cfg.masks(224, 14).unwrap();
    for (side, cells, words) in [
        (32, 1, "the map has 1 cell"),
        (
            30,
            4,
            "images of 30 x 30, expected multiples of the map's side 4",
        ),
    ] {
        let error = cfg.masks(side, cells).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    // A map whose cells do not divide the image, a toy without attention.
    let ([first, second], images) = batch(1, N);
    let mut toy = base(BaseKind::MOCO_V3, &settings(), 1);
    let mut addon = lodisc(of_regions(Regions::Attention));
    let error = take_step(toy.as_mut(), &mut addon, [&first, &second], &images);
    let error = error.err().unwrap().to_string();
    assert!(error.contains("no class token"), "{error}");
    assert_eq!(LODISC_RECIPE.weight_decay, [0.5, 0.5]);
    assert_eq!(LODISC_RECIPE.learning_rate.warm_up_epochs, 0);
}

//! Variants of SynthPair: what each changes, and what it must leave alone.
#![allow(clippy::unwrap_used)] // in helpers of tests

mod toy;

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, Var};
use fgvr_nn::NormMode;
use fgvr_nn::ParameterGradients;
use fgvr_perturb::MaskRule;
use fgvr_ssl::{
    Arm, Base, BaseKind, Branch, Course, CurriculumConfig, FeatureGradients, FeatureOutput,
    MethodConfig, PairOf, Rows, Space, StepInput, StepOutput, SynthPair, SynthPairConfig, Values,
    Views,
};
use fgvr_testkit::{assert_close, uniform};
use toy::{ToyDecoder, WIDTH, base, batch, descend, figure, moco, moco_config, settings, values};

const N: usize = 8;
const STEPS: u64 = 10;

/// A short run's choices, with a pair from the second step on.
fn config(arm: Arm) -> SynthPairConfig {
    let mut cfg = SynthPairConfig {
        bank_size: 40,
        bank_minimum: 8,
        warm_up: 0.,
        ramp: 0.,
        ..SynthPairConfig::default()
    };
    arm.apply(&mut cfg);
    cfg
}

fn step(base: &mut dyn Base, method: &mut SynthPair, step: u64) -> Result<StepOutput> {
    let ([first, second], images) = batch(step, N);
    let input = StepInput {
        base_weight: 1.,
        views: Views::from([&first, &second]),
        images: &images,
        step,
        total_steps: STEPS,
        seed: 3,
        augment: &|images, view| images * (1. + 0.1 * view as f64),
        augment_on_device: None,
        pictures: true,
    };
    method.step(base, input)
}

const WITH_PAIRS: [BaseKind; 4] = [
    BaseKind::MOCO_V2,
    BaseKind::SIMSIAM,
    BaseKind::BYOL,
    BaseKind::MOCO_V3,
];

#[test]
fn the_feature_twin_needs_no_decoder_and_trains_on_every_base() {
    for kind in WITH_PAIRS {
        let mut base = base(kind, &settings(), 1);
        let cfg = config(Arm::FeatureTwin);
        assert!(!cfg.uses_decoder());
        let mut method = SynthPair::new(&cfg, WIDTH, None).unwrap();
        for number in 0..6 {
            let output = step(base.as_mut(), &mut method, number).unwrap();
            assert_eq!(
                output.losses.get("loss_pair").is_some(),
                number > 0,
                "{kind}"
            );
            assert!(output.losses.total.is_finite());
            if number > 0 {
                let of = |name| figure(&output, name).unwrap();
                assert!(of("pair_difference") > 0. && of("pair_same_cosine") < 1.);
                let pictures = output.pictures.as_ref().unwrap();
                assert!(pictures.mask("synthpair").is_some());
            }
            descend(&base.trainable(), &output.gradients, 0.05);
            base.after_step().unwrap();
        }
    }
}

#[test]
fn a_twin_of_no_weight_leaves_the_base_bit_for_bit() {
    let run = |cfg: &SynthPairConfig| {
        let mut base = base(BaseKind::MOCO_V2, &settings(), 1);
        let mut method = SynthPair::new(cfg, WIDTH, None).unwrap();
        for number in 0..4 {
            let output = step(base.as_mut(), &mut method, number).unwrap();
            descend(&base.trainable(), &output.gradients, 0.1);
            base.after_step().unwrap();
        }
        values(&base.trainable())
    };
    let twin = SynthPairConfig {
        nu: 0.,
        ..config(Arm::FeatureTwin)
    };
    assert_eq!(run(&config(Arm::Base)), run(&twin));
}

#[test]
fn a_twin_with_reconstruction_decodes_and_makes_no_pair_of_images() {
    let mut base = base(BaseKind::MOCO_V2, &settings(), 1);
    let decoder = ToyDecoder::new(5).unwrap();
    let mut cfg = config(Arm::FeatureTwin);
    cfg.alpha = 0.05;
    assert!(cfg.uses_decoder());
    let mut method = SynthPair::new(&cfg, WIDTH, decoder.network()).unwrap();
    for number in 0..3 {
        let output = step(base.as_mut(), &mut method, number).unwrap();
        assert!(output.losses.get("loss_reconstruction").is_some());
        for var in decoder.parameters.trainable().values() {
            assert!(output.gradients.get(var).is_some());
        }
        let pictures = output.pictures.unwrap();
        assert!(pictures.images("reconstruction").is_some() && pictures.images("key").is_none());
        base.after_step().unwrap();
    }
}

/// The toy bases' loss between features is that of a generated pair whose features they are.
#[test]
fn the_loss_between_features_is_that_of_images_with_these_features() {
    for kind in WITH_PAIRS {
        let mut base = base(kind, &settings(), 1);
        let ([first, second], images) = batch(3, N);
        let features = |base: &dyn Base, view: &Tensor, target: bool| {
            let encoder = match (target, base.target_encoder()) {
                (true, Some(encoder)) => encoder,
                _ => base.encoder(),
            };
            encoder.features(view, NormMode::NoUpdate).unwrap().pooled
        };
        let pass = base
            .generated([&(&first).into(), &(&second).into()], &images)
            .unwrap();
        let query = features(base.as_ref(), &first, false);
        // Before the first average both networks are the same. MoCo's key encoder takes its statistics
        // over sub-batches; its pooled features stand in the pass.
        let key = match kind {
            BaseKind::MOCO_V2 => pass.key_pooled.to_host().unwrap(),
            _ => features(base.as_ref(), &second, true),
        };
        let before = base.state().unwrap();
        let between = base
            .between(&(&query).into(), &(&key).into(), &images)
            .unwrap();
        assert_close(
            kind.name(),
            between.found.tensor().unwrap(),
            pass.found.tensor().unwrap(),
            1e-5,
        );
        assert_close(
            kind.name(),
            &between.keys.to_host().unwrap(),
            &pass.keys.to_host().unwrap(),
            1e-5,
        );
        for (name, tensor) in base.state().unwrap() {
            assert_close(&name, &tensor, &before[&name], 1e-12);
        }
    }
}

#[test]
fn the_twins_gradient_reaches_the_query_and_no_target() {
    for kind in [BaseKind::MOCO_V2, BaseKind::BYOL] {
        let mut base = base(kind, &settings(), 1);
        if kind == BaseKind::MOCO_V2 {
            // Without negatives the loss is flat.
            let keys = fgvr_ssl::l2_normalise(&uniform(5, (N, 6), -1., 1.)).unwrap();
            let others: Vec<u32> = (100..100 + N as u32).collect();
            base.keep_pair_keys(&Rows::Host(keys), &others).unwrap();
            let ([first, second], images) = batch(0, N);
            base.real([&first, &second].into(), &images).unwrap();
            base.after_step().unwrap();
        }
        let leaf = |seed| Var::from_tensor(&uniform(seed, (N, WIDTH), 0., 1.)).unwrap();
        let (query, key) = (leaf(1), leaf(2));
        let images: Vec<u32> = (0..N as u32).collect();
        let features = [query.as_tensor(), &key.detach()].map(Values::from);
        let found = base
            .between(&features[0], &features[1], &images)
            .unwrap()
            .found;
        let gradients: ParameterGradients = found.tensor().unwrap().backward().unwrap().into();
        let at_query = gradients.get(&query).unwrap();
        let size = at_query.sqr().unwrap().sum_all().unwrap();
        assert!(size.to_scalar::<f32>().unwrap() > 0., "{kind}");
        assert!(gradients.get(&key).is_none(), "{kind}");
        for (name, _) in base.trainable() {
            assert!(!name.starts_with("target"), "{name}");
        }
    }
}

#[test]
fn twin_settings_are_read_by_name() {
    let mut cfg = SynthPairConfig::default();
    assert_eq!(cfg.pair, PairOf::Images);
    Arm::FeatureTwin.apply(&mut cfg);
    assert_eq!((cfg.pair, cfg.alpha), (PairOf::Features, 0.));
    cfg.validate().unwrap();
}

#[test]
fn a_growing_mask_has_its_exact_size_at_the_start_the_middle_and_the_end() {
    let masked = |start: f64, step_number: u64| {
        let mut base = base(BaseKind::MOCO_V2, &settings(), 1);
        let mut cfg = config(Arm::FeatureTwin);
        cfg.mask.rule = MaskRule::Importance;
        (cfg.mask.rho_variance, cfg.mask.rho_importance) = (0.5, 0.5);
        cfg.curriculum = CurriculumConfig {
            course: Course::Linear,
            start,
        };
        let mut method = SynthPair::new(&cfg, WIDTH, None).unwrap();
        // Step 1 of 11 is a tenth of the way.
        let mut mask = None;
        for number in [0, step_number] {
            let ([first, second], images) = batch(number, N);
            let input = StepInput {
                base_weight: 1.,
                views: Views::from([&first, &second]),
                images: &images,
                step: number,
                total_steps: 11,
                seed: 3,
                augment: &|images, _| Ok(images.clone()),
                augment_on_device: None,
                pictures: true,
            };
            let output = method.step(base.as_mut(), input).unwrap();
            mask = output.pictures.unwrap().mask("synthpair").cloned();
            base.after_step().unwrap();
        }
        let counts = mask.unwrap().sum(1).unwrap().to_vec1::<f32>().unwrap();
        assert!(counts.iter().all(|count| *count == counts[0]));
        counts[0]
    };
    // Of 12 channels: floor(12·0.5·factor).
    assert_eq!([1, 5, 10].map(|at| masked(0., at)), [0., 3., 6.]);
    assert_eq!([1, 5, 10].map(|at| masked(2., at)), [11., 9., 6.]);
}

#[test]
fn in_the_space_of_maps_the_reconstructions_gradient_reaches_the_trunk_through_the_map() {
    for kind in [BaseKind::MOCO_V2, BaseKind::SIMSIAM] {
        let gradients = |alpha: f64| {
            let mut base = base(kind, &settings(), 1);
            let decoder = ToyDecoder::new(5).unwrap();
            let mut cfg = config(Arm::ReconOnly);
            (cfg.space, cfg.alpha) = (Space::Map, alpha);
            let mut method = SynthPair::new(&cfg, WIDTH, decoder.network()).unwrap();
            let output = step(base.as_mut(), &mut method, 0).unwrap();
            let of = &base.trainable()["encoder.conv.weight"];
            let found = output.gradients.get(of).unwrap().clone();
            // The same loss on one graph: the toy's images are those of candle's autograd.
            let ([first, second], images) = batch(0, N);
            let pass = base.real([&first, &second].into(), &images).unwrap();
            let rows = |of: &dyn Fn(&Branch) -> Values| {
                let tensors = pass
                    .branches
                    .iter()
                    .map(|branch| of(branch).to_host().unwrap());
                Tensor::cat(&tensors.collect::<Vec<_>>(), 0).unwrap()
            };
            let (maps, seen) = (rows(&Branch::map), rows(&|branch| branch.images.clone()));
            let leaf = Var::from_tensor(&maps).unwrap();
            let loss = (decoder.graph(&leaf).unwrap() - seen).unwrap().sqr();
            let loss = loss.unwrap().mean_all().unwrap();
            let at_map = loss.backward().unwrap().remove(&leaf).unwrap();
            let mut leaves = FeatureGradients::default();
            for (i, branch) in pass.branches.iter().enumerate() {
                let part = at_map.narrow(0, i * N, N).unwrap();
                let added = leaves.add(branch, FeatureOutput::Map, &Values::from(&part));
                added.unwrap();
            }
            let mut own = ParameterGradients::default();
            pass.backward(leaves, &BTreeMap::new(), &mut own).unwrap();
            (found, own.get(of).unwrap().clone())
        };
        let ((alone, _), (with, own)) = (gradients(0.), gradients(0.3));
        let added = (with - alone).unwrap();
        assert_close(kind.name(), &added, &(own * 0.3).unwrap(), 1e-4);
    }
}

#[test]
fn in_the_space_of_maps_pairs_are_made_of_perturbed_maps() {
    let mut base = base(BaseKind::BYOL, &settings(), 1);
    let decoder = ToyDecoder::new(5).unwrap();
    let mut cfg = config(Arm::Full);
    cfg.space = Space::Map;
    let mut method = SynthPair::new(&cfg, WIDTH, decoder.network()).unwrap();
    for number in 0..4 {
        let output = step(base.as_mut(), &mut method, number).unwrap();
        assert_eq!(output.losses.get("loss_pair").is_some(), number > 0);
        assert!(output.losses.total.is_finite());
        if number > 0 {
            assert!(figure(&output, "pair_difference").unwrap() > 0.);
            let masked = figure(&output, "masked_fraction").unwrap();
            assert!((0.25..=0.5).contains(&masked));
        }
        descend(&base.trainable(), &output.gradients, 0.05);
        base.after_step().unwrap();
    }
}

#[test]
fn the_perceptual_loss_trains_the_decoder_alone_and_its_gradient_is_that_of_one_graph() {
    let outcome = |weight: f64| {
        let mut base = moco(1, &moco_config());
        let decoder = ToyDecoder::new(5).unwrap();
        let mut cfg = config(Arm::ReconOnly);
        cfg.perceptual = weight;
        let mut method = SynthPair::new(&cfg, WIDTH, decoder.network()).unwrap();
        let output = step(&mut base, &mut method, 0).unwrap();
        let encoder = base.trainable().into_iter().map(|(name, var)| {
            let gradient = output.gradients.get(&var).unwrap();
            (name, gradient.flatten_all().unwrap().to_vec1().unwrap())
        });
        let encoder: Vec<(String, Vec<f32>)> = encoder.collect();
        let running = values(&base.online().parameters.buffers());
        (output, encoder, running, base, decoder)
    };
    let (without, alone, still, ..) = outcome(0.);
    let (with, same, running, base, decoder) = outcome(0.7);
    assert!(alone == same && still == running);
    assert_eq!(without.losses, with.losses);
    assert!(figure(&without, "loss_perceptual").is_none());

    // The weights have not been stepped: the same values on one graph.
    let ([first, _], _) = batch(0, N);
    let encoder = &base.online().encoder;
    let map = |images: &Tensor| encoder.graph(images, NormMode::NoUpdate).unwrap().0;
    let target = map(&first).detach();
    let images = decoder.graph(&target.mean((2, 3)).unwrap()).unwrap();
    let mean = |difference: Result<Tensor>| difference.unwrap().sqr().unwrap().mean_all().unwrap();
    let perceptual = mean(map(&images) - &target);
    let value = f64::from(perceptual.to_scalar::<f32>().unwrap());
    let found = figure(&with, "loss_perceptual").unwrap();
    assert!((found - value).abs() < 1e-5 * value);
    let total = (mean(&images - &first) + (perceptual * 0.7).unwrap()).unwrap();
    let expected = total.backward().unwrap();
    let gradients = with.gradients;
    for (name, var) in decoder.parameters.trainable() {
        let (found, expected) = (gradients.get(&var).unwrap(), expected.get(&var).unwrap());
        assert_close(&name, found, expected, 1e-4);
    }
}

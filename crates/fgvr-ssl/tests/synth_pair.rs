//! SynthPair on a toy encoder and decoder: its arms, its gradients, what it must leave alone.
#![allow(clippy::unwrap_used)] // in helpers of tests

mod toy;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use candle_nn::VarBuilder;
use fgvr_gradcam::{Importance, importance};
use fgvr_nn::{Decoder, NormMode, ParameterGradients, Parameters, Tape};
use fgvr_ssl::{
    Addon, Arm, Base, MoCoV2, Negatives, ProjectionHead, StepInput, StepOutput, SynthPair,
    SynthPairConfig, Variance, info_nce,
};
use fgvr_testkit::assert_close;
use toy::{
    SIDE, ToyDecoder, ToyEncoder, WIDTH, batch, descend, figure, moco, moco_config, network_of,
    values,
};

const N: usize = 8;
const STEPS: u64 = 20;

/// A short run's choices: the pair sets in at step 4, once the bank holds 16 features.
fn config(arm: Arm) -> SynthPairConfig {
    let mut cfg = SynthPairConfig {
        bank_size: 40,
        bank_minimum: 16,
        ..SynthPairConfig::default()
    };
    arm.apply(&mut cfg);
    cfg
}

struct Run {
    base: MoCoV2<ToyEncoder>,
    decoder: ToyDecoder,
    method: SynthPair,
}

fn run(cfg: &SynthPairConfig) -> Run {
    let decoder = ToyDecoder::new(5).unwrap();
    Run {
        base: moco(1, &moco_config()),
        method: SynthPair::new(cfg, WIDTH, decoder.network()).unwrap(),
        decoder,
    }
}

fn augment(images: &Tensor, view: u64) -> Result<Tensor> {
    images * if view == 0 { 1.1 } else { 0.9 }
}

impl Run {
    fn gradients(&mut self, step: u64) -> StepOutput {
        let ([first, second], images) = batch(step, N);
        let input = StepInput {
            base_weight: 1.,
            views: [&first, &second].into(),
            images: &images,
            step,
            total_steps: STEPS,
            seed: 3,
            augment: &augment,
            augment_on_device: None,
            pictures: true,
        };
        self.method.step(&mut self.base, input).unwrap()
    }

    fn step(&mut self, step: u64) -> StepOutput {
        let output = self.gradients(step);
        descend(&self.base.trainable(), &output.gradients, 0.1);
        if self.method.config().uses_decoder() {
            descend(&self.decoder.parameters.trainable(), &output.gradients, 0.5);
        }
        self.base.after_step().unwrap();
        output
    }

    fn steps(&mut self, range: std::ops::Range<u64>) -> Vec<StepOutput> {
        range.map(|step| self.step(step)).collect()
    }
}

fn named(
    vars: &BTreeMap<String, Var>,
    gradients: &ParameterGradients,
) -> BTreeMap<String, Vec<f32>> {
    let flat = |var: &Var| {
        gradients
            .get(var)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap()
    };
    vars.iter()
        .map(|(name, var)| (name.clone(), flat(var)))
        .collect()
}

fn state(base: &dyn Base) -> BTreeMap<String, Vec<f64>> {
    let values = |t: Tensor| {
        t.to_dtype(DType::F64)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap()
    };
    base.state()
        .unwrap()
        .into_iter()
        .map(|(name, t)| (name, values(t)))
        .collect()
}

#[test]
fn without_reconstruction_and_pairs_the_base_is_reproduced_bit_for_bit() {
    let mut alone = moco(1, &moco_config());
    let mut base = moco(1, &moco_config());
    let mut method = SynthPair::new(&config(Arm::Base), WIDTH, None).unwrap();
    for step in 0..8 {
        let ([first, second], images) = batch(step, N);
        let pass = alone.real([&first, &second].into(), &images).unwrap();
        let loss = pass.found.tensor().unwrap().to_scalar::<f32>().unwrap();
        let (leaves, mut gradients) = (
            pass.found.tensor().unwrap().backward().unwrap(),
            ParameterGradients::default(),
        );
        pass.backward(leaves.into(), &alone.trainable(), &mut gradients)
            .unwrap();
        descend(&alone.trainable(), &gradients, 0.1);
        alone.after_step().unwrap();

        let input = StepInput {
            base_weight: 1.,
            views: [&first, &second].into(),
            images: &images,
            step,
            total_steps: 8,
            seed: 3,
            augment: &|_, _| bail!("the pair was augmented"),
            augment_on_device: None,
            pictures: false,
        };
        let output = method.step(&mut base, input).unwrap();
        descend(&base.trainable(), &output.gradients, 0.1);
        base.after_step().unwrap();
        assert_eq!(output.losses.total, f64::from(loss));
        assert!(output.pictures.is_none());
    }
    assert_eq!(state(&alone), state(&base));
}

#[test]
fn gradients_are_those_of_the_total_loss_on_one_graph() {
    let mut run = run(&config(Arm::Full));
    run.steps(0..6);
    let queues = run.base.queues().map(|queue| {
        let (keys, images) = queue.keys().unwrap().unwrap();
        (keys, images.to_vec())
    });
    let output = run.gradients(6);
    let vars = run.base.trainable();
    let ([first, _], images) = batch(6, N);

    let tensors: HashMap<_, _> = vars
        .iter()
        .filter_map(|(name, var)| {
            Some((
                name.strip_prefix("head.")?.to_owned(),
                var.as_tensor().clone(),
            ))
        })
        .collect();
    let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let head = ProjectionHead::new(WIDTH, WIDTH, 6, vb).unwrap();
    // The keys of this step are those that now enter the queues; the encoder stays as it was.
    run.base.after_step().unwrap();
    let encoder = &run.base.online().encoder;
    let loss = |view: &Tensor, keys: &Tensor, queue: &(Tensor, Vec<u32>)| {
        let (map, _) = encoder.graph(view, NormMode::NoUpdate).unwrap();
        let h = map.mean((2, 3)).unwrap();
        let negatives = Some(Negatives {
            keys: &queue.0,
            images: &queue.1,
        });
        let found = info_nce(&head.forward(&h).unwrap(), keys, &images, negatives, 0.2).unwrap();
        (h, found.loss)
    };
    let new = |queue: usize, before: &(Tensor, Vec<u32>)| {
        let capacity = run.base.queues()[queue].capacity();
        let start = [6 * N % capacity, before.0.dim(0).unwrap() % capacity][queue];
        let (keys, _) = run.base.queues()[queue].keys().unwrap().unwrap();
        let slots: Vec<u32> = (0..N).map(|i| ((start + i) % capacity) as u32).collect();
        keys.index_select(&Tensor::from_vec(slots, N, &Device::Cpu).unwrap(), 0)
            .unwrap()
    };
    let (h, contrastive) = loss(&first, &new(0, &queues[0]), &queues[0]);
    let reconstruction = (run.decoder.graph(&h).unwrap() - &first)
        .unwrap()
        .sqr()
        .unwrap()
        .mean_all()
        .unwrap();
    let pictures = output.pictures.as_ref().unwrap();
    let query = pictures.images("query").unwrap();
    let (_, pair) = loss(query, &new(1, &queues[1]), &queues[1]);
    let nu = figure(&output, "nu").unwrap();
    assert_eq!(nu, 0.5);
    let total = ((contrastive + (&reconstruction * 0.05).unwrap()).unwrap() + (pair * nu).unwrap())
        .unwrap();
    let expected = total.backward().unwrap();
    assert!((f64::from(total.to_scalar::<f32>().unwrap()) - output.losses.total).abs() < 1e-5);
    for (name, var) in &vars {
        assert_close(
            name,
            output.gradients.get(var).unwrap(),
            expected.get(var).unwrap(),
            1e-4,
        );
    }
    // The decoder's gradient is that of L_R alone, whatever alpha and nu are.
    let expected = reconstruction.backward().unwrap();
    let gradients = output.gradients;
    for (name, var) in run.decoder.parameters.trainable() {
        assert_close(
            &name,
            gradients.get(&var).unwrap(),
            expected.get(&var).unwrap(),
            1e-4,
        );
    }
}

#[test]
fn importance_from_the_gradient_at_hand_is_that_of_the_full_graph() {
    let mut run = run(&config(Arm::Full));
    run.steps(0..3);
    let (keys, of) = run.base.queues()[0].keys().unwrap().unwrap();
    let of = of.to_vec();
    let ([first, second], images) = batch(3, N);
    let pass = run.base.real([&first, &second].into(), &images).unwrap();
    let leaves = pass.found.tensor().unwrap().backward().unwrap();
    let dh = pass.pooled_gradient(&leaves.into()).unwrap();
    let dh = dh[0].to_host().unwrap();

    let (map, _) = run
        .base
        .online()
        .encoder
        .graph(&first, NormMode::NoUpdate)
        .unwrap();
    let map = Var::from_tensor(&map.detach()).unwrap();
    let tensors = run.base.trainable().into_iter();
    let tensors = tensors
        .filter_map(|(name, var)| {
            Some((
                name.strip_prefix("head.")?.to_owned(),
                var.as_tensor().clone(),
            ))
        })
        .collect();
    let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let head = ProjectionHead::new(WIDTH, WIDTH, 6, vb).unwrap();
    let query = head.forward(&map.mean((2, 3)).unwrap()).unwrap();
    let negatives = Some(Negatives {
        keys: &keys,
        images: &of,
    });
    let loss = info_nce(
        &query,
        &pass.keys.to_host().unwrap(),
        &images,
        negatives,
        0.2,
    )
    .unwrap()
    .loss;
    let full = loss
        .backward()
        .unwrap()
        .get(&map)
        .unwrap()
        .sum((2, 3))
        .unwrap();
    assert_close("sum over places of dL/dF", &dh, &full, 1e-5);
    let h = pass.pooled().unwrap()[0].to_host().unwrap();
    let kind = Importance::GradientTimesFeature;
    let (at_hand, full) = (
        importance(&h, &dh, kind, None),
        importance(&h, &full, kind, None),
    );
    assert_close("importance", &at_hand.unwrap(), &full.unwrap(), 1e-5);
}

#[test]
fn every_arm_runs_with_finite_losses() {
    for arm in Arm::ALL {
        let cfg = config(arm);
        let mut run = run(&cfg);
        for (step, output) in run.steps(0..10).into_iter().enumerate() {
            let losses = &output.losses;
            assert!(losses.total.is_finite(), "{arm} at {step}: {losses:?}");
            let decodes = cfg.uses_decoder();
            assert_eq!(
                losses.get("loss_reconstruction").is_some(),
                decodes,
                "{arm}"
            );
            for var in run.decoder.parameters.trainable().values() {
                assert_eq!(output.gradients.get(var).is_some(), decodes, "{arm}");
            }
            let pairs = cfg.nu > 0. && step >= 4;
            assert_eq!(losses.get("loss_pair").is_some(), pairs, "{arm} at {step}");
            let mut figures = output.diagnostics.values();
            figures.extend(&output.figures);
            assert!(figures.iter().all(|(_, v)| v.is_finite()), "{figures:?}");
            let masked = figure(&output, "masked_fraction");
            assert_eq!(masked.is_some(), pairs, "{arm} at {step}");
            let (Some(masked), Some(difference)) = (masked, figure(&output, "pair_difference"))
            else {
                continue;
            };
            let fraction = match arm {
                Arm::AllMask => 1. ..=1.,
                Arm::NoiseFree => 0. ..=0.,
                Arm::VarianceOnly | Arm::CamOnly => 0.25..=0.25,
                _ => 0.25..=0.5,
            };
            assert!(fraction.contains(&masked), "{arm}: {masked}");
            let pictures = output.pictures.unwrap();
            if !decodes {
                assert!(
                    difference > 0. && pictures.mask("synthpair").is_some(),
                    "{arm}"
                );
                continue;
            }
            let [original, perturbed] =
                ["reconstruction", "perturbed"].map(|name| pictures.images(name).unwrap());
            let rows = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(
                rows(original) == rows(perturbed),
                arm == Arm::NoiseFree,
                "{arm}"
            );
            assert_eq!(difference == 0., arm == Arm::NoiseFree, "{arm}");
            assert_eq!(perturbed.dims(), [N, 3, SIDE, SIDE]);
        }
        for (name, values) in values(&run.base.trainable()) {
            assert!(values.iter().all(|v| v.is_finite()), "{arm}: {name}");
        }
    }
}

#[test]
fn controls_mask_as_many_dimensions_as_the_method_but_others() {
    let masks = [Arm::Full, Arm::RandomMask, Arm::InvertedMask].map(|arm| {
        let mut run = run(&config(Arm::ReconOnly));
        run.steps(0..5);
        let mut cfg = config(arm);
        cfg.warm_up = 0.;
        let saved: HashMap<_, _> = run.method.state().unwrap().into_iter().collect();
        run.method = SynthPair::new(&cfg, WIDTH, run.decoder.network()).unwrap();
        run.method.load_state(&saved).unwrap();
        let pictures = run.step(5).pictures.unwrap();
        let mask = pictures.mask("synthpair").unwrap();
        mask.to_vec2::<f32>().unwrap()
    });
    let sizes = masks.clone().map(|mask| {
        mask.iter()
            .map(|row| row.iter().sum())
            .collect::<Vec<f32>>()
    });
    assert_eq!(sizes[0], sizes[1]);
    assert_eq!(sizes[0], sizes[2]);
    assert!(masks[0] != masks[1] && masks[0] != masks[2] && masks[1] != masks[2]);
}

#[test]
fn the_pair_loss_reaches_the_encoder_and_neither_decoder_nor_running_statistics() {
    let outcome = |nu: f64| {
        let mut cfg = config(Arm::Full);
        let mut run = run(&cfg);
        run.steps(0..6);
        let saved: HashMap<_, _> = run.method.state().unwrap().into_iter().collect();
        cfg.nu = nu;
        run.method = SynthPair::new(&cfg, WIDTH, run.decoder.network()).unwrap();
        run.method.load_state(&saved).unwrap();
        let output = run.gradients(6);
        assert_eq!(output.losses.get("loss_pair").is_some(), nu > 0.);
        let decoder = run.decoder.parameters.trainable();
        let buffers = [
            &run.base.online().parameters,
            &run.base.key().parameters,
            &run.decoder.parameters,
        ]
        .map(|parameters| values(&parameters.buffers()));
        let encoder = named(&run.base.trainable(), &output.gradients);
        (named(&decoder, &output.gradients), buffers, encoder)
    };
    let (without, with) = (outcome(0.), outcome(0.5));
    assert_eq!(without.0, with.0);
    assert_eq!(without.1, with.1);
    assert_eq!(with.1[2]["bn.running_mean"], [7.]); // one training pass of the decoder a step
    for (name, gradient) in &with.2 {
        assert_ne!(gradient, &without.2[name], "{name}");
    }
}

#[test]
fn reconstruction_reaches_the_encoder_only_if_it_may() {
    let outcome = |change: fn(&mut SynthPairConfig)| {
        let mut cfg = config(Arm::ReconOnly);
        change(&mut cfg);
        let mut run = run(&cfg);
        let output = run.gradients(0);
        let decoder = run.decoder.parameters.trainable();
        let decoder = cfg
            .uses_decoder()
            .then(|| named(&decoder, &output.gradients));
        (named(&run.base.trainable(), &output.gradients), decoder)
    };
    let base = outcome(|cfg| cfg.alpha = 0.);
    let detached = outcome(|cfg| cfg.reconstruction_reaches_encoder = false);
    let attached = outcome(|_| {});
    let heavy = outcome(|cfg| cfg.alpha = 0.5);
    assert_eq!(base.0, detached.0);
    assert_ne!(
        base.0["encoder.conv.weight"],
        attached.0["encoder.conv.weight"]
    );
    assert_eq!(base.0["head.0.weight"], attached.0["head.0.weight"]);
    assert!(base.1.is_none());
    assert!(detached.1.is_some() && detached.1 == attached.1 && attached.1 == heavy.1);
}

#[test]
fn below_the_banks_minimum_there_is_no_pair() {
    let mut cfg = config(Arm::Full);
    (cfg.warm_up, cfg.ramp, cfg.bank_minimum) = (0., 0., 17);
    let pairs: Vec<bool> = run(&cfg)
        .steps(0..5)
        .iter()
        .map(|o| o.losses.get("loss_pair").is_some())
        .collect();
    assert_eq!(pairs, [false, false, false, true, true]);
}

#[test]
fn between_image_variance_and_swap_noise_run_too() {
    let mut cfg = config(Arm::Full);
    cfg.variance = Variance::Between;
    cfg.importance = Importance::Centred;
    cfg.noise.kind = fgvr_perturb::Noise::Swap;
    let outputs = run(&cfg).steps(0..8);
    assert!(outputs.iter().all(|output| output.losses.total.is_finite()));
    assert!(outputs[7].losses.get("loss_pair").is_some());
}

#[test]
fn roles_are_swapped_by_chance_and_each_image_has_its_own_augmentation() {
    let pairs = |swap_roles: bool| -> Vec<bool> {
        let mut cfg = config(Arm::Full);
        (cfg.warm_up, cfg.swap_roles) = (0., swap_roles);
        let outputs = run(&cfg).steps(0..16);
        let rows = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let swapped = outputs.into_iter().filter_map(|output| {
            let pictures = output.pictures.unwrap();
            let [query, key] = ["query", "key"].map(|name| pictures.images(name).cloned());
            let (query, key) = (rows(query?), rows(key?));
            let made = |name: &str, view| augment(pictures.images(name).unwrap(), view).unwrap();
            let (original, perturbed) =
                (rows(made("reconstruction", 0)), rows(made("perturbed", 1)));
            assert!(
                (&query, &key) == (&original, &perturbed)
                    || (&key, &query) == (&original, &perturbed)
            );
            Some(query == perturbed)
        });
        swapped.collect()
    };
    let chance = pairs(true);
    assert!(
        chance.contains(&true) && chance.contains(&false),
        "{chance:?}"
    );
    assert!(pairs(false).iter().all(|swapped| !swapped));
}

#[test]
fn an_unaugmented_pair_is_seen_as_it_was_generated() {
    let calls = RefCell::new(vec![]);
    let seen = |arm: Arm| {
        let mut cfg = config(arm);
        (cfg.warm_up, cfg.bank_minimum) = (0., 8);
        let mut run = run(&cfg);
        run.step(0);
        let ([first, second], images) = batch(1, N);
        let input = StepInput {
            base_weight: 1.,
            views: [&first, &second].into(),
            images: &images,
            step: 1,
            total_steps: STEPS,
            seed: 3,
            augment: &|images, view| {
                calls.borrow_mut().push(view);
                Ok(images.clone())
            },
            augment_on_device: None,
            pictures: false,
        };
        run.method.step(&mut run.base, input).unwrap();
        calls.take()
    };
    assert_eq!(seen(Arm::Full), [0, 1]);
    assert!(seen(Arm::UnaugmentedPair).is_empty());
}

#[test]
fn a_resumed_run_goes_on_bit_for_bit() {
    let cfg = config(Arm::Full);
    let mut whole = run(&cfg);
    whole.steps(0..7);
    let mut resumed = run(&cfg);
    resumed
        .base
        .load_state(&whole.base.state().unwrap().into_iter().collect())
        .unwrap();
    resumed
        .method
        .load_state(&whole.method.state().unwrap().into_iter().collect())
        .unwrap();
    resumed
        .decoder
        .parameters
        .copy_from(&whole.decoder.parameters)
        .unwrap();
    let losses =
        |outputs: Vec<StepOutput>| outputs.into_iter().map(|o| o.losses).collect::<Vec<_>>();
    let (rest, again) = (losses(whole.steps(7..12)), losses(resumed.steps(7..12)));
    assert!(rest.iter().all(|losses| losses.get("loss_pair").is_some()));
    assert_eq!(rest, again);
    assert_eq!(state(&whole.base), state(&resumed.base));
}

#[test]
fn a_step_that_is_not_finite_leaves_the_bank_alone_and_says_so() {
    let mut run = run(&config(Arm::Full));
    run.steps(0..5);
    let bank = |run: &Run| run.method.bank().unwrap().unwrap().len();
    let held = bank(&run);
    let ([first, second], images) = batch(5, N);
    let bias = &run.base.trainable()["head.2.bias"];
    bias.set(&(bias.as_tensor() * f64::NAN).unwrap()).unwrap();
    let input = StepInput {
        base_weight: 1.,
        views: [&first, &second].into(),
        images: &images,
        step: 5,
        total_steps: STEPS,
        seed: 3,
        augment: &augment,
        augment_on_device: None,
        pictures: false,
    };
    let output = run.method.step(&mut run.base, input).unwrap();
    assert!(output.losses.base().is_nan() && output.losses.total.is_nan());
    assert_eq!((output.losses.get("loss_pair"), bank(&run)), (None, held));
}

#[test]
fn a_decoder_that_does_not_fit_is_an_error() {
    /// Makes images of another size, or no gradient of its input.
    struct Misfit(usize);
    impl Decoder for Misfit {
        fn forward_train(&self, pooled: &Tensor, _: NormMode) -> Result<(Var, Tape)> {
            let (n, _) = pooled.dims2()?;
            let mut tape = Tape::recording();
            let images = Tensor::zeros((n, 3, self.0, self.0), DType::F32, &Device::Cpu)?;
            let images = tape.input(&images, false)?;
            Ok((tape.output(&images)?, tape))
        }

        fn generate(&self, _: &Tensor, _: NormMode) -> Result<Tensor> {
            bail!("not reached")
        }
    }
    let error = |side: usize| {
        let mut run = run(&config(Arm::ReconOnly));
        let ([first, second], images) = batch(0, N);
        let input = StepInput {
            base_weight: 1.,
            views: [&first, &second].into(),
            images: &images,
            step: 0,
            total_steps: STEPS,
            seed: 3,
            augment: &augment,
            augment_on_device: None,
            pictures: false,
        };
        let misfit = network_of(Misfit(side), &Parameters::new(0));
        let mut method = SynthPair::new(run.method.config(), WIDTH, misfit).unwrap();
        let outcome = method.step(&mut run.base, input);
        outcome.err().unwrap().to_string()
    };
    assert!(error(4).contains("made [8, 3, 4, 4], expected [8, 3, 8, 8]"));
    assert!(error(SIDE).contains("no gradient of its input"));
}

#[test]
fn choices_that_decode_need_a_decoder() {
    for arm in Arm::ALL {
        let made = SynthPair::new(&config(arm), WIDTH, None);
        assert_eq!(made.is_err(), config(arm).uses_decoder(), "{arm}");
    }
}

#[test]
fn a_bank_below_its_minimum_is_refused_in_the_configuration() {
    let cfg = SynthPairConfig {
        bank_size: 10,
        ..SynthPairConfig::default()
    };
    assert!(
        SynthPair::new(&cfg, WIDTH, None)
            .err()
            .unwrap()
            .to_string()
            .contains("bank_size 10")
    );
}

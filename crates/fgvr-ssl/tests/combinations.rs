//! Every add-on on every base: those that are supported run, the others say why not.
#![allow(clippy::unwrap_used)] // in helpers of tests

mod toy;

use std::collections::{BTreeSet, HashMap};

use candle_core::{DType, Device, Result, Tensor};
use fgvr_nn::Decoder;
use fgvr_ssl::{
    Addon, AddonConfig, AddonKind, AddonParts, Arm, Base, BaseKind, CommonRationaleConfig,
    LoDiscConfig, PatchMatchConfig, PretextConfig, Rows, RunLength, StepInput, StepOutput,
    SynthPair, SynthPairConfig, Views, addons, supports,
};
use fgvr_testkit::assert_close;
use toy::{ToyDecoder, WIDTH, base, batch, crops, descend, figure, input, settings, values};

const N: usize = 8;
const STEPS: u64 = 10;

fn config(arm: Arm) -> SynthPairConfig {
    let mut cfg = SynthPairConfig {
        bank_size: 40,
        bank_minimum: 16,
        ..SynthPairConfig::default()
    };
    arm.apply(&mut cfg);
    cfg
}

fn step((base, method): (&mut dyn Base, &mut SynthPair), step: u64) -> Result<StepOutput> {
    let ([first, second], images) = batch(step, N);
    let local = crops(base.kind(), &settings(), step, N);
    let input = StepInput {
        base_weight: 1.,
        views: Views {
            global: [&first, &second],
            local: &local,
            sent: None,
        },
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

/// The rows of all branches, one under the other.
fn stacked(rows: &[Rows]) -> Tensor {
    let tensors = rows.iter().map(|rows| rows.to_host().unwrap());
    Tensor::cat(&tensors.collect::<Vec<_>>(), 0).unwrap()
}

fn buffers(base: &dyn Base) -> Vec<(String, Vec<f32>)> {
    let running = |name: &String| name.contains("running_");
    let state = base.state().unwrap().into_iter();
    state
        .filter(|(name, _)| running(name))
        .map(|(name, t)| (name, t.flatten_all().unwrap().to_vec1().unwrap()))
        .collect()
}

fn synth_pair_runs_on(kind: BaseKind) {
    let mut base = base(kind, &settings(), 1);
    let decoder = ToyDecoder::new(5).unwrap();
    let mut method = SynthPair::new(&config(Arm::Full), WIDTH, decoder.network()).unwrap();
    let start = values(&base.trainable());
    let mut pairs = 0;
    for number in 0..STEPS {
        let output = step((base.as_mut(), &mut method), number).unwrap();
        assert!(
            output.losses.total.is_finite(),
            "{kind}: {:?}",
            output.losses
        );
        assert!(output.losses.get("loss_reconstruction").is_some(), "{kind}");
        let expected = number >= 2 && figure(&output, "nu").unwrap() > 0.;
        assert_eq!(
            output.losses.get("loss_pair").is_some(),
            expected,
            "{kind} at {number}"
        );
        let mut figures = output.diagnostics.values();
        figures.extend(&output.figures);
        assert!(figures.iter().all(|(_, v)| v.is_finite()), "{figures:?}");
        if expected {
            pairs += 1;
            let masked = figure(&output, "masked_fraction").unwrap();
            assert!((0.25..=0.5).contains(&masked), "{kind}: {masked}");
            let difference = figure(&output, "pair_difference").unwrap();
            assert!(difference > 0., "{kind}: {difference}");
        }
        descend(&base.trainable(), &output.gradients, 0.05);
        descend(&decoder.parameters.trainable(), &output.gradients, 0.5);
        base.after_step().unwrap();
    }
    assert!(pairs > 4, "{kind}: {pairs}");
    assert_eq!(method.bank().unwrap().unwrap().len(), 40, "{kind}");
    // One training pass of the decoder a step, over all branches at once.
    let count = &values(&decoder.parameters.buffers())["bn.running_mean"];
    assert_eq!(count, &[STEPS as f32]);
    let end = values(&base.trainable());
    for (name, values) in &end {
        assert!(values.iter().all(|v| v.is_finite()), "{kind}: {name}");
        assert_ne!(values, &start[name], "{kind}: {name} was not trained");
    }
}

/// The add-ons of these kinds, with choices that fit the toy.
fn built(kinds: &[AddonKind]) -> Vec<Box<dyn Addon + Send>> {
    let chosen = addons()
        .into_iter()
        .filter(|addon| kinds.contains(&addon.kind()));
    chosen.map(|addon| build(addon.as_ref())).collect()
}

fn build(choices: &dyn AddonConfig) -> Box<dyn Addon + Send> {
    // Batches are drawn from as many images.
    let teacher = fgvr_testkit::normal(8, (1000, 9));
    let parts = AddonParts {
        teacher: Some(&teacher),
        width: WIDTH,
        seed: 4,
        run: RunLength {
            steps: STEPS,
            steps_per_epoch: 2,
        },
        decoder: None,
    };
    choices.build(parts).unwrap()
}

fn step_with(
    base: &mut dyn Base,
    addons: &mut [Box<dyn Addon + Send>],
    number: u64,
) -> Result<StepOutput> {
    let ([first, second], images) = batch(number, N);
    let local = crops(base.kind(), &settings(), number, N);
    let input = input(
        Views {
            global: [&first, &second],
            local: &local,
            sent: None,
        },
        &images,
        number,
    );
    let addons = addons.iter_mut();
    let mut addons: Vec<&mut dyn Addon> =
        addons.map(|a| -> &mut dyn Addon { a.as_mut() }).collect();
    fgvr_ssl::step(base, &mut addons, input)
}

/// Some steps of these add-ons on this base: every variable gets a finite gradient that is not zero at
/// some step, is trained, and the total is the sum of its terms.
fn run_on(kind: BaseKind, addons: &[AddonKind]) {
    let mut base = base(kind, &settings(), 1);
    let mut addons = built(addons);
    let mut trainable = base.trainable();
    trainable.extend(addons.iter().flat_map(|addon| addon.trainable()));
    let start = values(&trainable);
    let mut trained = BTreeSet::new();
    for number in 0..4 {
        let output = step_with(base.as_mut(), &mut addons, number).unwrap();
        let losses = &output.losses;
        let terms = losses.terms.iter().map(|term| term.weight * term.loss);
        let sum = terms.sum::<f64>();
        assert!((losses.total - sum).abs() < 1e-9, "{kind}: {losses:?}");
        assert!(losses.total.is_finite(), "{kind}: {losses:?}");
        assert!(losses.terms.len() > addons.len(), "{kind}: {losses:?}");
        let mut stepped = trainable.clone();
        let withheld = base.withheld();
        stepped.retain(|name, _| !withheld.contains(name));
        descend(&stepped, &output.gradients, 0.05);
        trained.extend(stepped.into_keys());
        base.after_step().unwrap();
        for addon in &mut addons {
            addon.after_step().unwrap();
        }
    }
    // DINO's prototypes wait for the first epoch to end.
    assert!(trained.len() + 1 >= trainable.len(), "{kind}");
    for (name, values) in values(&trainable) {
        // A bias that batch norm takes out again has no gradient but rounding.
        let no_effect = ["projector.0.bias", "projector.3.bias", "predictor.0.bias"];
        if !trained.contains(&name) || no_effect.iter().any(|end| name.ends_with(end)) {
            continue;
        }
        assert!(values.iter().all(|v| v.is_finite()), "{kind}: {name}");
        assert_ne!(values, start[&name], "{kind}: {name} was not trained");
    }
}

#[test]
fn every_supported_combination_runs_and_every_other_is_refused_with_its_reason() {
    let mut refused = Vec::new();
    for kind in BaseKind::ALL {
        for addon in AddonKind::ALL {
            match (supports(kind, addon), addon) {
                (Ok(()), AddonKind::SYNTH_PAIR) => synth_pair_runs_on(kind),
                (Ok(()), other) => run_on(kind, &[other]),
                (Err(unsupported), _) => {
                    refused.push((kind, addon));
                    assert_eq!((unsupported.base, unsupported.addon), (kind, addon));
                    let mut base = base(kind, &settings(), 1);
                    let decoder = ToyDecoder::new(5).unwrap();
                    let mut method =
                        SynthPair::new(&config(Arm::Full), WIDTH, decoder.network()).unwrap();
                    let error = match addon {
                        AddonKind::SYNTH_PAIR => step((base.as_mut(), &mut method), 0),
                        other => step_with(base.as_mut(), &mut built(&[other]), 0),
                    };
                    let error = error.err().unwrap().to_string();
                    assert!(error.contains(unsupported.reason), "{error}");
                }
            }
        }
    }
    assert_eq!(
        refused,
        [
            (BaseKind::DINO, AddonKind::SYNTH_PAIR),
            (BaseKind::DIET, AddonKind::LODISC)
        ]
    );
}

#[test]
fn the_readmes_table_is_that_of_the_code() {
    let readme = include_str!("../README.md");
    let rows: Vec<Vec<&str>> = readme
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| {
            line.trim_matches('|')
                .split('|')
                .map(|c| c.trim().trim_matches('`'))
                .collect()
        })
        .collect();
    let head = rows.iter().position(|row| row[0] == "Add-on").unwrap();
    assert_eq!(rows[head][1..], BaseKind::ALL.map(BaseKind::name));
    for (addon, row) in AddonKind::ALL.iter().zip(&rows[head + 2..]) {
        assert_eq!(row[0], addon.name());
        for (base, says) in BaseKind::ALL.iter().zip(&row[1..]) {
            let expected = if supports(*base, *addon).is_ok() {
                "yes"
            } else {
                "no"
            };
            assert_eq!(*says, expected, "{addon} on {base}");
        }
    }
}

/// What gets no gradient must not be given to an optimiser, which refuses it.
#[test]
fn an_add_on_without_weight_has_nothing_to_train_and_the_same_state() {
    let pretext = PretextConfig {
        weight: 0.,
        ..PretextConfig::default()
    };
    let lcr = CommonRationaleConfig {
        weight: Some(0.),
        ..CommonRationaleConfig::default()
    };
    let lodisc = LoDiscConfig {
        weight: 0.,
        ..LoDiscConfig::default()
    };
    let patch_match = PatchMatchConfig {
        weight: 0.,
        ..PatchMatchConfig::default()
    };
    let idle: [&dyn AddonConfig; 4] = [&pretext, &lcr, &lodisc, &patch_match];
    for choices in idle {
        let kind = choices.kind();
        let mut idle = build(choices);
        assert!(!idle.is_active() && idle.trainable().is_empty(), "{kind}");
        let saved = built(&[kind])[0].state().unwrap();
        let ones = saved.into_iter();
        let ones = ones.map(|(name, tensor)| (name, tensor.ones_like().unwrap()));
        let ones: HashMap<_, _> = ones.collect();
        idle.load_state(&ones).unwrap();
        assert_eq!(idle.state().unwrap().len(), ones.len(), "{kind}");
        for (name, tensor) in idle.state().unwrap() {
            assert_close(&name, &tensor, &ones[&name], 0.);
        }
    }
}

#[test]
fn all_add_ons_of_a_base_run_together() {
    for kind in BaseKind::ALL {
        let addons = AddonKind::ALL.into_iter();
        let addons: Vec<_> = addons
            .filter(|addon| *addon != AddonKind::SYNTH_PAIR && supports(kind, *addon).is_ok())
            .collect();
        run_on(kind, &addons);
    }
}

#[test]
fn every_base_runs_alone() {
    for kind in BaseKind::ALL {
        let mut base = base(kind, &settings(), 1);
        let mut method = SynthPair::new(&config(Arm::Base), WIDTH, None).unwrap();
        for number in 0..3 {
            let output = step((base.as_mut(), &mut method), number).unwrap();
            assert!(output.losses.total.is_finite(), "{kind}");
            assert_eq!(output.query.dims()[0], N);
            base.after_step().unwrap();
        }
    }
}

#[test]
fn generated_images_change_no_running_statistics_and_meet_no_real_ones() {
    for kind in [
        BaseKind::SIMSIAM,
        BaseKind::BYOL,
        BaseKind::MOCO_V3,
        BaseKind::DIET,
    ] {
        let mut base = base(kind, &settings(), 1);
        let ([first, second], images) = batch(3, N);
        base.real([&first, &second].into(), &images).unwrap();
        let before = buffers(base.as_ref());
        let pass = base
            .generated([&(&second).into(), &(&first).into()], &images)
            .unwrap();
        assert_eq!(pass.branches.len(), 2, "{kind}");
        assert_eq!(before, buffers(base.as_ref()), "{kind}");
        // Symmetric: the loss of a pair is that of the pair the other way round.
        let swapped = base
            .generated([&(&first).into(), &(&second).into()], &images)
            .unwrap();
        assert_close(
            kind.name(),
            pass.found.tensor().unwrap(),
            swapped.found.tensor().unwrap(),
            1e-5,
        );
    }
}

#[test]
fn both_branches_are_masked_and_reconstructed() {
    for kind in [
        BaseKind::SIMSIAM,
        BaseKind::BYOL,
        BaseKind::MOCO_V3,
        BaseKind::DIET,
    ] {
        let mut base = base(kind, &settings(), 1);
        let decoder = ToyDecoder::new(5).unwrap();
        let mut cfg = config(Arm::Full);
        (cfg.warm_up, cfg.ramp, cfg.bank_minimum) = (0., 0., 8);
        (cfg.augment_pair, cfg.swap_roles) = (false, false);
        let mut method = SynthPair::new(&cfg, WIDTH, decoder.network()).unwrap();
        step((base.as_mut(), &mut method), 0).unwrap();
        base.forget_step();
        let output = step((base.as_mut(), &mut method), 1).unwrap();
        let ([first, second], images) = batch(1, N);

        // L_R over both views, from a second pass with the same weights.
        let pass = base.real([&first, &second].into(), &images).unwrap();
        let seen = Tensor::cat(&[&first, &second], 0).unwrap();
        let images_of = |h: &Tensor| decoder.generate(h, fgvr_nn::NormMode::NoUpdate).unwrap();
        let made = images_of(&stacked(&pass.pooled().unwrap()));
        let error = (&made - &seen).unwrap().sqr().unwrap().mean_all().unwrap();
        let expected = error.to_scalar::<f32>().unwrap();
        let found = output.losses.get("loss_reconstruction").unwrap();
        assert!(
            (found - f64::from(expected)).abs() < 1e-6,
            "{kind}: {found} {expected}"
        );

        // The pair of the first view is the first half of the mean: the second one's loss is the rest.
        let pictures = output.pictures.unwrap();
        let [query, key] = ["query", "key"].map(|name| pictures.images(name).unwrap());
        assert_close("x̂ of view 1", query, &made.narrow(0, 0, N).unwrap(), 1e-6);
        let first_loss = base
            .generated([&query.into(), &key.into()], &images)
            .unwrap();
        let first_loss = first_loss.numbers().unwrap().loss;
        let second_loss = 2. * output.losses.get("loss_pair").unwrap() - first_loss;
        assert!(
            second_loss.is_finite() && second_loss != first_loss,
            "{kind}"
        );
    }
}

#[test]
fn own_variables_are_trained_and_saved_under_names_that_stay() {
    for kind in &AddonKind::ALL[1..] {
        // Checkpoints have these names: (trained, running statistics).
        let (trained, running): (&[&str], &[&str]) = match *kind {
            AddonKind::PRETEXT => (&["pretext.bias", "pretext.weight"], &[]),
            AddonKind::LCR => (
                &["lcr.conv.weight", "lcr.norm.bias", "lcr.norm.weight"],
                &["lcr.norm.running_mean", "lcr.norm.running_var"],
            ),
            AddonKind::DISTIL => (&["distil.weight"], &[]),
            AddonKind::PATCH_MATCH => (
                &[
                    "patch_match.0.bias",
                    "patch_match.0.weight",
                    "patch_match.2.bias",
                    "patch_match.2.weight",
                ],
                &[],
            ),
            _ => (&[], &[]),
        };
        let named = |names: &[&str]| -> BTreeSet<String> {
            names.iter().map(|name| format!("addon.{name}")).collect()
        };
        let mut on = built(&[*kind]).remove(0);
        let saved = on.state().unwrap();
        let names: BTreeSet<_> = saved.keys().cloned().collect();
        assert_eq!(names, &named(trained) | &named(running), "{kind}");
        let names: BTreeSet<_> = on.trainable().into_keys().collect();
        assert_eq!(names, named(trained), "{kind}");

        // A name too many is refused by all.
        let mut state: HashMap<_, _> = saved.into_iter().collect();
        let other = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
        state.insert("addon.other".to_owned(), other);
        let error = on.load_state(&state).unwrap_err().to_string();
        assert!(error.contains("addon.other"), "{kind}: {error}");
    }
}

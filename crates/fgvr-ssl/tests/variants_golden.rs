//! Variants of SynthPair beside PyTorch: feature twin, perceptual loss and mask curriculum.
#![allow(clippy::unwrap_used)] // in helpers of tests

mod toy;

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Tensor, Var};
use fgvr_perturb::{MaskConfig, MaskRule, NoiseConfig, RandomKey, non_discriminative_mask};
use fgvr_ssl::{
    Addon, Base, BaseKind, Course, CurriculumConfig, MethodConfig, PairOf, StepInput, StepOutput,
    SynthPair, SynthPairConfig, mask_at,
};
use fgvr_testkit::{Golden, assert_close, golden};
use toy::{AtPooled, ToyDecoder, WIDTH, figure, settings, watched};

/// What was seen is 3e-6 at most.
const REL: f64 = 1e-5;

/// The script's choices, with neither reconstruction nor pair.
fn config(kind: BaseKind) -> SynthPairConfig {
    let (course, start) = match kind {
        BaseKind::BYOL => (Course::Cosine, 1.4),
        _ => (Course::Linear, 0.5),
    };
    SynthPairConfig {
        alpha: 0.,
        nu: 0.,
        warm_up: 0.2,
        ramp: 0.5,
        bank_size: 40,
        bank_minimum: 8,
        mask: MaskConfig {
            rho_variance: 0.3,
            rho_importance: 0.4,
            ..MaskConfig::default()
        },
        curriculum: CurriculumConfig { course, start },
        // No normal draw is as far out as this, so that all masked entries move up by as much.
        noise: NoiseConfig {
            scale: 0.5,
            min_change: 8.,
            ..NoiseConfig::default()
        },
        ..SynthPairConfig::default()
    }
}

/// A step of the script's network, and what it came from.
struct Run {
    base: Box<dyn Base>,
    decoder: ToyDecoder,
    output: StepOutput,
    at_pooled: AtPooled,
}

fn run(kind: BaseKind, cfg: &SynthPairConfig, golden: &Golden) -> Run {
    let mut settings = settings();
    // Shuffled sub-batches have no counterpart in PyTorch on one device.
    settings.moco.groups = 1;
    settings.moco.hidden = Some(10);
    let (mut base, at_pooled) = watched(kind, &settings, 1);
    let mut state: HashMap<_, _> = base.state().unwrap().into_iter().collect();
    let prefix = format!("{kind}.state.");
    for (name, tensor) in golden.tensors() {
        if let Some(name) = name.strip_prefix(&prefix) {
            let before = state.insert(name.to_owned(), tensor.clone());
            assert!(before.is_some(), "{name}");
        }
    }
    base.load_state(&state).unwrap();
    let decoder = ToyDecoder::normed(5).unwrap();
    for (name, var) in decoder.parameters.trainable() {
        var.set(&golden.get(&format!("state.decoder.{name}")))
            .unwrap();
    }
    let bank = golden.get("bank");
    let position = Tensor::new(&[bank.dim(0).unwrap() as i64], bank.device()).unwrap();
    let bank = [("bank.features", bank), ("bank.position", position)];
    let mut method = SynthPair::new(cfg, WIDTH, decoder.network()).unwrap();
    method
        .load_state(&bank.map(|(name, t)| (name.to_owned(), t)).into())
        .unwrap();
    let images = golden.get("images").to_dtype(DType::U32).unwrap();
    let output = method.step(
        base.as_mut(),
        StepInput {
            base_weight: 1.,
            views: [&golden.get("first"), &golden.get("second")].into(),
            images: &images.to_vec1().unwrap(),
            step: 4,
            total_steps: 10,
            seed: 3,
            augment: &|images, _| Ok(images.clone()),
            augment_on_device: None,
            pictures: true,
        },
    );
    Run {
        base,
        decoder,
        output: output.unwrap(),
        at_pooled,
    }
}

impl Run {
    /// Gradients of the base's variables by their names, and of each branch's h as `h.BRANCH`.
    fn gradients(&self) -> BTreeMap<String, Tensor> {
        let gradients = &self.output.gradients;
        let of = |(name, var): (String, Var)| (name, gradients.get(&var).unwrap().clone());
        let mut found: BTreeMap<_, _> = self.base.trainable().into_iter().map(of).collect();
        for (branch, at) in self.at_pooled.lock().unwrap().iter().enumerate() {
            found.insert(format!("h.{branch}"), at.clone());
        }
        found
    }
}

fn assert_scalar(what: &str, found: f64, golden: &Golden) {
    let expected = f64::from(golden.get(what).to_scalar::<f32>().unwrap());
    assert!(
        (found - expected).abs() <= REL * expected,
        "{what}: {found} instead of {expected}"
    );
}

fn largest(t: &Tensor) -> f32 {
    let largest = t.abs().unwrap().max_all().unwrap();
    largest.to_scalar().unwrap()
}

/// What is called `what.NAME` in the file, each as close as `REL` of its largest value. Variables that the
/// script found no gradient of have none, and a bias in front of a batch norm has but rounding.
fn assert_gradients(what: &str, found: &BTreeMap<String, Tensor>, golden: &Golden) {
    let mut compared = 0;
    for (name, found) in found {
        let name = format!("{what}.{name}");
        match golden.tensors().get(&name) {
            Some(expected) if largest(expected) > 1e-6 => {
                assert_close(&name, found, expected, REL);
                compared += 1;
            }
            _ => assert!(largest(found) < 1e-6, "{name}: {found}"),
        }
    }
    println!("{what}: {compared} of {} are not zero", found.len());
    assert!(compared > 2, "{what}");
}

fn minus(a: BTreeMap<String, Tensor>, b: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    let difference = |(name, a): (String, Tensor)| {
        let difference = (a - &b[&name]).unwrap();
        (name, difference)
    };
    a.into_iter().map(difference).collect()
}

const KINDS: [BaseKind; 2] = [BaseKind::MOCO_V2, BaseKind::BYOL];

#[test]
fn the_feature_twins_loss_and_gradients_are_pytorchs() {
    let golden = golden("variants.safetensors");
    for kind in KINDS {
        let alone = run(kind, &config(kind), &golden);
        assert!(alone.output.losses.get("loss_pair").is_none());
        let twin = SynthPairConfig {
            // Much, so that the pair shows beside L_C.
            nu: 8.,
            pair: PairOf::Features,
            ..config(kind)
        };
        let with = run(kind, &twin, &golden);
        let losses = &with.output.losses;
        assert_scalar(&format!("{kind}.contrastive"), losses.base(), &golden);
        assert_scalar(
            &format!("{kind}.pair"),
            losses.get("loss_pair").unwrap(),
            &golden,
        );
        let pictures = with.output.pictures.as_ref().unwrap();
        let mask = pictures.mask("synthpair").unwrap();
        let name = format!("{kind}.mask.0");
        assert_close(&name, mask, &golden.get(&name), 0.);
        let base = alone.gradients();
        assert_gradients(&format!("{kind}.base"), &base, &golden);
        let added = minus(with.gradients(), &base);
        assert_gradients(&format!("{kind}.twin"), &added, &golden);
    }
}

#[test]
fn the_perceptual_losss_gradients_are_pytorchs_at_the_decoder_and_none_at_the_encoder() {
    let golden = golden("variants.safetensors");
    for kind in KINDS {
        let alone = run(kind, &config(kind), &golden).gradients();
        let perceptual = SynthPairConfig {
            // Much, so that the reconstruction shows beside L_C.
            alpha: 30.,
            perceptual: 0.7,
            ..config(kind)
        };
        let with = run(kind, &perceptual, &golden);
        let reconstruction = with.output.losses.get("loss_reconstruction").unwrap();
        assert_scalar(&format!("{kind}.reconstruction"), reconstruction, &golden);
        let loss = figure(&with.output, "loss_perceptual").unwrap();
        assert_scalar(&format!("{kind}.perceptual"), loss, &golden);
        let gradients = &with.output.gradients;
        for (name, var) in with.decoder.parameters.trainable() {
            let expected = golden.get(&format!("{kind}.decoder.{name}"));
            assert_close(&name, gradients.get(&var).unwrap(), &expected, REL);
        }
        // One training pass of the decoder, whose batches it counts; the perceptual loss's is none.
        let count = with.decoder.parameters.buffers()["bn.running_mean"].to_vec1::<f32>();
        assert_eq!(count.unwrap(), [1.]);
        // What the encoder gets is the reconstruction's alone.
        let added = minus(with.gradients(), &alone);
        assert_gradients(&format!("{kind}.reconstruction"), &added, &golden);
    }
}

#[test]
fn the_curriculums_sizes_and_masks_are_numpys() {
    let golden = golden("variants.safetensors");
    let of = |name: &str| golden.get(&format!("curriculum.{name}"));
    let (variance, importance) = (of("variance"), of("importance"));
    let images: Vec<u32> = (0..importance.dim(0).unwrap() as u32).collect();
    for (name, course) in [
        ("constant", Course::Constant),
        ("linear", Course::Linear),
        ("cosine", Course::Cosine),
    ] {
        for start in [0.15, 2.2] {
            let cfg = SynthPairConfig {
                warm_up: 0.3,
                mask: MaskConfig {
                    rho_variance: 0.42,
                    rho_importance: 0.31,
                    ..MaskConfig::default()
                },
                curriculum: CurriculumConfig { course, start },
                ..SynthPairConfig::default()
            };
            cfg.validate().unwrap();
            let of = |what: &str| of(&format!("{name}.{start}.{what}"));
            let rho = of("rho").to_vec2::<f32>().unwrap();
            let size = of("size").to_vec2::<i64>().unwrap();
            let masks = of("mask").to_dtype(DType::F32).unwrap();
            for step in 0..21 {
                let at = mask_at(&cfg, step, 21);
                let (rho, size) = (&rho[step as usize], &size[step as usize]);
                for (found, expected) in [at.rho_variance, at.rho_importance].iter().zip(rho) {
                    let expected = f64::from(*expected);
                    assert!((found - expected).abs() < 1e-7, "{name} at {step}: {found}");
                }
                let key = RandomKey { seed: 3, step };
                let mask = |cfg: &MaskConfig| {
                    non_discriminative_mask(&variance, &importance, cfg, key, &images).unwrap()
                };
                let expected = masks.get(step as usize).unwrap();
                assert_close(&format!("{name} at {step}"), &mask(&at), &expected, 0.);
                // By one criterion alone: as many channels as it takes.
                let rules = [MaskRule::Variance, MaskRule::Importance];
                for (rule, size) in rules.into_iter().zip(size) {
                    let counts = mask(&MaskConfig { rule, ..at.clone() }).sum(1).unwrap();
                    for count in counts.to_vec1::<f32>().unwrap() {
                        assert_eq!(count as i64, *size, "{name} at {step}: {rule:?}");
                    }
                }
            }
        }
    }
}

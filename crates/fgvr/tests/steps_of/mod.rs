//! Steps of every base with every add-on, as small as they can be.
#![allow(unreachable_pub, missing_docs)]

use std::collections::BTreeMap;
use std::time::Duration;

use candle_core::{DType, Tensor};
use fgvr_data::Batch;
use fgvr_ssl::{AddonKind, BaseKind, supports};
use fgvr_train::{Compute, PretrainConfig, Trainer};
use sha2::{Digest, Sha256};

use crate::common::Place;

const STEPS: u64 = 3;
const IMAGES: usize = 8;
const SIDE: usize = 32;
const CROPS: usize = 2;
const CROP: usize = 16;

/// What is run.
pub struct Case {
    pub name: String,
    settings: Vec<String>,
}

impl Case {
    fn new(name: &str, settings: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            settings: settings
                .iter()
                .map(|setting| (*setting).to_owned())
                .collect(),
        }
    }

    fn config(&self) -> PretrainConfig {
        let common = [
            "encoder.architecture=resnet18",
            "optimizer.steps=3",
            "optimizer.lr=0.002",
            "synthpair.warm_up=0",
            "synthpair.ramp=0",
            "synthpair.bank_minimum=8",
            "loader.batch=8",
            "loader.crop_size=16",
            "moco.queue=24",
            "moco.pair_queue=24",
            "simsiam.dim=16",
            "simsiam.predictor_hidden=8",
            "byol.hidden=16",
            "byol.dim=8",
            "moco_v3.hidden=16",
            "moco_v3.dim=8",
            "dino.hidden=16",
            "dino.bottleneck=8",
            "dino.prototypes=32",
            "dino.local_crops=2",
            "dino.frozen_prototypes_epochs=0",
            "patch_match.dim=8",
        ];
        let settings = self.settings.iter().map(String::as_str);
        Place::new().config(&common.into_iter().chain(settings).collect::<Vec<_>>())
    }
}

/// Every base alone and with every add-on that it carries, and variants of the pairs.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for base in BaseKind::ALL {
        let of_base = format!("base={base}");
        cases.push(Case::new(base.name(), &[&of_base, "arm=base"]));
        for addon in AddonKind::ALL {
            // A teacher's features are of images that a run embeds first.
            if supports(base, addon).is_err() || addon == AddonKind::DISTIL {
                continue;
            }
            let addons = format!("addons=[\"{addon}\"]");
            let with = match addon {
                AddonKind::SYNTH_PAIR => "arm=full",
                _ => addons.as_str(),
            };
            let mut settings = vec![of_base.as_str(), with];
            if addon != AddonKind::SYNTH_PAIR {
                settings.push("arm=base");
            }
            if addon == AddonKind::LODISC {
                settings.push("lodisc.negatives=whole");
            }
            cases.push(Case::new(&format!("{base} {addon}"), &settings));
        }
    }
    for base in ["moco-v2", "byol"] {
        let of_base = format!("base={base}");
        for (name, settings) in [
            ("of features", &["synthpair.pair=features"][..]),
            ("of maps", &["synthpair.space=map"]),
            // Adam's first steps are as long for tiny gradients as for others: rounding would become a difference.
            (
                "with the perceptual loss",
                &["synthpair.perceptual=0.1", "optimizer.decoder_lr=1e-6"],
            ),
            (
                "by the variance between images",
                &["synthpair.variance=between"],
            ),
            ("swapped", &["synthpair.noise.kind=swap"]),
            ("at random", &["synthpair.mask.control=random"]),
            ("over two batches", &["optimizer.accumulate=2"]),
        ] {
            let settings = [&[of_base.as_str(), "arm=full"], settings].concat();
            cases.push(Case::new(&format!("{base} synthpair {name}"), &settings));
        }
    }
    cases.push(Case::new(
        "moco-v2 lodisc with masked negatives",
        &[
            "base=moco-v2",
            "arm=base",
            "addons=[\"lodisc\"]",
            "lodisc.negatives=masked",
        ],
    ));
    cases.push(Case::new(
        "moco-v3 with dropout",
        &["base=moco-v3", "arm=base", "moco_v3.predictor_dropout=0.2"],
    ));
    cases.push(Case::new(
        "simsiam without stop-gradient",
        &["base=simsiam", "arm=base", "simsiam.stop_gradient=false"],
    ));
    cases
}

fn batch(config: &PretrainConfig, seed: u64) -> Batch {
    let images = |v: u64, side| fgvr_testkit::normal(10 * seed + v, (IMAGES, 3, side, side));
    let crops = match config.base {
        BaseKind::DINO => CROPS,
        _ => 0,
    };
    Batch {
        views: vec![images(0, SIDE), images(1, SIDE)],
        crops: (0..crops as u64).map(|v| images(2 + v, CROP)).collect(),
        indices: (0..IMAGES as u32).map(|i| i + 8 * seed as u32).collect(),
        labels: vec![None; IMAGES],
        epoch: 0,
        batch: seed,
        last_of_epoch: false,
        wait: Duration::ZERO,
    }
}

/// What a step gave, and every variable, statistic, key and moment after it.
pub struct Step {
    pub loss: f64,
    pub gradient_norm: f64,
    pub state: BTreeMap<String, Tensor>,
}

impl Step {
    /// The steps of a case.
    pub fn all(case: &Case, compute: &Compute) -> Vec<Self> {
        let mut trainer = Trainer::new(&case.config(), 96, compute).expect("a trainer");
        let steps = (0..STEPS).map(|step| Self::of(&mut trainer, case, step));
        steps.collect()
    }

    /// The same steps, each from where the one before it in `others` ended: what differs by rounding is not trained on.
    pub fn each(case: &Case, compute: &Compute, others: &[Self]) -> Vec<Self> {
        let mut trainer = Trainer::new(&case.config(), 96, compute).expect("a trainer");
        let mut step = |step: u64| {
            if let Some(before) = step.checked_sub(1) {
                let state = others[before as usize].state.clone().into_iter().collect();
                trainer.load_state(step, &state).expect("the state fits");
            }
            Self::of(&mut trainer, case, step)
        };
        (0..STEPS).map(&mut step).collect()
    }

    fn of(trainer: &mut Trainer, case: &Case, step: u64) -> Self {
        let config = case.config();
        let count = config.optimizer.accumulate as u64;
        let batches = (0..count).map(|i| batch(&config, count * step + i));
        let row = trainer.step(&batches.collect::<Vec<_>>(), false);
        let row = row.expect("a step").0;
        assert!(row.loss.is_finite() && row.gradient_norm.is_finite());
        let state = trainer.state().expect("a state").into_iter();
        Self {
            loss: row.loss,
            gradient_norm: row.gradient_norm,
            state: state
                .map(|(name, tensor)| (name, tensor.copy().expect("a copy")))
                .collect(),
        }
    }

    /// Of names, and of values bit for bit.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        for (name, tensor) in &self.state {
            hash.update(name.as_bytes());
            let flat = tensor.flatten_all().expect("a vector");
            match flat.dtype() {
                DType::F32 => (flat.to_vec1::<f32>().expect("f32").iter())
                    .for_each(|v| hash.update(v.to_bits().to_le_bytes())),
                _ => {
                    let counts = flat.to_dtype(DType::I64).expect("counts");
                    (counts.to_vec1::<i64>().expect("i64").iter())
                        .for_each(|v| hash.update(v.to_le_bytes()));
                }
            }
        }
        hash.finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

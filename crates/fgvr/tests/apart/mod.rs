//! Steps on the emulated GPU beside the CPU's.
#![allow(unreachable_pub, missing_docs)]

use std::collections::BTreeMap;
use std::time::Duration;

use candle_core::{DType, Tensor};
use fgvr_data::Batch;
use fgvr_encoder::Backbone;
use fgvr_nn::{Parameters, Precision};
use fgvr_ssl::{Base, Network, Parts, RunLength, StepInput, Views};
use fgvr_train::{Compute, PretrainConfig, StepRow, Trainer};

use crate::common::Place;
use crate::emulated::{emulated, largest_difference, relative};

pub const STEPS: u64 = 3;

pub fn batch(seed: u64) -> Batch {
    let n = 8;
    let view = |v: u64| fgvr_testkit::normal(10 * seed + v, (n, 3, 16, 16));
    Batch {
        views: vec![view(0), view(1)],
        crops: Vec::new(),
        indices: (0..n as u32).map(|i| i + 8 * seed as u32).collect(),
        labels: vec![None; n],
        epoch: 0,
        batch: seed,
        last_of_epoch: false,
        wait: Duration::ZERO,
    }
}

/// The rows of a few steps, and every variable and statistic after them.
pub fn steps(
    config: &PretrainConfig,
    compute: &Compute,
) -> (Vec<StepRow>, BTreeMap<String, Tensor>) {
    let mut trainer = Trainer::new(config, 96, compute).expect("a trainer");
    let rows = (0..STEPS).map(|step| trainer.step(&[batch(step)], false).expect("a step").0);
    let rows = rows.collect();
    (rows, trainer.state().expect("a state"))
}

/// How far the steps on the emulated GPU are from the CPU's.
pub struct Apart {
    /// Losses and gradient norm of the first step that has negatives to tell apart, before any is learnt from.
    pub first: f64,
    /// Of all steps.
    pub losses: f64,
    /// How often the nearest key is the right one, of all steps.
    pub top1: f64,
    /// Variables and statistics after them.
    pub state: f64,
}

/// A run of three steps on small images, with heads small enough for a test.
pub fn config(place: &Place, settings: &[&str]) -> PretrainConfig {
    let common = [
        "optimizer.steps=3",
        "optimizer.lr=0.05",
        "synthpair.warm_up=0",
        "synthpair.ramp=0",
        "synthpair.bank_minimum=8",
        "data.size=16",
        "loader.batch=8",
        "simsiam.dim=16",
        "simsiam.predictor_hidden=8",
        "byol.hidden=16",
        "byol.dim=8",
        "moco_v3.hidden=16",
        "moco_v3.dim=8",
        "dino.hidden=16",
        "dino.prototypes=32",
    ];
    place.config(&[&common[..], settings].concat())
}

pub fn apart(settings: &[&str], precision: Precision) -> Option<Apart> {
    let config = config(&Place::new(), settings);
    let emulated = emulated(precision)?;
    let (rows, state) = steps(&config, &Compute::cpu());
    let (on_device, state_on_device) = steps(&config, &emulated);
    let off = |(a, b): (&StepRow, &StepRow)| {
        assert_eq!(a.get("loss_pair").is_some(), b.get("loss_pair").is_some());
        let of = |row: &StepRow| {
            [
                row.loss,
                row.get("loss_base").expect("the base's loss"),
                row.gradient_norm,
                row.embedding_std,
            ]
        };
        let off = of(a).into_iter().zip(of(b));
        off.map(|(a, b)| relative(a, b)).fold(0., f64::max)
    };
    let by_step: Vec<f64> = rows.iter().zip(&on_device).map(off).collect();
    let (of_state, _) = largest_difference(&state, &state_on_device);
    let of_top1 = rows
        .iter()
        .zip(&on_device)
        .map(|(a, b)| (a.top1 - b.top1).abs());
    Some(Apart {
        first: by_step[rows.iter().position(|row| row.loss != 0.).expect("a loss")],
        losses: by_step.iter().copied().fold(0., f64::max),
        top1: of_top1.fold(0., f64::max),
        state: of_state,
    })
}

/// The base of these settings.
pub fn base(config: &PretrainConfig, compute: &Compute) -> candle_core::Result<Box<dyn Base>> {
    let mut network = || {
        let parameters = Parameters::new(config.seed);
        let vb = parameters.builder(DType::F32, &candle_core::Device::Cpu);
        let encoder = Backbone::new(&config.encoder, vb)?.on(compute.device().cloned());
        if let Some(device) = compute.device() {
            parameters.to_device(device)?;
        }
        let network = Network {
            encoder,
            parameters,
        };
        Ok(network.any())
    };
    let run = RunLength {
        steps: STEPS,
        steps_per_epoch: STEPS,
    };
    let parts = Parts {
        network: &mut network,
        seed: config.seed,
        run,
    };
    config.base_config(96).expect("a base").build(parts)
}

/// A step, its gradient at features on the CPU, and steps again: what the base holds then, and that gradient.
pub fn mixed_passes(
    config: &PretrainConfig,
    compute: &Compute,
) -> candle_core::Result<BTreeMap<String, Tensor>> {
    let mut base = base(config, compute)?;
    let mut between = Vec::new();
    for pass in 0..STEPS {
        let batch = batch(pass);
        let views = Views {
            global: [&batch.views[0], &batch.views[1]],
            local: &[],
            sent: None,
        };
        let input = StepInput {
            base_weight: 1.,
            views,
            images: &batch.indices,
            step: pass,
            total_steps: STEPS,
            seed: config.seed,
            augment: &|images, _| Ok(images.clone()),
            augment_on_device: None,
            pictures: false,
        };
        fgvr_ssl::step(base.as_mut(), &mut [], input)?;
        base.after_step()?;
        // Heads come to the CPU for it, and the next step finds them where they were.
        let [first, second] = views.global;
        between.push(base.gradient_at_pooled(first, second, &batch.indices)?.1);
    }
    let Batch { views, indices, .. } = batch(STEPS);
    let (_, gradient) = base.gradient_at_pooled(&views[0], &views[1], &indices)?;
    let mut state = base.state()?;
    state.insert("gradient".into(), gradient);
    let between = between.into_iter().enumerate();
    state.extend(between.map(|(pass, gradient)| (format!("gradient {pass}"), gradient)));
    Ok(state)
}

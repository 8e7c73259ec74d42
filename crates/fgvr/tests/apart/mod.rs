//! Steps on the emulated GPU beside the CPU's.
#![allow(unreachable_pub, missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use candle_core::{DType, Tensor};
use fgvr_data::Batch;
use fgvr_encoder::Backbone;
use fgvr_nn::cuda::emulator::Emulator;
use fgvr_nn::{Device, Parameters, Precision};
use fgvr_ssl::{Network, Parts, RunLength, StepInput, Views};
use fgvr_train::{Compute, PretrainConfig, StepRow, Trainer};

use crate::common::Place;

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

/// The length of a - b as a share of that of a.
pub fn difference(a: &Tensor, b: &Tensor) -> candle_core::Result<f64> {
    let length = |t: &Tensor| -> candle_core::Result<f64> {
        let squares = t.to_dtype(DType::F64)?.sqr()?.sum_all()?;
        Ok(squares.to_scalar::<f64>()?.sqrt())
    };
    let (a, b) = (a.to_dtype(DType::F64)?, b.to_dtype(DType::F64)?);
    Ok(length(&(&a - &b)?)? / length(&a)?.max(1e-3))
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

/// The emulated GPU; `None` without a compiler.
pub fn emulated(precision: Precision) -> Option<Compute> {
    match Emulator::new(Path::new(env!("CARGO_TARGET_TMPDIR"))) {
        Ok(emulator) => {
            let device = Device::new(Arc::new(emulator), precision.real(), "emulator");
            Some(Compute::on(device))
        }
        Err(error) => {
            fgvr_testkit::skipped(error);
            None
        }
    }
}

pub fn apart(settings: &[&str], precision: Precision) -> Option<Apart> {
    let config = config(&Place::new(), settings);
    let emulated = emulated(precision)?;
    let (rows, state) = steps(&config, &Compute::cpu());
    let (on_device, state_on_device) = steps(&config, &emulated);
    let relative = |a: f64, b: f64| (a - b).abs() / a.abs().max(1e-3);
    let off = |(a, b): (&StepRow, &StepRow)| {
        assert_eq!(a.loss_pair.is_some(), b.loss_pair.is_some());
        let of = |row: &StepRow| {
            [
                row.loss,
                row.loss_contrastive,
                row.gradient_norm,
                row.embedding_std,
            ]
        };
        let off = of(a).into_iter().zip(of(b));
        off.map(|(a, b)| relative(a, b)).fold(0., f64::max)
    };
    let by_step: Vec<f64> = rows.iter().zip(&on_device).map(off).collect();
    assert_eq!(state.len(), state_on_device.len());
    let mut of_state = 0f64;
    for ((name, a), (other, b)) in state.iter().zip(&state_on_device) {
        assert_eq!(name, other);
        of_state = of_state.max(difference(a, b).expect("a difference"));
    }
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

/// A step, a pass on the CPU, and a step again: what the base holds then, and its gradient at features.
pub fn mixed_passes(
    config: &PretrainConfig,
    compute: &Compute,
) -> candle_core::Result<BTreeMap<String, Tensor>> {
    let mut network = || {
        let parameters = Parameters::new(config.seed);
        let vb = parameters.builder(DType::F32, &candle_core::Device::Cpu);
        let encoder = Backbone::new(&config.encoder, vb)?.on(compute.device().cloned());
        if let Some(device) = compute.device() {
            parameters.live_on(device)?;
        }
        Ok(Network {
            encoder,
            parameters,
        })
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
    let mut base = config.base.build(&config.base_settings(96), parts)?;
    for pass in 0..STEPS {
        let batch = batch(pass);
        let views = Views {
            global: [&batch.views[0], &batch.views[1]],
            local: &[],
        };
        match pass {
            1 => drop(base.real(views, &batch.indices)?),
            _ => {
                let input = StepInput {
                    views,
                    images: &batch.indices,
                    step: pass,
                    total_steps: STEPS,
                    seed: config.seed,
                    augment: &|images, _| Ok(images.clone()),
                    views_there: None,
                    augment_there: None,
                    pictures: false,
                };
                fgvr_ssl::step(base.as_mut(), &mut [], input)?;
            }
        }
        base.after_step()?;
    }
    let Batch { views, indices, .. } = batch(STEPS);
    let (_, gradient) = base.gradient_at_pooled(&views[0], &views[1], &indices)?;
    let mut state = base.state()?;
    state.insert("gradient".into(), gradient);
    Ok(state)
}

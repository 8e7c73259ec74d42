//! Whole training steps with the trunk on a device, here the emulated GPU, beside the CPU's.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use candle_core::{DType, Tensor};
use common::Place;
use fgvr_data::Batch;
use fgvr_nn::cuda::Real;
use fgvr_nn::cuda::emulator::Emulator;
use fgvr_nn::{Device, Precision};
use fgvr_train::{Compute, PretrainConfig, Silent, StepRow, Trainer, pretrain};

const STEPS: u64 = 3;

fn batch(seed: u64) -> Batch {
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
fn steps(config: &PretrainConfig, compute: &Compute) -> (Vec<StepRow>, BTreeMap<String, Tensor>) {
    let mut trainer = Trainer::new(config, 96, compute).expect("a trainer");
    let rows = (0..STEPS).map(|step| trainer.step(&[batch(step)], false).expect("a step").0);
    let rows = rows.collect();
    (rows, trainer.state().expect("a state"))
}

/// The length of a - b as a share of that of a.
fn difference(a: &Tensor, b: &Tensor) -> candle_core::Result<f64> {
    let length = |t: &Tensor| -> candle_core::Result<f64> {
        let squares = t.to_dtype(DType::F64)?.sqr()?.sum_all()?;
        Ok(squares.to_scalar::<f64>()?.sqrt())
    };
    let (a, b) = (a.to_dtype(DType::F64)?, b.to_dtype(DType::F64)?);
    Ok(length(&(&a - &b)?)? / length(&a)?.max(1e-3))
}

/// How far the steps on the emulated GPU are from the CPU's.
struct Apart {
    /// Losses and gradient norm of the first step that has negatives to tell apart, before any is learnt from.
    first: f64,
    /// Of all steps.
    losses: f64,
    /// Variables and statistics after them.
    state: f64,
}

fn apart(settings: &[&str], precision: Precision) -> Option<Apart> {
    let place = Place::new();
    let common = [
        "optimizer.steps=3",
        "optimizer.lr=0.05",
        "synthpair.warm_up=0",
        "synthpair.ramp=0",
        "synthpair.bank_minimum=8",
        "data.size=16",
        "loader.batch=8",
    ];
    let config = place.config(&[&common[..], settings].concat());
    let emulated = match Emulator::new(Path::new(env!("CARGO_TARGET_TMPDIR"))) {
        Ok(emulator) => Compute::on(Device::new(
            Arc::new(emulator),
            precision.real(),
            "emulator",
        )),
        Err(error) => {
            fgvr_testkit::skipped(error);
            return None;
        }
    };
    let (rows, state) = steps(&config, &Compute::cpu());
    let (on_device, state_on_device) = steps(&config, &emulated);
    let relative = |a: f64, b: f64| (a - b).abs() / a.abs().max(1e-3);
    let off = |(a, b): (&StepRow, &StepRow)| {
        assert_eq!(a.loss_pair.is_some(), b.loss_pair.is_some());
        let losses = relative(a.loss, b.loss).max(relative(a.loss_contrastive, b.loss_contrastive));
        losses.max(relative(a.gradient_norm, b.gradient_norm))
    };
    let by_step: Vec<f64> = rows.iter().zip(&on_device).map(off).collect();
    assert_eq!(state.len(), state_on_device.len());
    let mut of_state = 0f64;
    for ((name, a), (other, b)) in state.iter().zip(&state_on_device) {
        assert_eq!(name, other);
        of_state = of_state.max(difference(a, b).expect("a difference"));
    }
    Some(Apart {
        first: by_step[rows.iter().position(|row| row.loss > 0.).expect("a loss")],
        losses: by_step.iter().copied().fold(0., f64::max),
        state: of_state,
    })
}

#[test]
fn three_steps_of_moco_v2_are_those_of_the_cpu() {
    let Some(Apart { losses, state, .. }) = apart(&["arm=base"], Precision::F32) else {
        return;
    };
    eprintln!("MoCo v2, f32: losses off by {losses:.1e}, state by {state:.1e}");
    assert!(
        losses < 1e-4 && state < 1e-4,
        "losses {losses:.1e}, state {state:.1e}"
    );
}

#[test]
fn three_steps_of_synthpair_are_those_of_the_cpu() {
    let Some(Apart { losses, state, .. }) = apart(&["arm=full"], Precision::F32) else {
        return;
    };
    eprintln!("SynthPair, f32: losses off by {losses:.1e}, state by {state:.1e}");
    assert!(
        losses < 1e-4 && state < 1e-3,
        "losses {losses:.1e}, state {state:.1e}"
    );
}

/// Steps that follow part ways: what differs by rounding is trained on.
#[test]
fn a_step_in_bf16_is_near_that_of_the_cpu() {
    let Some(Apart { first, state, .. }) = apart(&["arm=base"], Precision::Bf16) else {
        return;
    };
    eprintln!("MoCo v2, bf16: the first step is off by {first:.1e}");
    assert!(first < 0.1 && first > 1e-5, "off by {first:.1e}");
    assert!(state > 1e-3, "bf16 was not used");
}

#[test]
fn a_batch_that_does_not_fit_is_refused_with_one_that_would() {
    let place = Place::new();
    let config = |batch: usize| {
        place.config(&[
            "arm=full",
            "data.size=16",
            &format!("loader.batch={batch}"),
            "synthpair.warm_up=0",
            "synthpair.ramp=0",
            "synthpair.bank_minimum=8",
            "optimizer.steps=2",
            "moco.queue=64",
            "moco.pair_queue=64",
            "evaluate.part_images=0",
        ])
    };
    let run = |batch: usize, out: &str, memory: usize| {
        let emulator = Emulator::new(Path::new(env!("CARGO_TARGET_TMPDIR")))?.with_memory(memory);
        let device = Device::new(Arc::new(emulator), Real::F32, "a small GPU");
        let place = fgvr_train::Place::Folder(place.join(out));
        Ok::<_, fgvr_nn::cuda::Error>(pretrain(
            &config(batch),
            &place,
            &Compute::on(device),
            &mut Silent,
        ))
    };
    // Enough for 8 images and not for 32, as this network and this step need it.
    let memory = 3 << 19;
    let error = match run(32, "large", memory) {
        Ok(end) => end.expect_err("more than memory holds").to_string(),
        Err(missing) => return fgvr_testkit::skipped(missing),
    };
    assert!(
        error.starts_with("loader.batch=32: 32 images do not fit the memory of a small GPU"),
        "{error}"
    );
    let fits = error
        .split("about ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok());
    let fits = fits.unwrap_or_else(|| panic!("names no batch: {error}"));
    assert!((2..32).contains(&fits), "{error}");
    eprintln!("{error}");
    run(fits, "fits", memory)
        .expect("a compiler")
        .expect("the batch that was named fits");
}

#[test]
fn the_program_trains_on_the_emulated_gpu_and_says_so() {
    let place = Place::new();
    let set = [
        "optimizer.steps=2",
        "data.size=16",
        "data.lookalikes.train_images=32",
        "evaluate.part_images=0",
    ];
    let mut arguments = vec!["--out", "run", "--device", "emulator"];
    set.iter()
        .for_each(|setting| arguments.extend(["--set", setting]));
    let output = place
        .fgvr(&[&["pretrain", "--config", "tiny.toml"], &arguments[..]].concat())
        .env("FGVR_KERNEL_CACHE", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .expect("fgvr starts");
    let text = String::from_utf8_lossy(&output.stderr);
    if text.contains("no C++ compiler") {
        return fgvr_testkit::skipped(text);
    }
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("the trunk runs on an emulated GPU, f32"),
        "{text}"
    );
    assert_eq!(place.json("run/env.json")["device"], "an emulated GPU, f32");
}

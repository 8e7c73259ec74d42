//! Runs on a device, here the emulated GPU: repeated, resumed, accumulated, and when something is not finite.

mod common;
mod emulated;

use std::collections::BTreeMap;
use std::time::Duration;

use candle_core::{DType, Tensor};
use common::Place;
use emulated::{emulated, largest_difference};
use fgvr_data::Batch;
use fgvr_nn::Precision;
use fgvr_train::{Compute, PretrainConfig, StepRow, Trainer};

type Bits = BTreeMap<String, Vec<u32>>;

fn config(settings: &[&str]) -> PretrainConfig {
    let common = [
        "optimizer.steps=6",
        "optimizer.lr=0.05",
        "synthpair.warm_up=0",
        "synthpair.ramp=0",
        "synthpair.bank_minimum=8",
        "data.size=16",
        "loader.batch=8",
        "moco.queue=24",
        "moco.pair_queue=24",
    ];
    Place::new().config(&[&common[..], settings].concat())
}

fn batch(seed: u64) -> Batch {
    batch_of(16, seed)
}

fn batch_of(side: usize, seed: u64) -> Batch {
    let n = 8;
    let view = |v: u64| fgvr_testkit::normal(10 * seed + v, (n, 3, side, side));
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

fn trainer(config: &PretrainConfig, compute: &Compute) -> Trainer {
    Trainer::new(config, 96, compute).expect("a trainer")
}

fn step(trainer: &mut Trainer, seed: u64) -> StepRow {
    trainer.step(&[batch(seed)], false).expect("a step").0
}

fn values(trainer: &Trainer) -> BTreeMap<String, Tensor> {
    let state = trainer.state().expect("a state").into_iter();
    state
        .map(|(name, t)| (name, t.copy().expect("a copy")))
        .collect()
}

fn bits(trainer: &Trainer) -> Bits {
    let flat = |t: &Tensor| -> Vec<u32> {
        let t = t.flatten_all().expect("a vector");
        match t.dtype() {
            DType::F32 => (t.to_vec1::<f32>().expect("f32").iter())
                .map(|v| v.to_bits())
                .collect(),
            _ => (t.to_dtype(DType::U32).expect("a count").to_vec1()).expect("u32"),
        }
    };
    let state = values(trainer);
    state
        .iter()
        .map(|(name, t)| (name.clone(), flat(t)))
        .collect()
}

#[test]
fn a_run_repeats_its_bits_and_so_does_one_that_was_resumed() {
    let Some(compute) = emulated(Precision::F32) else {
        return;
    };
    for settings in [&["arm=full"][..], &["arm=full", "optimizer.kind=\"adamw\""]] {
        let config = config(settings);
        let whole = || {
            let mut trainer = trainer(&config, &compute);
            assert!(trainer.step_device().is_some());
            (0..4).for_each(|at| drop(step(&mut trainer, at)));
            bits(&trainer)
        };
        let expected = whole();
        assert_eq!(expected, whole(), "{settings:?}: repeated");

        let mut first = trainer(&config, &compute);
        (0..2).for_each(|at| drop(step(&mut first, at)));
        let saved = values(&first).into_iter().collect();
        drop(first);
        let mut resumed = trainer(&config, &compute);
        resumed.load_state(2, &saved).expect("the state fits");
        (2..4).for_each(|at| drop(step(&mut resumed, at)));
        assert_eq!(expected, bits(&resumed), "{settings:?}: resumed");

        // And from steps on the CPU, or to them.
        let mut here = trainer(&config, &Compute::cpu());
        here.load_state(2, &saved).expect("the state fits");
        (2..4).for_each(|at| drop(step(&mut here, at)));
        let (off, name) = largest_difference(&values(&here), &values(&resumed));
        assert!(off < 1e-3, "{settings:?}: {name} is off by {off:.1e}");
    }
}

#[test]
fn variants_give_what_they_give_on_the_cpu() {
    let Some(compute) = emulated(Precision::F32) else {
        return;
    };
    for settings in [
        &["arm=full", "optimizer.accumulate=2"][..],
        &["arm=full", "synthpair.mask.control=\"random\""],
        &["arm=full", "synthpair.noise.kind=\"swap\""],
        &["arm=full", "synthpair.variance=\"between\""],
        &["arm=full", "synthpair.mask.per_sample=false"],
        // Adam's first steps are as long for tiny gradients as for others: rounding would become a difference.
        &[
            "arm=full",
            "synthpair.perceptual=0.1",
            "optimizer.decoder_lr=1e-6",
        ],
        &["arm=base", "addons=[\"lcr\"]", "data.size=32"],
    ] {
        let config = config(settings);
        let run = |compute: &Compute| {
            let mut trainer = trainer(&config, compute);
            let place = compute.device().is_some();
            assert_eq!(trainer.step_device().is_some(), place, "{settings:?}");
            for at in 0..2 {
                let count = config.optimizer.accumulate as u64;
                let batches: Vec<Batch> = (0..count)
                    .map(|i| batch_of(config.data.size, count * at + i))
                    .collect();
                let (row, _) = trainer.step(&batches, false).expect("a step");
                assert!(row.loss.is_finite() && row.gradient_norm.is_finite());
            }
            values(&trainer)
        };
        let (a, b) = (run(&Compute::cpu()), run(&compute));
        let (off, name) = largest_difference(&a, &b);
        eprintln!("{settings:?}: {name} is off by {off:.1e}");
        // A rank of the mask that rounding decides changes an image's pair, and all that follows.
        assert!(off < 1e-2, "{settings:?}: {name} is off by {off:.1e}");
    }
}

#[test]
fn a_step_that_is_not_finite_changes_nothing() {
    let Some(compute) = emulated(Precision::F32) else {
        return;
    };
    let config = config(&["arm=full"]);
    let mut trainer = trainer(&config, &compute);
    (0..2).for_each(|at| drop(step(&mut trainer, at)));
    let before = bits(&trainer);
    let mut broken = batch(5);
    let n = broken.views[1].dims().to_vec();
    broken.views[1] = Tensor::full(f32::NAN, n, &candle_core::Device::Cpu).expect("a tensor");
    let (row, _) = trainer.step(&[broken], false).expect("a row");
    assert!(!row.loss.is_finite() && row.get("loss_pair").is_none());
    let after = bits(&trainer);
    let changed: Vec<_> = (before.iter())
        .filter(|(name, values)| after[*name] != **values)
        .map(|(name, _)| name.as_str())
        // Running statistics follow every pass, on the CPU too.
        .filter(|name| !name.contains("running_"))
        .collect();
    assert!(changed.is_empty(), "{changed:?}");
    // And it goes on.
    assert!(step(&mut trainer, 3).lr > 0.);
}

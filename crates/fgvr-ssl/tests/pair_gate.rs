//! The gate in front of the pair loss: shut until it is measured, open for good, saved.
#![allow(clippy::unwrap_used)] // in helpers of tests

mod toy;

use std::collections::HashMap;

use candle_core::Tensor;
use fgvr_ssl::{Addon, Arm, Base, BaseKind, Space, SynthPair, SynthPairConfig};
use toy::{ToyDecoder, WIDTH, base, batch, figure, input, settings};

const N: usize = 8;

fn choices(gate: f64) -> SynthPairConfig {
    let mut cfg = SynthPairConfig {
        gate,
        gate_every: 7,
        bank_size: 40,
        bank_minimum: 8,
        warm_up: 0.,
        ramp: 0.,
        ..SynthPairConfig::default()
    };
    Arm::Full.apply(&mut cfg);
    cfg
}

fn pairs(cfg: &SynthPairConfig) -> SynthPair {
    SynthPair::new(cfg, WIDTH, ToyDecoder::new(5).unwrap().network()).unwrap()
}

/// A step, its ν and its pair loss.
fn take(base: &mut dyn Base, addon: &mut SynthPair, number: u64) -> (f64, Option<f64>) {
    let ([first, second], images) = batch(number, N);
    let output = addon
        .step(base, input([&first, &second], &images, number))
        .unwrap();
    base.after_step().unwrap();
    let nu = figure(&output, "nu").unwrap();
    (nu, output.losses.get("loss_pair"))
}

fn state(addon: &SynthPair) -> HashMap<String, Tensor> {
    addon.state().unwrap().into_iter().collect()
}

#[test]
fn there_is_no_pair_until_the_share_is_reached_and_then_for_good() {
    let (mut base, mut addon) = (
        base(BaseKind::MOCO_V2, &settings(), 1),
        pairs(&choices(0.7)),
    );
    let gate = addon.gate().unwrap();
    assert_eq!(
        (gate.share, gate.every, gate.space),
        (0.7, 7, Space::Vector)
    );
    for number in 0..3 {
        assert_eq!(take(base.as_mut(), &mut addon, number), (0., None));
    }
    for share in [0.69, 0., f64::NAN] {
        assert!(!addon.measured(share, 3));
    }
    let shut = state(&addon);
    assert!(addon.measured(0.7, 3) && addon.gate().is_none());
    // Once open it is not asked again, and stays.
    assert!(!addon.measured(0.1, 4));
    let (nu, loss) = take(base.as_mut(), &mut addon, 3);
    assert!(nu == 0.5 && loss.is_some());

    let mut loaded = pairs(&choices(0.7));
    loaded.load_state(&shut).unwrap();
    assert!(loaded.gate().is_some());
    loaded.load_state(&state(&addon)).unwrap();
    assert!(loaded.gate().is_none());
    let again = state(&loaded)["gate.opened"].to_vec1::<i64>().unwrap();
    assert_eq!(again, [1, 3]);
}

#[test]
fn without_a_gate_nothing_is_saved_of_it_and_a_state_without_one_is_shut() {
    let mut open = pairs(&choices(0.));
    assert!(open.gate().is_none());
    let saved = state(&open);
    assert!(saved.keys().all(|name| name.starts_with("bank.")));
    let mut gated = pairs(&choices(0.5));
    gated.measured(0.9, 2);
    open.load_state(&state(&gated)).unwrap();
    assert!(open.gate().is_none());
    gated.load_state(&saved).unwrap();
    assert!(gated.gate().is_some());
    // A run without pairs has none to hold back.
    let idle = SynthPairConfig {
        nu: 0.,
        ..choices(0.5)
    };
    assert!(pairs(&idle).gate().is_none());
}

//! A few steps of every base with every add-on that stands on it: on the CPU beside a table, and on the emulated GPU
//! beside the CPU.
//!
//! `FGVR_WRITE_STEPS=1 cargo test -p fgvr --test steps table` writes the table anew, for the instructions at hand
//! (`FGVR_SIMD`): after a change of arithmetic that is meant, with the reason in the commit. The hashes of the states are
//! compared with `FGVR_EXACT_STEPS=1` alone, for a change that must not touch a bit: the C library and candle's matrix
//! products round differently from one processor to another, so that a table of one machine does not bind the next.

mod common;
mod emulated;
mod steps_of;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use emulated::{emulated, largest_difference};
use fgvr_nn::Precision;
use fgvr_nn::kernels::simd::{self, Level};
use fgvr_train::Compute;
use serde::{Deserialize, Serialize};
use steps_of::{Step, cases};

/// How far a step on a device may be from the CPU's, as a share: losses, norms of gradients, and any variable, statistic
/// or moment after it. The latter of a bias in front of a norm is rounding in both places.
const LOSSES: f64 = 1e-4;
const NORMS: f64 = 1e-3;
const STATE: f64 = 2e-2;

/// What a case gave once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Row {
    /// Loss of each step.
    losses: Vec<f64>,
    /// Norm of the gradient of encoder and head at each step.
    gradient_norms: Vec<f64>,
    /// Hash of the state after the steps, by instructions. Of a processor with AVX-512, whose other instructions (those
    /// of candle's products) `FGVR_SIMD` does not choose.
    sha256: BTreeMap<String, String>,
}

fn table_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/steps/table.json")
}

fn table() -> BTreeMap<String, Row> {
    let bytes = std::fs::read(table_path()).expect("the table");
    serde_json::from_slice(&bytes).expect("the table is JSON")
}

fn write(rows: &BTreeMap<String, Row>) {
    let text = serde_json::to_string_pretty(rows).expect("a table");
    std::fs::write(table_path(), text + "\n").expect("the table");
}

fn losses(steps: &[Step]) -> Vec<f64> {
    steps.iter().map(|step| step.loss).collect()
}

fn gradient_norms(steps: &[Step]) -> Vec<f64> {
    steps.iter().map(|step| step.gradient_norm).collect()
}

/// The largest difference of two courses, as a share of what is expected, or of 0.1: a sum of losses may be next to zero.
fn off(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(expected);
    let off = pairs.map(|(a, b)| (a - b).abs() / b.abs().max(0.1));
    off.fold(0., f64::max)
}

#[test]
fn every_combination_on_the_cpu_is_that_of_the_table() {
    let writes = std::env::var_os("FGVR_WRITE_STEPS").is_some();
    let exact = std::env::var_os("FGVR_EXACT_STEPS").is_some();
    let level = simd::level().name();
    let mut rows = match writes && !table_path().exists() {
        true => BTreeMap::new(),
        false => table(),
    };
    let cases = cases();
    let names: Vec<_> = cases.iter().map(|case| case.name.clone()).collect();
    if writes {
        rows.retain(|name, _| names.contains(name));
    }
    let mut wrong = Vec::new();
    for case in &cases {
        let steps = Step::all(case, &Compute::cpu());
        let found = [losses(&steps), gradient_norms(&steps)];
        let hash = steps.last().expect("a step").sha256();
        if writes {
            let row = rows.entry(case.name.clone()).or_default();
            if simd::level() == Level::detected() {
                [row.losses, row.gradient_norms] = found;
            }
            row.sha256.insert(level.to_owned(), hash);
            continue;
        }
        let Some(row) = rows.get(&case.name) else {
            wrong.push(format!("{}: not in the table", case.name));
            continue;
        };
        let (losses, norms) = (
            off(&found[0], &row.losses),
            off(&found[1], &row.gradient_norms),
        );
        if losses > 1e-3 || norms > 1e-2 {
            wrong.push(format!(
                "{}: losses are off by {losses:.1e}, gradients by {norms:.1e}",
                case.name
            ));
        }
        if exact && row.sha256.get(level) != Some(&hash) {
            wrong.push(format!("{}: other bits with {level}", case.name));
        }
    }
    if writes {
        return write(&rows);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let known: Vec<_> = rows.keys().cloned().collect();
    let mut names = names;
    names.sort();
    assert_eq!(known, names, "the table has other cases");
}

#[test]
fn every_combination_on_a_device_is_that_of_the_cpu() {
    let Some(device) = emulated(Precision::F32) else {
        return;
    };
    let mut wrong = Vec::new();
    for case in cases() {
        let on_host = Step::all(&case, &Compute::cpu());
        let on_device = Step::each(&case, &device, &on_host);
        let losses = off(&losses(&on_device), &losses(&on_host));
        let norms = off(&gradient_norms(&on_device), &gradient_norms(&on_host));
        let states = on_host.iter().zip(&on_device);
        let states = states.map(|(a, b)| largest_difference(&a.state, &b.state));
        let (state, name) = states.fold((0., String::new()), |worst, new| {
            if new.0 > worst.0 || new.0.is_nan() {
                new
            } else {
                worst
            }
        });
        let found = format!(
            "{}: losses off by {losses:.1e}, gradients by {norms:.1e}, state by {state:.1e} ({name})",
            case.name
        );
        eprintln!("{found}");
        if losses > LOSSES || norms > NORMS || state > STATE || state.is_nan() {
            wrong.push(found);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

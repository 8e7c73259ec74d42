//! The emulated GPU, and how far what it gives is from what the CPU gives.
#![allow(dead_code, unreachable_pub, missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use fgvr_nn::cuda::emulator::Emulator;
use fgvr_nn::{Device, Precision};
use fgvr_train::Compute;

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

/// The length of a - b as a share of that of a.
pub fn difference(a: &Tensor, b: &Tensor) -> candle_core::Result<f64> {
    let length = |t: &Tensor| -> candle_core::Result<f64> {
        let squares = t.to_dtype(DType::F64)?.sqr()?.sum_all()?;
        Ok(squares.to_scalar::<f64>()?.sqrt())
    };
    let (a, b) = (a.to_dtype(DType::F64)?, b.to_dtype(DType::F64)?);
    Ok(length(&(&a - &b)?)? / length(&a)?.max(1e-3))
}

/// The largest [`difference`] of tensors of the same names, and whose it is.
pub fn largest_difference(
    a: &BTreeMap<String, Tensor>,
    b: &BTreeMap<String, Tensor>,
) -> (f64, String) {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    let mut worst = (0., String::new());
    for (name, a) in a {
        let off = difference(a, &b[name]).expect("a difference");
        if off > worst.0 || off.is_nan() {
            worst = (off, name.clone());
        }
    }
    worst
}

/// |a - b| as a share of a.
pub fn relative(a: f64, b: f64) -> f64 {
    (a - b).abs() / a.abs().max(1e-3)
}

//! Batch norm of a ResNet-50: of the stem, with a ReLU, and at a block's end, with a residual and a ReLU.

use super::{Case, Inputs, Scale, bf16};
use crate::ops::batch_norm::{Mask, Norm, Residual};
use crate::ops::{ActivationFunction, Rows};
use crate::{Array, DType, Machine, Real, Result};

const EPS: f64 = 1e-5;

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let rows = |side: usize, channels: usize| Rows {
        groups: 1,
        rows: scale.size(256, 2) * side * side,
        channels,
    };
    let stem = rows(scale.size(112, 4), scale.size(64, 8));
    let block = rows(scale.size(28, 3), scale.size(512, 16));
    vec![
        statistics("norm: stem, statistics", stem),
        apply("norm: stem, apply and ReLU", stem, false),
        gradients("norm: stem, gradients", stem),
        grad_input("norm: stem, grad input", stem, ActivationFunction::Relu),
        statistics("norm: block, statistics", block),
        apply("norm: block, apply, residual, ReLU", block, true),
        gradients_residual("norm: block, gradients, residual", block),
        grad_input(
            "norm: block, grad input",
            block,
            ActivationFunction::Identity,
        ),
    ]
}

/// A norm by the statistics of `x`.
fn norm(inputs: &mut Inputs<'_>, x: &Array, rows: Rows) -> Result<Norm> {
    let (weight, bias) = (
        inputs.positive(rows.channels)?,
        inputs.positive(rows.channels)?,
    );
    Norm::of_batch(inputs.machine(), x, rows, &weight, &bias, EPS)
}

fn statistics(name: &str, rows: Rows) -> Case {
    let len = rows.rows * rows.channels;
    // A sum, and a product and a sum of squares.
    Case::new(name, (bf16(len), 3 * len), move |inputs| {
        let x = inputs.reals(Real::Bf16, len)?;
        let (weight, bias) = (
            inputs.positive(rows.channels)?,
            inputs.positive(rows.channels)?,
        );
        Ok(move |machine: &dyn Machine| {
            Norm::of_batch(machine, &x, rows, &weight, &bias, EPS).map(drop)
        })
    })
}

fn apply(name: &str, rows: Rows, residual: bool) -> Case {
    let len = rows.rows * rows.channels;
    let work = match residual {
        true => (bf16(3 * len), 5 * len),
        false => (bf16(2 * len), 4 * len),
    };
    Case::new(name, work, move |inputs| {
        let (x, other) = (
            inputs.reals(Real::Bf16, len)?,
            inputs.reals(Real::Bf16, len)?,
        );
        let norm = norm(inputs, &x, rows)?;
        Ok(move |machine: &dyn Machine| {
            let added = match residual {
                true => Residual::Map(&other),
                false => Residual::None,
            };
            norm.apply(machine, &x, added, ActivationFunction::Relu)
                .map(drop)
        })
    })
}

fn gradients(name: &str, rows: Rows) -> Case {
    let len = rows.rows * rows.channels;
    // The sign of the output, then two sums.
    Case::new(name, (bf16(2 * len), 7 * len), move |inputs| {
        let (x, dy) = (
            inputs.reals(Real::Bf16, len)?,
            inputs.reals(Real::Bf16, len)?,
        );
        let norm = norm(inputs, &x, rows)?;
        Ok(move |machine: &dyn Machine| {
            norm.gradients(
                machine,
                &dy,
                &x,
                Mask::Recompute(ActivationFunction::Relu),
                None,
            )
            .map(drop)
        })
    })
}

fn gradients_residual(name: &str, rows: Rows) -> Case {
    let len = rows.rows * rows.channels;
    Case::new(name, (bf16(4 * len), 5 * len), move |inputs| {
        let [x, dy, y] = [(); 3].map(|()| inputs.reals(Real::Bf16, len));
        let (x, dy, y) = (x?, dy?, y?);
        let norm = norm(inputs, &x, rows)?;
        Ok(move |machine: &dyn Machine| {
            let kept = Array::new(machine, DType::Bf16, len)?;
            norm.gradients(machine, &dy, &x, Mask::Output(&y), Some(&kept))
                .map(drop)
        })
    })
}

fn grad_input(name: &str, rows: Rows, activation: ActivationFunction) -> Case {
    let len = rows.rows * rows.channels;
    let operations = match activation {
        ActivationFunction::Identity => 5 * len,
        _ => 8 * len,
    };
    Case::new(name, (bf16(3 * len), operations), move |inputs| {
        let (x, dy) = (
            inputs.reals(Real::Bf16, len)?,
            inputs.reals(Real::Bf16, len)?,
        );
        let norm = norm(inputs, &x, rows)?;
        let mask = Mask::Recompute(activation);
        let sums = norm.gradients(inputs.machine(), &dy, &x, mask, None)?;
        Ok(move |machine: &dyn Machine| {
            norm.grad_input(machine, &dy, &x, &sums, activation)
                .map(drop)
        })
    })
}

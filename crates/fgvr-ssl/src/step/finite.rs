//! Whether a step's loss, gradient and features are finite: asked of a device at most once.

use std::cell::OnceCell;

use candle_core::{DType, Result};
use fgvr_nn::Device;
use fgvr_nn::cuda::Array;
use fgvr_nn::cuda::ops::finite::all_finite;

use crate::{Found, Pass, Rows};

/// Whether what a step's add-ons work with is finite.
pub(crate) struct Finite {
    pub(super) found: Found,
    /// h, its gradient, the key features.
    rows: Vec<Rows>,
    answer: OnceCell<bool>,
    /// What a device says, which has been asked already.
    flag: Option<(Device, Array)>,
}

impl Finite {
    pub(super) fn new(pass: &Pass, rows: [&[Rows]; 2]) -> Result<Self> {
        let mut rows = rows.concat();
        rows.push(pass.key_pooled.clone());
        let arrays = rows.iter().filter_map(|rows| match rows {
            Rows::Host(_) => None,
            Rows::Device(rows) => Some(&rows.array),
        });
        let arrays: Vec<_> = arrays.collect();
        let flag = match pass.device() {
            None => None,
            Some(device) => Some((device.clone(), device.run(|m| all_finite(m, &arrays))?)),
        };
        Ok(Self {
            found: pass.found.measured(),
            rows,
            answer: OnceCell::new(),
            flag,
        })
    }

    pub(crate) fn get(&self) -> Result<bool> {
        if let Some(answer) = self.answer.get() {
            return Ok(*answer);
        }
        // A loss can be finite on features that are not.
        let mut finite = self.found.numbers()?.loss.is_finite();
        if let Some((device, flag)) = &self.flag {
            finite &= device.run(|m| flag.to_u32(m))? == [1];
        }
        for rows in &self.rows {
            if let Rows::Host(rows) = rows {
                // Squares in f64 cannot overflow where f32 values do not.
                let squares = rows.to_dtype(DType::F64)?.sqr()?.sum_all()?;
                finite &= squares.to_scalar::<f64>()?.is_finite();
            }
        }
        Ok(*self.answer.get_or_init(|| finite))
    }
}

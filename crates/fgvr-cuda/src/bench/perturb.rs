//! What tells channels that do not discriminate and perturbs them, over pooled features of 2048 channels.

use super::{Case, Scale, f32s};
use crate::ops::bank::Bank;
use crate::ops::importance::{Importance, Layout, MapShape, Sign, grad_cam, importance};
use crate::ops::mask::{self, Key, Rule, non_discriminative_mask};
use crate::ops::perturb::{self, Noise, Shape};
use crate::{Array, Machine, Real};

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let (rows, channels) = (scale.size(256, 3), scale.size(2048, 16));
    let capacity = scale.size(16384, 7);
    let [push, statistics] = banks(rows, channels, capacity);
    let map = MapShape {
        images: rows,
        places: scale.size(49, 4),
        channels,
        layout: Layout::ChannelsLast,
    };
    vec![
        push,
        statistics,
        important(rows, channels),
        cam(map),
        masked(rows, channels),
        perturbed(rows, channels),
    ]
}

fn banks(rows: usize, channels: usize, capacity: usize) -> [Case; 2] {
    let (batch, all) = (rows * channels, capacity * channels);
    // The length of each row is kept with it.
    let push = (f32s(2 * batch) + 8 * rows, 2 * batch);
    // Sums of values and of squares, as they are and of rows of length one.
    let statistics = (f32s(all + 4 * channels) + 8 * capacity, 7 * all);
    [
        Case::new("perturb: bank, push", push, move |inputs| {
            let mut bank = Bank::new(inputs.machine(), capacity, channels, false)?;
            let features = inputs.reals(Real::F32, batch)?;
            Ok(move |machine: &dyn Machine| bank.push(machine, &features, None))
        }),
        Case::new("perturb: bank, statistics", statistics, move |inputs| {
            let mut bank = Bank::new(inputs.machine(), capacity, channels, false)?;
            let features = inputs.reals(Real::F32, all)?;
            bank.push(inputs.machine(), &features, None)?;
            Ok(move |machine: &dyn Machine| bank.statistics(machine, true).map(drop))
        }),
    ]
}

fn important(rows: usize, channels: usize) -> Case {
    let len = rows * channels;
    let work = (f32s(3 * len), 2 * len);
    Case::new("perturb: importance", work, move |inputs| {
        let (features, grad) = (inputs.reals(Real::F32, len)?, inputs.reals(Real::F32, len)?);
        let kind = Importance::GradientTimesFeature;
        Ok(move |machine: &dyn Machine| {
            importance(machine, &features, &grad, channels, kind).map(drop)
        })
    })
}

fn cam(shape: MapShape) -> Case {
    let len = shape.images * shape.places * shape.channels;
    let work = (f32s(2 * len + shape.images * shape.places), 3 * len);
    Case::new("perturb: Grad-CAM", work, move |inputs| {
        let (map, grad) = (inputs.reals(Real::F32, len)?, inputs.reals(Real::F32, len)?);
        Ok(move |machine: &dyn Machine| {
            grad_cam(machine, &map, &grad, shape, Sign::RaisesLoss).map(drop)
        })
    })
}

/// Sorting compares and does not compute: no operations are counted.
fn masked(rows: usize, channels: usize) -> Case {
    let len = rows * channels;
    let work = (f32s(2 * len + channels + 5 * rows), 0);
    Case::new("perturb: mask", work, move |inputs| {
        let (variance, importance) = (inputs.positive(channels)?, inputs.positive(len)?);
        let images: Vec<u32> = (0..rows as u32).collect();
        let images = Array::from_u32(inputs.machine(), &images)?;
        Ok(move |machine: &dyn Machine| {
            let config = mask::Config {
                rho_variance: 0.3,
                rho_importance: 0.3,
                rule: Rule::Union,
                control: mask::Control::None,
                by_batch: None,
            };
            let key = Key { seed: 0, step: 1 };
            non_discriminative_mask(machine, &variance, &importance, &images, config, key).map(drop)
        })
    })
}

fn perturbed(rows: usize, channels: usize) -> Case {
    let len = rows * channels;
    // Noise is f64, as the host draws it.
    let work = (f32s(3 * len + channels) + 8 * len, 3 * len);
    let shape = Shape {
        images: rows,
        places: 1,
        channels,
    };
    Case::new("perturb: perturb", work, move |inputs| {
        let features = inputs.reals(Real::F32, len)?;
        let sigma = inputs.positive(channels)?;
        let noise = inputs.doubles(len)?;
        // Three channels of ten.
        let chosen: Vec<f32> = (0..len).map(|i| f32::from(u8::from(i % 10 < 3))).collect();
        let mask = Array::from_f32(inputs.machine(), &chosen)?;
        Ok(move |machine: &dyn Machine| {
            let config = perturb::Config {
                scale: 1.,
                floor_at_median: true,
                non_negative: true,
                min_change: 0.,
            };
            let noise = Noise::Gaussian(&noise);
            perturb::perturb(machine, &features, &mask, &sigma, shape, noise, config).map(drop)
        })
    })
}

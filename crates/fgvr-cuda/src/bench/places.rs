//! What works on the places of a map: pooling, resizing, changes of layout and type.

use super::{Case, Scale, bf16, f32s};
use crate::ops::elementwise;
use crate::ops::layout::{self, Matrices};
use crate::ops::pool::{self, Pool};
use crate::ops::resize::{self, Resize};
use crate::{Array, DType, Machine, Real, Result};

pub(super) fn cases(scale: Scale) -> Vec<Case> {
    let images = scale.size(256, 2);
    let mut all = Vec::new();
    all.extend(max_pool(images, scale.size(112, 6), scale.size(64, 8)));
    all.extend(global_mean([
        images,
        scale.size(49, 5),
        scale.size(2048, 16),
    ]));
    all.extend(resized([
        images,
        scale.size(28, 3),
        scale.size(28, 3),
        scale.size(128, 8),
    ]));
    all.extend(layouts(scale, images));
    all
}

/// An operation on one array of bf16.
fn one(
    name: &str,
    work: (usize, usize),
    len: usize,
    op: impl Fn(&dyn Machine, &Array) -> Result<Array> + Copy + 'static,
) -> Case {
    Case::new(name, work, move |inputs| {
        let x = inputs.reals(Real::Bf16, len)?;
        Ok(move |machine: &dyn Machine| op(machine, &x).map(drop))
    })
}

/// The stem's: windows of 3, 2 apart.
fn max_pool(images: usize, side: usize, channels: usize) -> [Case; 2] {
    let pool = Pool {
        input: [images, side, side, channels],
        kernel: 3,
        stride: 2,
        padding: 1,
    };
    let (from, to) = (images * side * side * channels, {
        let out = (side - 1) / 2 + 1;
        images * out * out * channels
    });
    // The taps are a byte each.
    let bytes = bf16(from) + bf16(to) + to;
    [
        Case::new("pool: max", (bytes, 9 * to), move |inputs| {
            let x = inputs.reals(Real::Bf16, from)?;
            Ok(move |machine: &dyn Machine| pool::max(machine, &x, &pool).map(drop))
        }),
        Case::new("pool: max, grad", (bytes, to), move |inputs| {
            let (x, dy) = (
                inputs.reals(Real::Bf16, from)?,
                inputs.reals(Real::Bf16, to)?,
            );
            let (_, taps) = pool::max(inputs.machine(), &x, &pool)?;
            Ok(move |machine: &dyn Machine| pool::max_grad(machine, &dy, &taps, &pool).map(drop))
        }),
    ]
}

fn global_mean(shape: [usize; 3]) -> [Case; 2] {
    let [n, places, c] = shape;
    let (map, pooled) = (n * places * c, n * c);
    let bytes = bf16(map + pooled);
    [
        one("pool: global mean", (bytes, map), map, move |m, x| {
            pool::global_mean(m, x, shape)
        }),
        one(
            "pool: global mean, grad",
            (bytes, pooled),
            pooled,
            move |m, dy| pool::global_mean_grad(m, dy, shape),
        ),
    ]
}

/// A decoder's, to twice the sides.
fn resized(input: [usize; 4]) -> [Case; 4] {
    let [n, h, w, c] = input;
    let (from, to) = (n * h * w * c, 4 * n * h * w * c);
    let resize = Resize {
        input,
        to: (2 * h, 2 * w),
    };
    let bytes = bf16(from + to);
    [
        // Two rows of two values, each a product and a sum.
        one("resize: bilinear", (bytes, 6 * to), from, move |m, x| {
            resize::bilinear(m, x, &resize)
        }),
        one(
            "resize: bilinear, grad",
            (bytes, 6 * to),
            to,
            move |m, dy| resize::bilinear_grad(m, dy, &resize),
        ),
        one("resize: nearest", (bytes, 0), from, move |m, x| {
            resize::nearest(m, x, input, 2)
        }),
        one("resize: nearest, grad", (bytes, to), to, move |m, dy| {
            resize::nearest_grad(m, dy, input, 2)
        }),
    ]
}

fn layouts(scale: Scale, images: usize) -> [Case; 4] {
    let side = scale.size(224, 8);
    let batch = Matrices::of_maps([images, 3, side, side]);
    let pixels = images * 3 * side * side;
    let (side, channels) = (scale.size(7, 3), scale.size(2048, 16));
    let last = Matrices::of_maps([images, channels, side, side]);
    let features = images * channels * side * side;
    let parameters = scale.size(25_557_032, 1001);
    let map = images * scale.size(28 * 28 * 512, 9 * 16);
    [
        Case::new(
            "layout: images in",
            (f32s(pixels) + bf16(pixels), 0),
            move |inputs| {
                let x = inputs.reals(Real::F32, pixels)?;
                Ok(move |machine: &dyn Machine| {
                    layout::to_channels_last(machine, &x, batch, Real::Bf16).map(drop)
                })
            },
        ),
        one(
            "layout: map out",
            (f32s(features) + bf16(features), 0),
            features,
            move |m, x| layout::to_channels_first(m, x, last),
        ),
        Case::new(
            "layout: parameters to bf16",
            (f32s(parameters) + bf16(parameters), 0),
            {
                move |inputs| {
                    let x = inputs.reals(Real::F32, parameters)?;
                    Ok(move |machine: &dyn Machine| {
                        layout::cast(machine, &x, DType::Bf16).map(drop)
                    })
                }
            },
        ),
        Case::new(
            "layout: add a gradient",
            (bf16(3 * map), map),
            move |inputs| {
                let (y, x) = (inputs.own(Real::Bf16, map)?, inputs.reals(Real::Bf16, map)?);
                Ok(move |machine: &dyn Machine| elementwise::add_to(machine, &y, &x))
            },
        ),
    ]
}

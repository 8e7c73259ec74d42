//! What a GPU leaves to libraries, by plain loops with sums in f64.

use super::Emulator;
use crate::{Array, Convolution, Pass, Product, Result};

pub(super) fn convolve(
    machine: &Emulator,
    shape: &Convolution,
    pass: Pass,
    operands: [&Array; 3],
) -> Result<()> {
    shape.expect(operands)?;
    let [x, w, y] = operands;
    match pass {
        Pass::Forward => {
            let (x, w) = (x.to_f32(machine)?, w.to_f32(machine)?);
            let mut sums = vec![0f64; shape.output_len()];
            each_product(shape, |x_at, w_at, y_at| {
                sums[y_at] += f64::from(x[x_at]) * f64::from(w[w_at])
            });
            y.set(machine, &narrow(&sums))
        }
        Pass::GradInput => {
            let (w, dy) = (w.to_f32(machine)?, y.to_f32(machine)?);
            let mut sums = vec![0f64; shape.input_len()];
            each_product(shape, |x_at, w_at, y_at| {
                sums[x_at] += f64::from(dy[y_at]) * f64::from(w[w_at])
            });
            x.set(machine, &narrow(&sums))
        }
        Pass::GradWeight => {
            let (x, dy) = (x.to_f32(machine)?, y.to_f32(machine)?);
            let mut sums = vec![0f64; shape.weight_len()];
            each_product(shape, |x_at, w_at, y_at| {
                sums[w_at] += f64::from(x[x_at]) * f64::from(dy[y_at])
            });
            w.set(machine, &narrow(&sums))
        }
    }
}

/// Calls `f` with the indices in x, w and y of every product that a convolution sums.
fn each_product(s: &Convolution, mut f: impl FnMut(usize, usize, usize)) {
    let (out_h, out_w) = (s.out_h(), s.out_w());
    let (i_group, o_group) = (s.c_in / s.groups, s.c_out / s.groups);
    for n in 0..s.n {
        for (oy, ox) in (0..out_h).flat_map(|oy| (0..out_w).map(move |ox| (oy, ox))) {
            for (ky, kx) in (0..s.kernel).flat_map(|ky| (0..s.kernel).map(move |kx| (ky, kx))) {
                let (iy, ix) = (
                    oy * s.stride + ky * s.dilation,
                    ox * s.stride + kx * s.dilation,
                );
                if iy < s.padding
                    || ix < s.padding
                    || iy - s.padding >= s.h
                    || ix - s.padding >= s.w
                {
                    continue;
                }
                let place = (n * s.h + iy - s.padding) * s.w + ix - s.padding;
                for o in 0..s.c_out {
                    let y_at = ((n * out_h + oy) * out_w + ox) * s.c_out + o;
                    let w_at = ((o * s.kernel + ky) * s.kernel + kx) * i_group;
                    let x_at = place * s.c_in + o / o_group * i_group;
                    (0..i_group).for_each(|i| f(x_at + i, w_at + i, y_at));
                }
            }
        }
    }
}

pub(super) fn multiply(
    machine: &Emulator,
    product: &Product,
    operands: [&Array; 3],
    add: bool,
) -> Result<()> {
    product.expect(operands)?;
    let [a, b, c] = operands;
    let Product { m, n, k, .. } = *product;
    let (a, b) = (a.to_f32(machine)?, b.to_f32(machine)?);
    let before = if add {
        c.to_f32(machine)?
    } else {
        vec![0.; m * n]
    };
    let mut out = Vec::with_capacity(m * n);
    for (row, column) in (0..m).flat_map(|row| (0..n).map(move |column| (row, column))) {
        let sum: f64 = (0..k)
            .map(|at| {
                let of_a = if product.a_transposed {
                    at * m + row
                } else {
                    row * k + at
                };
                let of_b = if product.b_transposed {
                    column * k + at
                } else {
                    at * n + column
                };
                f64::from(a[of_a]) * f64::from(b[of_b])
            })
            .sum();
        out.push((f64::from(before[row * n + column]) + sum) as f32);
    }
    c.set(machine, &out)
}

fn narrow(sums: &[f64]) -> Vec<f32> {
    sums.iter().map(|sum| *sum as f32).collect()
}

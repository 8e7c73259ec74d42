//! Convolutions and matrix products, which a GPU leaves to libraries, against sums written out otherwise.

mod support;

use fgvr_cuda::{Array, Convolution, DType, Machine, Pass, Product, Real, Result};
use support::{Random, close, on_each_machine};

/// Odd sizes, strides, dilation and groups.
fn shapes() -> Vec<Convolution> {
    let base = Convolution {
        n: 2,
        h: 7,
        w: 5,
        c_in: 8,
        c_out: 16,
        kernel: 3,
        stride: 1,
        padding: 1,
        dilation: 1,
        groups: 1,
        real: Real::F32,
    };
    vec![
        base,
        Convolution { stride: 2, ..base },
        Convolution {
            kernel: 1,
            padding: 0,
            ..base
        },
        Convolution {
            kernel: 7,
            padding: 3,
            stride: 2,
            ..base
        },
        Convolution {
            dilation: 2,
            padding: 2,
            ..base
        },
        Convolution { groups: 4, ..base },
        Convolution {
            real: Real::Bf16,
            ..base
        },
    ]
}

fn stored(machine: &dyn Machine, array: &Array) -> Result<Vec<f64>> {
    Ok(array.to_f32(machine)?.into_iter().map(f64::from).collect())
}

/// y of x and w, by the window of each output.
fn forward(s: &Convolution, x: &[f64], w: &[f64]) -> Vec<f64> {
    let (each_in, each_out) = (s.c_in / s.groups, s.c_out / s.groups);
    let mut y = Vec::with_capacity(s.output_len());
    for n in 0..s.n {
        for oy in 0..s.out_h() {
            for ox in 0..s.out_w() {
                for o in 0..s.c_out {
                    let mut sum = 0.;
                    for ky in 0..s.kernel {
                        for kx in 0..s.kernel {
                            let at = |out: usize, k: usize| {
                                (out * s.stride + k * s.dilation).checked_sub(s.padding)
                            };
                            let (Some(iy), Some(ix)) = (at(oy, ky), at(ox, kx)) else {
                                continue;
                            };
                            if iy >= s.h || ix >= s.w {
                                continue;
                            }
                            for i in 0..each_in {
                                let from = x[((n * s.h + iy) * s.w + ix) * s.c_in
                                    + o / each_out * each_in
                                    + i];
                                sum +=
                                    from * w[((o * s.kernel + ky) * s.kernel + kx) * each_in + i];
                            }
                        }
                    }
                    y.push(sum);
                }
            }
        }
    }
    y
}

#[test]
fn a_convolution_is_the_sum_over_its_window() {
    on_each_machine(|machine, random| {
        for shape in shapes() {
            let (x, w, y) = operands(machine, random, &shape)?;
            machine.convolve(&shape, Pass::Forward, [&x, &w, &y])?;
            let expected = forward(&shape, &stored(machine, &x)?, &stored(machine, &w)?);
            close(
                &format!("{shape:?}"),
                &y.to_f32(machine)?,
                &expected,
                tolerance(shape.real),
            );
        }
        Ok(())
    });
}

/// <dy, conv(x, w)> is linear in x and in w: its gradients give it back.
#[test]
fn gradients_are_the_transposes_of_the_convolution() {
    on_each_machine(|machine, random| {
        for shape in shapes() {
            let (x, w, dy) = operands(machine, random, &shape)?;
            let dx = Array::new(machine, x.dtype(), x.len())?;
            let dw = Array::new(machine, w.dtype(), w.len())?;
            machine.convolve(&shape, Pass::GradInput, [&dx, &w, &dy])?;
            machine.convolve(&shape, Pass::GradWeight, [&x, &dw, &dy])?;
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let [x, w, dy] = [
                stored(machine, &x)?,
                stored(machine, &w)?,
                stored(machine, &dy)?,
            ];
            let whole = dot(&dy, &forward(&shape, &x, &w));
            let size = dy.len() as f64;
            let [by_x, by_w] = [
                dot(&x, &stored(machine, &dx)?),
                dot(&w, &stored(machine, &dw)?),
            ];
            let allowed = tolerance(shape.real) * size.sqrt() * 4.;
            assert!(
                (by_x - whole).abs() < allowed,
                "{shape:?}: {by_x} and {whole}"
            );
            assert!(
                (by_w - whole).abs() < allowed,
                "{shape:?}: {by_w} and {whole}"
            );
        }
        Ok(())
    });
}

fn operands(
    machine: &dyn Machine,
    random: &mut Random,
    shape: &Convolution,
) -> Result<(Array, Array, Array)> {
    let mut array = |len| Array::from_reals(machine, shape.real, &random.normals(len, 0., 1.));
    Ok((
        array(shape.input_len())?,
        array(shape.weight_len())?,
        array(shape.output_len())?,
    ))
}

fn tolerance(real: Real) -> f64 {
    match real {
        Real::F32 => 1e-5,
        Real::Bf16 => 1e-2,
    }
}

#[test]
fn a_product_is_the_sum_over_k_however_its_factors_are_stored() {
    on_each_machine(|machine, random| {
        let (m, n, k) = (5, 7, 11);
        let (a, b, before) = (
            random.normals(m * k, 0., 1.),
            random.normals(k * n, 0., 1.),
            random.normals(m * n, 0., 1.),
        );
        let transposed = |values: &[f32], rows: usize, columns: usize| -> Vec<f32> {
            (0..rows * columns)
                .map(|i| values[i % rows * columns + i / rows])
                .collect()
        };
        for (real, (a_transposed, b_transposed), add) in [
            (Real::F32, (false, false), false),
            (Real::F32, (true, false), true),
            (Real::F32, (false, true), false),
            (Real::Bf16, (true, true), true),
        ] {
            let as_stored = |values: &[f32], rows, columns, flip| match flip {
                true => Array::from_reals(machine, real, &transposed(values, rows, columns)),
                false => Array::from_reals(machine, real, values),
            };
            let (of_a, of_b) = (
                as_stored(&a, m, k, a_transposed)?,
                as_stored(&b, k, n, b_transposed)?,
            );
            let c = Array::from_f32(machine, &before)?;
            let product = Product {
                m,
                n,
                k,
                a_transposed,
                b_transposed,
            };
            machine.multiply(&product, [&of_a, &of_b, &c], add)?;
            let expected: Vec<f64> = (0..m * n)
                .map(|i| {
                    let (row, column) = (i / n, i % n);
                    let sum: f64 = (0..k)
                        .map(|at| f64::from(a[row * k + at]) * f64::from(b[at * n + column]))
                        .sum();
                    sum + if add { f64::from(before[i]) } else { 0. }
                })
                .collect();
            let allowed = if real == Real::F32 { 1e-5 } else { 3e-2 };
            close(
                &format!("{product:?}"),
                &c.to_f32(machine)?,
                &expected,
                allowed,
            );
        }
        Ok(())
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    on_each_machine(|machine, _| {
        let shape = shapes()[0];
        let x = Array::new(machine, DType::F32, 3)?;
        let error = machine.convolve(&shape, Pass::Forward, [&x, &x, &x]).err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(text, "convolution: x: expected 560 of F32, found 3 of F32");
        let shape = Convolution {
            kernel: 9,
            padding: 0,
            ..shape
        };
        assert!(
            machine
                .convolve(&shape, Pass::Forward, [&x, &x, &x])
                .is_err()
        );
        Ok(())
    });
}

//! Depthwise convolutions against sums written out in f64.

mod support;

use fgvr_cuda::ops::depthwise::{self, Depthwise};
use fgvr_cuda::{Array, Machine, Real, Result};
use support::{Random, close, on_each_machine, pairs, rounded};

/// TensorFlow's paddings, PyTorch's, none; packs of channels and not; no image.
const SHAPES: &[Depthwise] = &[
    of([2, 8, 9, 8], [4, 5], [3, 2], [0, 1]),
    of([1, 7, 5, 24], [7, 5], [5, 1], [2, 2]),
    of([3, 6, 6, 3], [3, 3], [5, 2], [1, 1]),
    of([1, 5, 4, 16], [3, 2], [3, 1], [0, 0]),
    of([1, 1, 1, 8], [1, 1], [5, 1], [2, 2]),
    of([2, 40, 21, 16], [40, 21], [3, 1], [1, 1]),
    of([0, 4, 4, 8], [2, 2], [3, 2], [0, 0]),
];

const fn of(
    input: [usize; 4],
    output: [usize; 2],
    [kernel, stride]: [usize; 2],
    [top, left]: [usize; 2],
) -> Depthwise {
    Depthwise {
        input,
        output,
        kernel,
        stride,
        top,
        left,
    }
}

/// Calls `visit(index in x, in w (k*k, C), in y)` for each product.
fn each_product(shape: &Depthwise, mut visit: impl FnMut(usize, usize, usize)) {
    let ([_, h, w, c], [oh, ow]) = (shape.input, shape.output);
    let kernel = shape.kernel;
    for i in 0..shape.input[0] * oh * ow * c {
        let (channel, ox, oy, image) = (i % c, i / c % ow, i / c / ow % oh, i / c / ow / oh);
        for (ky, kx) in (0..kernel).flat_map(|ky| (0..kernel).map(move |kx| (ky, kx))) {
            let y = (oy * shape.stride + ky).checked_sub(shape.top);
            let x = (ox * shape.stride + kx).checked_sub(shape.left);
            if let (Some(y), Some(x)) = (y.filter(|y| *y < h), x.filter(|x| *x < w)) {
                let at = ((image * h + y) * w + x) * c + channel;
                visit(at, (ky * kernel + kx) * c + channel, i);
            }
        }
    }
}

fn made(
    machine: &dyn Machine,
    random: &mut Random,
    real: Real,
    len: usize,
) -> Result<(Vec<f64>, Array)> {
    let values = random.normals(len, 0., 1.);
    let stored = rounded(real, &values).into_iter().map(f64::from).collect();
    Ok((stored, Array::from_reals(machine, real, &values)?))
}

#[test]
fn output_and_gradients_are_those_of_the_sums() {
    on_each_machine(|machine, random| {
        for (real, shape) in pairs(Real::ALL, SHAPES) {
            let (x, of_x) = made(machine, random, real, shape.input.iter().product())?;
            let (w, of_w) = made(machine, random, Real::F32, shape.weight_len())?;
            let [oh, ow] = shape.output;
            let outputs = shape.input[0] * oh * ow * shape.input[3];
            let (d, of_d) = made(machine, random, real, outputs)?;
            let (mut y, mut dx, mut dw) = (vec![0.; d.len()], vec![0.; x.len()], vec![0.; w.len()]);
            each_product(&shape, |from, tap, to| {
                y[to] += x[from] * w[tap];
                dx[from] += d[to] * w[tap];
                dw[tap] += d[to] * x[from];
            });
            let tolerance = match real {
                Real::F32 => 1e-5,
                Real::Bf16 => 4e-3,
            };
            let found = depthwise::forward(machine, &of_x, &of_w, &shape)?;
            close("y", &found.to_f32(machine)?, &y, tolerance);
            let found = depthwise::grad_input(machine, &of_d, &of_w, &shape)?;
            close("dx", &found.to_f32(machine)?, &dx, tolerance);
            // Sums over places stay f32.
            let found = depthwise::grad_weight(machine, &of_x, &of_d, &shape)?;
            close("dw", &found.to_f32(machine)?, &dw, 3e-5);
        }
        Ok(())
    });
}

#[test]
fn windows_without_a_kernel_are_refused() {
    on_each_machine(|machine, _| {
        let shape = of([1, 8, 8, 8], [8, 8], [7, 1], [3, 3]);
        let x = Array::from_f32(machine, &[0.; 512])?;
        let weight = Array::from_f32(machine, &[0.; 392])?;
        let error = depthwise::forward(machine, &x, &weight, &shape).err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains("a kernel of 3 or 5"), "{text}");
        Ok(())
    });
}

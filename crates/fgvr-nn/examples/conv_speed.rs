//! Speed of the convolution kernels, in GFLOP/s per pass, on the layers of narrow ResNets, at one
//! and two threads:
//!
//! ```text
//! cargo run --release -p fgvr-nn --example conv_speed [-- FILTER]
//! ```
//!
//! `FILTER` keeps the layers whose name contains it. A multiplication and an addition count as two.

use std::time::{Duration, Instant};

use fgvr_nn::kernels::conv::{ConvShape, forward, grad_input, grad_weight};
use fgvr_nn::kernels::simd;

/// Time spent on each figure.
const BUDGET: Duration = Duration::from_millis(200);

/// (images, side, channels in, channels out, kernel, stride)
const LAYERS: [(usize, usize, usize, usize, usize, usize); 17] = [
    (1, 56, 64, 64, 1, 1),
    (1, 56, 64, 256, 1, 1),
    (1, 56, 256, 64, 1, 1),
    (1, 56, 256, 128, 1, 1),
    (3, 28, 128, 512, 1, 1),
    (3, 28, 512, 128, 1, 1),
    (6, 14, 1024, 256, 1, 1),
    (6, 14, 256, 1024, 1, 1),
    (12, 7, 2048, 512, 1, 1),
    (12, 7, 512, 2048, 1, 1),
    (2, 224, 3, 64, 7, 2),
    (2, 56, 128, 128, 3, 2),
    (2, 56, 64, 64, 3, 1),
    (8, 28, 128, 128, 3, 1),
    (16, 14, 256, 256, 3, 1),
    (16, 7, 512, 512, 3, 1),
    (1, 56, 256, 512, 1, 2),
];

fn main() -> Result<(), rayon::ThreadPoolBuildError> {
    let filter = std::env::args().nth(1).unwrap_or_default();
    println!(
        "{:?}: GFLOP/s of forward, grad-input, grad-weight",
        simd::level()
    );
    println!("{:<28}{:>24}{:>24}", "layer", "1 thread", "2 threads");
    let pools = [1, 2].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build());
    let [one, two] = pools;
    let pools = [one?, two?];
    for (n, side, c_in, c_out, kernel, stride) in LAYERS {
        let name = format!("{n}x{side}x{side} {c_in}>{c_out} {kernel}x{kernel}/{stride}");
        if !name.contains(&filter) {
            continue;
        }
        let shape = ConvShape {
            n,
            h: side,
            w: side,
            c_in,
            c_out,
            kernel,
            stride,
            padding: kernel / 2,
            dilation: 1,
            groups: 1,
        };
        print!("{name:<28}");
        for pool in &pools {
            print!("{}", pool.install(|| measure(&shape)));
        }
        println!();
    }
    Ok(())
}

/// The three passes' figures, as columns.
fn measure(shape: &ConvShape) -> String {
    let values = |len: usize| (0..len).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>();
    let (x, w) = (values(shape.input_len()), values(shape.weight_len()));
    let dy = values(shape.output_len());
    let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
    let flops = 2. * shape.multiplications() as f64;
    if std::env::var_os("GW").is_some() {
        let f = fastest(|| grad_weight(shape, &x, &dy, &mut dw));
        return format!("{:>8.0}", flops / f / 1e9);
    }
    [
        fastest(|| forward(shape, &x, &w, &mut y)),
        fastest(|| grad_input(shape, &dy, &w, &mut dx)),
        fastest(|| grad_weight(shape, &x, &dy, &mut dw)),
    ]
    .map(|seconds| format!("{:>8.0}", flops / seconds / 1e9))
    .concat()
}

/// Seconds of the fastest call: what other programs on the machine disturb least.
fn fastest(mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut fastest = f64::INFINITY;
    for calls in 0.. {
        let call_start = Instant::now();
        call();
        fastest = fastest.min(call_start.elapsed().as_secs_f64());
        if calls >= 4 && start.elapsed() > BUDGET {
            break;
        }
    }
    fastest
}

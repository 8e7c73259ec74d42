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
const BUDGET: Duration = Duration::from_millis(60);

/// (images, side, channels in, channels out, kernel, stride)
const LAYERS: [(usize, usize, usize, usize, usize, usize); 16] = [
    (32, 64, 3, 16, 3, 2),
    (32, 32, 16, 16, 3, 1),
    (32, 32, 16, 32, 3, 2),
    (32, 16, 32, 32, 3, 1),
    (32, 16, 32, 64, 3, 2),
    (32, 32, 64, 64, 3, 1),
    (32, 16, 64, 64, 3, 1),
    (32, 8, 64, 64, 3, 1),
    (32, 16, 64, 128, 3, 2),
    (32, 16, 64, 128, 1, 2),
    (32, 8, 128, 128, 3, 1),
    (64, 64, 3, 64, 7, 2),
    (64, 4, 256, 256, 3, 1),
    (64, 4, 256, 512, 3, 2),
    (64, 2, 512, 512, 3, 1),
    (16, 14, 1024, 256, 1, 1),
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

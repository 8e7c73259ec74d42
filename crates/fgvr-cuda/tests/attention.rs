//! Attention's kernels against the equation written out in f64.

mod support;

use fgvr_cuda::ops::attention::{Shape, backward, first_shares, forward};
use fgvr_cuda::{Array, Machine, Real, Result};
use support::{Random, close, close_together, on_each_machine, stored};

/// One token, less than a tile, whole tiles, the 197 and 50 tokens of 224 x 224 images; widths of packs and
/// odd ones.
const SHAPES: &[Shape] = &[
    shape(1, 1, 1, 64),
    shape(2, 50, 2, 64),
    shape(1, 64, 1, 32),
    shape(1, 129, 1, 64),
    shape(1, 197, 1, 64),
    shape(1, 33, 3, 5),
    shape(2, 20, 1, 24),
];

const fn shape(images: usize, tokens: usize, heads: usize, width: usize) -> Shape {
    Shape {
        images,
        tokens,
        heads,
        width,
    }
}

struct Expected {
    y: Vec<f64>,
    log_sum: Vec<f64>,
    d_qkv: Vec<f64>,
    first: Vec<f64>,
}

/// The equation and its derivative, with all scores at hand.
fn expected(s: Shape, qkv: &[f64], dy: &[f64]) -> Expected {
    let (t, w) = (s.tokens, s.width);
    let channels = s.heads * w;
    let scale = 1. / (w as f64).sqrt();
    let mut out = Expected {
        y: vec![0.; dy.len()],
        log_sum: vec![],
        d_qkv: vec![0.; qkv.len()],
        first: vec![0.; s.images * t],
    };
    for (image, head) in (0..s.images).flat_map(|i| (0..s.heads).map(move |h| (i, h))) {
        let at = |token: usize, part: usize, d: usize| {
            ((image * t + token) * 3 + part) * channels + head * w + d
        };
        let y_at = |token: usize, d: usize| (image * t + token) * channels + head * w + d;
        for i in 0..t {
            let dot = |j: usize| {
                (0..w)
                    .map(|d| qkv[at(i, 0, d)] * qkv[at(j, 1, d)])
                    .sum::<f64>()
            };
            let scores: Vec<f64> = (0..t).map(|j| dot(j) * scale).collect();
            let top = scores.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = scores.iter().map(|v| (v - top).exp()).sum();
            out.log_sum.push(top + sum.ln());
            let p: Vec<f64> = scores.iter().map(|v| (v - top).exp() / sum).collect();
            let along = |j: usize| {
                (0..w)
                    .map(|d| dy[y_at(i, d)] * qkv[at(j, 2, d)])
                    .sum::<f64>()
            };
            let dp: Vec<f64> = (0..t).map(along).collect();
            let mean: f64 = p.iter().zip(&dp).map(|(p, d)| p * d).sum();
            for j in 0..t {
                let ds = p[j] * (dp[j] - mean) * scale;
                for d in 0..w {
                    out.y[y_at(i, d)] += p[j] * qkv[at(j, 2, d)];
                    out.d_qkv[at(i, 0, d)] += ds * qkv[at(j, 1, d)];
                    out.d_qkv[at(j, 1, d)] += ds * qkv[at(i, 0, d)];
                    out.d_qkv[at(j, 2, d)] += p[j] * dy[y_at(i, d)];
                }
                if i == 0 {
                    out.first[image * t + j] += p[j] / s.heads as f64;
                }
            }
        }
    }
    out
}

fn check(
    machine: &dyn Machine,
    random: &mut Random,
    (real, shape, deviation): (Real, Shape, f32),
) -> Result<()> {
    let len = shape.images * shape.tokens * shape.heads * shape.width;
    let qkv = random.normals(3 * len, 0.2, deviation);
    check_values(machine, random, (real, shape, deviation), &qkv)
}

/// `qkv` with values of about this size.
fn check_values(
    machine: &dyn Machine,
    random: &mut Random,
    (real, shape, size): (Real, Shape, f32),
    qkv: &[f32],
) -> Result<()> {
    let len = qkv.len() / 3;
    let qkv = Array::from_reals(machine, real, qkv)?;
    let dy = Array::from_reals(machine, real, &random.normals(len, 0., 1.))?;
    let made = forward(machine, &qkv, shape)?;
    let d_qkv = backward(machine, &dy, &qkv, &made, shape)?;
    let first = first_shares(machine, &qkv, shape)?;
    let expected = expected(shape, &stored(machine, &qkv)?, &stored(machine, &dy)?);
    let tolerance = match real {
        Real::F32 => 1e-5 * f64::from(size * size).max(1.),
        Real::Bf16 => 1.5e-2,
    };
    let what = |what: &str| format!("{what} of {shape:?}, {real:?}");
    close(&what("y"), &made.y.to_f32(machine)?, &expected.y, tolerance);
    let log_sum = made.log_sum.to_f32(machine)?;
    close(&what("log sum"), &log_sum, &expected.log_sum, 1e-5);
    let d_qkv = d_qkv.to_f32(machine)?;
    close(&what("d_qkv"), &d_qkv, &expected.d_qkv, 3. * tolerance);
    let share = match real {
        Real::F32 => 2e-6 * f64::from(size * size).max(1.),
        // Slopes sum to zero over keys, rounded ones not quite, which counts where keys have a mean.
        Real::Bf16 => 5e-3 * f64::from(size * size).max(1.),
    };
    close_together(&what("y"), &made.y.to_f32(machine)?, &expected.y, share);
    // Gradients of queries, keys and values: of one token alone, the first two are zero.
    let channels = shape.heads * shape.width;
    for (part, name) in ["dq", "dk", "dv"].into_iter().enumerate() {
        let of_part = |i: &usize| i / channels % 3 == part;
        let at = || (0..d_qkv.len()).filter(of_part);
        let found: Vec<f32> = at().map(|i| d_qkv[i]).collect();
        let expected: Vec<f64> = at().map(|i| expected.d_qkv[i]).collect();
        if shape.tokens > 1 || part == 2 {
            close_together(&what(name), &found, &expected, 2. * share);
        }
    }
    close(
        &what("first"),
        &first.to_f32(machine)?,
        &expected.first,
        1e-5,
    );
    Ok(())
}

#[test]
fn forward_and_gradient_are_those_of_the_equation() {
    on_each_machine(|machine, random| {
        for (real, shape) in Real::ALL
            .iter()
            .flat_map(|real| SHAPES.iter().map(move |shape| (*real, *shape)))
        {
            check(machine, random, (real, shape, 1.))?;
        }
        Ok(())
    });
}

#[test]
fn large_scores_neither_overflow_nor_vanish() {
    on_each_machine(|machine, random| {
        // Scores of hundreds: one key takes all.
        check(machine, random, (Real::F32, shape(1, 70, 1, 64), 7.))
    });
}

#[test]
fn scores_far_below_zero_are_not_taken_for_those_beyond_the_tokens() {
    on_each_machine(|machine, random| {
        for real in Real::ALL {
            let s = shape(1, 70, 1, 64);
            let mut qkv = random.normals(70 * 192, 0., 0.3);
            // Queries of about 4 and keys of about -4: scores of -128, whose exponential is no float.
            for token in qkv.chunks_mut(192) {
                token[..64].iter_mut().for_each(|q| *q += 4.);
                token[64..128].iter_mut().for_each(|k| *k -= 4.);
            }
            check_values(machine, random, (*real, s, 4.), &qkv)?;
        }
        Ok(())
    });
}

#[test]
fn what_is_no_number_stays_in_its_head() {
    on_each_machine(|machine, random| {
        for real in Real::ALL {
            let s = shape(1, 40, 2, 32);
            let mut qkv = random.normals(3 * 40 * 64, 0., 1.);
            qkv[5 * 192 + 64 + 3] = f32::NAN; // a key of the first head
            let made = forward(machine, &Array::from_reals(machine, *real, &qkv)?, s)?;
            let y = made.y.to_f32(machine)?;
            for (i, v) in y.iter().enumerate() {
                assert_eq!(v.is_nan(), i % 64 < 32, "{i}");
            }
        }
        Ok(())
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    on_each_machine(|machine, _| {
        let qkv = Array::from_f32(machine, &[0.; 3 * 80])?;
        let refused = |s: Shape| {
            let error = forward(machine, &qkv, s).err();
            error.map(|error| error.to_string()).unwrap_or_default()
        };
        let wide = "attention: channels of a head: expected at most 64, found 80";
        assert_eq!(refused(shape(1, 1, 1, 80)), wide);
        let short = "attention: qkv: expected 480 of F32, found 240 of F32";
        assert_eq!(refused(shape(1, 2, 2, 40)), short);
        Ok(())
    });
}

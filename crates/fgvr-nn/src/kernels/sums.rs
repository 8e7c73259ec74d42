//! Sums over one row, in sixteen lanes: the same order, and so the same bits, at every level.

/// Partial sums that are kept apart.
const LANES: usize = 16;

/// Values that are summed in f32 before the sum goes to f64: 64 in each lane.
const BLOCK: usize = 64 * LANES;

/// The sum of `f(x)`: f32 within 64 values a lane, f64 beyond. For the body of a `simd_fn!`.
#[inline(always)]
pub(super) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    sum_pairs(x, x, |x, _| f(x))
}

/// The sum of `f(x, y)` over pairs, as [`sum`].
#[inline(always)]
pub(super) fn sum_pairs(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f64 {
    let mut total = 0.;
    for (x, y) in x.chunks(BLOCK).zip(y.chunks(BLOCK)) {
        let mut lanes = [0f32; LANES];
        let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
        for (x, y) in x.iter().zip(y) {
            for j in 0..LANES {
                lanes[j] += f(x[j], y[j]);
            }
        }
        for ((lane, x), y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
            *lane += f(*x, *y);
        }
        total += lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>();
    }
    total
}

/// The sum of x y in f64, where squares may leave the range of f32.
#[inline(always)]
pub(super) fn dot(x: &[f32], y: &[f32]) -> f64 {
    let mut lanes = [0f64; LANES];
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in x.iter().zip(y) {
        for j in 0..LANES {
            lanes[j] += f64::from(x[j]) * f64::from(y[j]);
        }
    }
    for ((lane, x), y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
        *lane += f64::from(*x) * f64::from(*y);
    }
    lanes.iter().sum()
}

/// The largest value; NaN is passed over.
#[inline(always)]
pub(super) fn largest(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (x, rest) = x.as_chunks::<LANES>();
    for x in x {
        for j in 0..LANES {
            lanes[j] = if x[j] > lanes[j] { x[j] } else { lanes[j] };
        }
    }
    let all = lanes.iter().chain(rest);
    all.fold(f32::NEG_INFINITY, |m, x| if *x > m { *x } else { m })
}

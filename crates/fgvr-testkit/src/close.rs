//! Comparison with a relative error.

use std::collections::BTreeMap;

use candle_core::{DType, Result, Tensor};

/// max|a - b| / max|b|, and the index at which the difference is largest. Where `b` is all zeros,
/// the absolute difference. A NaN on either side makes it infinite, unless both sides have it.
///
/// # Panics
/// Slices of different lengths.
#[must_use]
#[track_caller]
pub fn relative_error(a: &[f64], b: &[f64]) -> (f64, usize) {
    assert_eq!(a.len(), b.len(), "lengths differ");
    let scale = b
        .iter()
        .filter(|v| v.is_finite())
        .fold(0f64, |m, v| m.max(v.abs()));
    let scale = if scale == 0. { 1. } else { scale };
    let mut worst = (0., 0);
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        let same = a == b || (a.is_nan() && b.is_nan());
        let error = match (a - b).abs() / scale {
            _ if same => 0.,
            error if error.is_nan() => f64::INFINITY,
            error => error,
        };
        if error > worst.0 {
            worst = (error, i);
        }
    }
    worst
}

/// Asserts that max|a - b| / max|b| is at most `rel`.
///
/// # Panics
/// With `name`, the error and the worst element where it is larger.
#[track_caller]
pub fn assert_close_values(name: &str, a: &[f64], b: &[f64], rel: f64) {
    assert_eq!(
        a.len(),
        b.len(),
        "{name}: {} values, expected {}",
        a.len(),
        b.len()
    );
    let (error, at) = relative_error(a, b);
    assert!(
        error <= rel,
        "{name}: relative error {error:.3e} > {rel:.1e}; worst at {at}: {} instead of {}",
        a[at],
        b[at]
    );
}

/// Asserts that two tensors have one shape and that max|a - b| / max|b| is at most `rel`.
///
/// # Panics
/// With `name` and the worst element's index where they differ.
#[track_caller]
pub fn assert_close(name: &str, a: &Tensor, b: &Tensor, rel: f64) {
    assert_eq!(a.dims(), b.dims(), "{name}: shapes differ");
    let (left, right) = match (values(a), values(b)) {
        (Ok(left), Ok(right)) => (left, right),
        (Err(error), _) | (_, Err(error)) => panic!("{name}: {error}"),
    };
    let (error, at) = relative_error(&left, &right);
    assert!(
        error <= rel,
        "{name}: relative error {error:.3e} > {rel:.1e}; worst at {:?}: {} instead of {}",
        position(at, a.dims()),
        left[at],
        right[at]
    );
}

/// Asserts that two passes found tensors of the same names, and that of each |a - b| / |b| is at most `rel`:
/// the length over all values, where single ones may be far off, as those beside a ReLU's corner are.
///
/// # Panics
/// With `what` and the names that differ, or the worst tensor's name.
#[track_caller]
pub fn assert_close_each(
    what: &str,
    a: &BTreeMap<String, Tensor>,
    b: &BTreeMap<String, Tensor>,
    rel: f64,
) {
    let names = |found: &BTreeMap<String, Tensor>| found.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(a), names(b), "{what}: names differ");
    let mut worst = (0., "");
    for (name, b) in b {
        let a = &a[name];
        assert_eq!(a.dims(), b.dims(), "{what}, {name}: shapes differ");
        let (left, right) = match (values(a), values(b)) {
            (Ok(left), Ok(right)) => (left, right),
            (Err(error), _) | (_, Err(error)) => panic!("{what}, {name}: {error}"),
        };
        let error = relative_length(&left, &right);
        if error.is_nan() || error > worst.0 {
            worst = (error, name);
        }
        if error.is_nan() {
            break;
        }
    }
    let (error, name) = worst;
    assert!(
        error <= rel,
        "{what}: {name} is off by {error:.1e} of its length > {rel:.0e}"
    );
}

/// |a - b| / |b|; where `b` is all zeros, |a - b|.
fn relative_length(a: &[f64], b: &[f64]) -> f64 {
    let off: f64 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
    match b.iter().map(|b| b * b).sum::<f64>() {
        0. => off.sqrt(),
        expected => (off / expected).sqrt(),
    }
}

/// The values of a tensor as f64, in the order of its shape.
pub(crate) fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// The multi-index of a flat index.
pub(crate) fn position(mut flat: usize, dims: &[usize]) -> Vec<usize> {
    let mut out = vec![0; dims.len()];
    for (o, d) in out.iter_mut().zip(dims).rev() {
        *o = flat % d;
        flat /= d;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn the_error_is_relative_to_the_largest_expected_value() {
        let (error, at) = relative_error(&[1., 2.5, 10.], &[1., 2., 10.]);
        assert_eq!((error, at), (0.05, 1));
        assert_eq!(relative_error(&[0.25], &[0.]).0, 0.25);
    }

    #[test]
    fn nan_is_close_to_nothing_but_nan() {
        assert_eq!(relative_error(&[f64::NAN, 1.], &[0., 1.]).0, f64::INFINITY);
        assert_eq!(relative_error(&[0., 1.], &[f64::NAN, 1.]).0, f64::INFINITY);
        assert_eq!(relative_error(&[f64::NAN, 1.], &[f64::NAN, 1.]).0, 0.);
        assert_eq!(relative_error(&[f64::INFINITY], &[f64::INFINITY]).0, 0.);
    }

    fn named(name: &str, values: [f32; 2]) -> (String, Tensor) {
        let tensor = Tensor::from_slice(&values, 2, &Device::Cpu).unwrap();
        (name.to_owned(), tensor)
    }

    #[test]
    #[should_panic(expected = "a pass: bias is off by 2.0e-1 of its length > 1e-1")]
    fn the_message_names_the_worst_tensor() {
        let expected = BTreeMap::from([named("bias", [3., 4.]), named("weight", [0., 1.])]);
        let found = BTreeMap::from([named("bias", [3., 5.]), named("weight", [0., 1.15])]);
        assert_close_each("a pass", &found, &expected, 0.2);
        assert_close_each("a pass", &found, &expected, 0.1);
    }

    #[test]
    #[should_panic(expected = "bias is off by NaN")]
    fn a_tensor_with_nan_is_far_from_any() {
        let expected = BTreeMap::from([named("bias", [3., 4.]), named("weight", [0., 1.])]);
        let found = BTreeMap::from([named("bias", [3., f32::NAN]), named("weight", [0., 2.])]);
        assert_close_each("a pass", &found, &expected, 10.);
    }

    #[test]
    #[should_panic(expected = "a pass: names differ")]
    fn a_tensor_that_is_missing_is_no_agreement() {
        let expected = BTreeMap::from([named("bias", [3., 4.])]);
        assert_close_each("a pass", &BTreeMap::new(), &expected, 1.);
    }

    #[test]
    #[should_panic(
        expected = "logits: relative error 5.000e-1 > 1.0e-3; worst at [1, 0]: 1 instead of 2"
    )]
    fn the_message_names_the_worst_element() {
        let tensor = |v: [f32; 4]| Tensor::from_slice(&v, (2, 2), &Device::Cpu).unwrap();
        assert_close(
            "logits",
            &tensor([0., 1., 1., 2.]),
            &tensor([0., 1., 2., 2.]),
            1e-3,
        );
    }
}

//! ReLU and ReLU6 of single values: what the loops of other kernels are written with.

pub use fgvr_cuda::ops::ActivationFunction;

/// What values above are cut off at, by an activation that cuts off those below 0. Nothing compares with
/// NaN: ReLU has no ceiling.
pub(crate) fn ceiling(activation: ActivationFunction) -> f32 {
    match activation {
        ActivationFunction::Identity | ActivationFunction::Relu => f32::NAN,
        ActivationFunction::Relu6 => 6.,
    }
}

/// `v` cut off below 0 and above `ceiling`. Not `max` and `min`, which would turn NaN into a number.
#[inline(always)]
pub(crate) fn cut(v: f32, ceiling: f32) -> f32 {
    let v = if v < 0. { 0. } else { v };
    if v > ceiling { ceiling } else { v }
}

/// The gradient of [`cut`] where that at its result is `d`; `v` is its operand or its result. No gradient
/// at exactly 0 and at the ceiling, as PyTorch.
#[inline(always)]
pub(crate) fn cut_grad(d: f32, v: f32, ceiling: f32) -> f32 {
    let d = if v <= 0. { 0. } else { d };
    if v >= ceiling { 0. } else { d }
}

//! What may follow a norm or a bias, value by value.

/// A piecewise linear activation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ActivationFunction {
    /// None: y = x.
    #[default]
    Identity,
    /// y = max(x, 0).
    Relu,
    /// y = min(max(x, 0), 6), as in MobileNet and EfficientNet-Lite.
    Relu6,
}

impl ActivationFunction {
    /// What `kernels/values.cuh` calls it.
    pub(super) fn flag(self) -> i32 {
        match self {
            Self::Identity => 0,
            Self::Relu => 1,
            Self::Relu6 => 2,
        }
    }
}

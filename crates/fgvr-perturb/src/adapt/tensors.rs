//! The same on candle's tensors.

use candle_core::{DType, Device, Tensor};

use super::{AdaptError, Adaptation, NuisanceCovariance};

impl NuisanceCovariance {
    /// [`add_views`](Self::add_views) of a tensor (N, V, C).
    ///
    /// # Errors
    /// Another shape, and what `add_views` refuses.
    pub fn add_views_tensor(&mut self, views: &Tensor) -> Result<(), AdaptError> {
        match views.dims() {
            &[_, v, c] if c == self.width() => self.add_views(&values(views)?, v),
            _ => {
                let expected = format!("(N, V, {})", self.width());
                Err(shape("add_views_tensor", "views", views, expected))
            }
        }
    }

    /// [`add_plain`](Self::add_plain) of a tensor (N, C).
    ///
    /// # Errors
    /// Another shape, and what `add_plain` refuses.
    pub fn add_plain_tensor(&mut self, features: &Tensor) -> Result<(), AdaptError> {
        match features.dims() {
            &[_, c] if c == self.width() => self.add_plain(&values(features)?),
            _ => {
                let expected = format!("(N, {})", self.width());
                Err(shape("add_plain_tensor", "features", features, expected))
            }
        }
    }
}

impl Adaptation {
    /// [`apply`](Self::apply) of a tensor (N, C): f32 (N, C) on the same device, without a gradient.
    ///
    /// # Errors
    /// Another shape, and what `apply` refuses.
    pub fn apply_tensor(&self, features: &Tensor) -> Result<Tensor, AdaptError> {
        match features.dims() {
            &[n, c] if c == self.width() => {
                let out = self.apply(&values(features)?)?;
                Ok(Tensor::from_vec(out, (n, c), features.device())?)
            }
            _ => {
                let expected = format!("(N, {})", self.width());
                Err(shape("apply_tensor", "features", features, expected))
            }
        }
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f32>, AdaptError> {
    let tensor = tensor.detach().to_device(&Device::Cpu)?;
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

fn shape(op: &'static str, name: &'static str, tensor: &Tensor, expected: String) -> AdaptError {
    AdaptError::Shape {
        op,
        name,
        found: tensor.dims().to_vec(),
        expected,
    }
}

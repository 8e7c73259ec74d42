//! The reconstruction of the features, and its loss.

use candle_core::{Result, Tensor, bail};
use fgvr_nn::{Decoder, NormMode, ParameterGradients};

use crate::info_nce::scalar;

/// The decoder's images of h, and where their error leads.
pub(super) struct Decoded {
    pub(super) images: Tensor,
    pub(super) loss: f64,
    /// ∂L_R/∂h (B*N, C), or at the map (B*N, C, h, w).
    pub(super) at_features: Tensor,
    pub(super) gradients: ParameterGradients,
}

/// L_R = mean over pixels and views of (d(h) - x)^2, back to the decoder's variables and to h.
pub(super) fn reconstruct(decoder: &dyn Decoder, h: &Tensor, x: &Tensor) -> Result<Decoded> {
    let (images, tape) = decoder.forward_train(h, NormMode::Train)?;
    if images.dims() != x.dims() {
        bail!(
            "synth pair: the decoder made {:?}, expected {:?}",
            images.dims(),
            x.dims()
        );
    }
    let loss = (images.as_tensor() - x)?.sqr()?.mean_all()?;
    let leaves = loss.backward()?;
    let mut gradients = ParameterGradients::default();
    let Some(at_features) = tape.backward(&leaves, &mut gradients)? else {
        bail!("synth pair: the decoder's tape returned no gradient of its input");
    };
    Ok(Decoded {
        images: images.as_tensor().detach(),
        loss: scalar(&loss)?,
        at_features,
        gradients,
    })
}

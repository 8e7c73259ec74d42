//! The reconstruction of the features, and its loss.

use candle_core::{Result, bail};
use fgvr_nn::cuda::ops::squared_error::mean_squared_error;
use fgvr_nn::{Activation, Decoder, NormMode, ParameterGradients, Tape};

use crate::Values;
use crate::losses::info_nce::scalar;
use crate::step::values::{Scalar, device_of};

/// The decoder's images of h, and where their error leads.
pub(super) struct Decoded {
    pub(super) images: Values,
    pub(super) loss: Scalar,
    /// ∂L_R/∂h (B*N, C), or at the map (B*N, C, h, w).
    pub(super) at_features: Values,
    pub(super) gradients: ParameterGradients,
}

/// L_R = mean over pixels and views of (d(h) - x)^2, back to the decoder's variables and to h.
pub(super) fn reconstruct(decoder: &dyn Decoder, h: &Values, x: &Values) -> Result<Decoded> {
    let mut gradients = ParameterGradients::default();
    match (h, x) {
        (Values::Host(h), Values::Host(x)) => {
            let (images, tape) = decoder.forward_train(h, NormMode::Train)?;
            same(images.dims() == x.dims(), &images.dims(), &x.dims())?;
            let loss = (images.as_tensor() - x)?.sqr()?.mean_all()?;
            let leaves = loss.backward()?;
            let Some(at_features) = tape.backward(&leaves, &mut gradients)? else {
                bail!("synth pair: the decoder's tape returned no gradient of its input");
            };
            Ok(Decoded {
                images: Values::Host(images.as_tensor().detach()),
                loss: Scalar::Host(scalar(&loss)?),
                at_features: Values::Host(at_features),
                gradients,
            })
        }
        (Values::Device(h), Values::Device(x)) => {
            let device = device_of(h)?;
            let mut tape = Tape::recording().on(Some(device));
            let entered = tape.enter(h)?;
            let images = decoder.apply(&mut tape, &entered, NormMode::Train)?;
            same(images.shape() == x.shape(), &images.shape(), &x.shape())?;
            let (made, target) = (images.array()?, x.array()?);
            let (loss, gradient) = device.run(|m| mean_squared_error(m, made, target, 1.))?;
            let gradient = Activation::new(device, images.shape(), gradient)?;
            let at_images = [(&images, &gradient)];
            let Some(at_features) = tape.backward_from(&at_images, &mut gradients)? else {
                bail!("synth pair: the decoder's tape returned no gradient of its input");
            };
            Ok(Decoded {
                loss: Scalar::Device(device.clone(), loss),
                images: Values::Device(images),
                at_features: Values::Device(at_features),
                gradients,
            })
        }
        _ => bail!("synth pair: features and images are in two places"),
    }
}

/// The images of features, without a way back.
pub(super) fn generate(decoder: &dyn Decoder, features: &Values) -> Result<Values> {
    let norm = NormMode::NoUpdate;
    match features {
        Values::Host(features) => {
            let images = decoder.generate(features, norm)?;
            Ok(Values::Host(images.detach()))
        }
        Values::Device(features) => {
            let mut tape = Tape::inference().on(features.device());
            let features = tape.constant(features)?;
            decoder
                .apply(&mut tape, &features, norm)
                .map(Values::Device)
        }
    }
}

fn same(fits: bool, made: &dyn std::fmt::Debug, expected: &dyn std::fmt::Debug) -> Result<()> {
    match fits {
        true => Ok(()),
        false => bail!("synth pair: the decoder made {made:?}, expected {expected:?}"),
    }
}

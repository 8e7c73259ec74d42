//! A vision transformer for inference: weights in order once, layer scale folded into them.

use candle_core::{Result, Tensor};
use fgvr_nn::layers::LayerScale;
use fgvr_nn::{Device, Features};

use super::Vit;

mod on_device;
mod on_host;

use on_device::OnDevice;
use on_host::OnHost;

/// A [`Vit`] as it was when it was frozen, made to embed many images where the network ran.
///
/// A snapshot with weights of its own: training the network, or loading weights into it, does not
/// change what this one says. Features are those of [`Encoder::features`](fgvr_nn::Encoder::features)
/// up to rounding. On the CPU bits depend neither on the number of threads nor on the other images of a batch. On a
/// device pooled features are f32 after the last norm, whatever the type of its maps.
pub struct FrozenVit {
    place: Place,
    width: usize,
}

enum Place {
    Host(Box<OnHost>),
    Device(Box<OnDevice>),
}

impl Vit {
    /// The network as it is now, made ready to embed many images where it runs: see [`FrozenVit`]. Its variables
    /// are read as the CPU has them.
    ///
    /// # Errors
    /// Variables that are not f32 on the CPU; what a GPU says, if the network is on one.
    pub fn freeze(&self) -> Result<FrozenVit> {
        Ok(FrozenVit {
            place: match &self.device {
                None => Place::Host(Box::new(OnHost::new(self)?)),
                Some(device) => Place::Device(Box::new(OnDevice::new(self, device)?)),
            },
            width: self.config.out_channels(),
        })
    }
}

impl FrozenVit {
    /// The patches' tokens after the last norm (N, C, H/patch, W/patch) of `images` (N, 3, H, W), and
    /// the class token (N, C), or what else [`VitConfig::pooling`](crate::VitConfig::pooling) asks for.
    ///
    /// # Errors
    /// Images of another shape, or not of whole patches, or not f32 on the CPU; what a GPU says, if the network is
    /// on one.
    pub fn features(&self, images: &Tensor) -> Result<Features> {
        match &self.place {
            Place::Host(network) => network.features(images),
            Place::Device(network) => network.features(images),
        }
    }

    /// The pooled features of `images` (N, 3, H, W): where they are the class token, no other token is looked at any
    /// more in the last block. Nothing else comes back from a device.
    ///
    /// # Errors
    /// As [`FrozenVit::features`].
    pub fn embed(&self, images: &Tensor) -> Result<Tensor> {
        match &self.place {
            Place::Host(network) => network.embed(images),
            Place::Device(network) => network.embed(images),
        }
    }

    /// The length of a pooled vector.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Where it is, if not on the CPU.
    #[must_use]
    pub fn device(&self) -> Option<&Device> {
        match &self.place {
            Place::Host(_) => None,
            Place::Device(network) => Some(network.device()),
        }
    }
}

/// The class and register tokens, (prefix, C).
fn prefix(vit: &Vit) -> Result<Vec<f32>> {
    let mut prefix = Vec::new();
    for tokens in [Some(&vit.class), vit.registers.as_ref()]
        .into_iter()
        .flatten()
    {
        prefix.extend(tokens.flatten_all()?.to_vec1::<f32>()?);
    }
    Ok(prefix)
}

/// The values of a layer scale, where there is one.
fn gamma(scale: Option<&LayerScale>) -> Result<Option<Vec<f32>>> {
    scale.map(|scale| scale.gamma().to_vec1()).transpose()
}

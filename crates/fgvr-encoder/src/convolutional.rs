//! What residual networks and EfficientNets do alike, however their blocks differ.

/// The entry points of a convolutional network `$network`, which has the fields `config` (a `$config`) and `device`, and the
/// methods `forward` (the one pass), `convolutions` (its layers, frozen) and `intermediate_names`.
macro_rules! convolutional {
    ($network:ident, $config:ident) => {
        impl $network {
            /// What the network was built from.
            #[must_use]
            pub fn config(&self) -> &$config {
                &self.config
            }

            /// This network, run on `device`; on the CPU if there is none. Its variables stay where they are, and
            /// [`Self::freeze`] makes a snapshot for the same place.
            #[must_use]
            pub fn on(mut self, device: Option<fgvr_nn::Device>) -> Self {
                self.device = device;
                self
            }

            /// The network as it is now, made ready to embed many images where it runs: see [`FrozenBackbone`]. Its
            /// variables are read as the CPU has them.
            ///
            /// # Errors
            /// Variables that are not f32 on the CPU; what a GPU says, if the network is on one.
            ///
            /// [`FrozenBackbone`]: crate::FrozenBackbone
            pub fn freeze(&self) -> candle_core::Result<$crate::FrozenBackbone> {
                use fgvr_nn::layers::ConvNorm;
                $crate::FrozenBackbone::new(
                    self.config.out_channels(),
                    self.device.as_ref(),
                    || self.convolutions(ConvNorm::freeze),
                    |device| self.convolutions(|layer| layer.freeze_on(device)),
                )
            }

            /// The maps (N, C, H, W) that `wanted` names, without a way back; no others are made.
            ///
            /// # Errors
            /// A name that is not among [`Self::intermediate_names`]; images of a shape that does not fit.
            pub fn intermediates(
                &self,
                images: &candle_core::Tensor,
                norm: fgvr_nn::NormMode,
                wanted: &[&str],
            ) -> candle_core::Result<std::collections::BTreeMap<String, candle_core::Tensor>> {
                let (names, device) = (self.intermediate_names(), self.device.as_ref());
                let pass =
                    |tape: &mut _, images: &_, seen: &mut _| self.forward(tape, images, norm, seen);
                let (_, found) =
                    $crate::intermediates::collect(wanted, &names, device, images, pass)?;
                Ok(found)
            }
        }

        impl fgvr_nn::Encoder for $network {
            fn apply(
                &self,
                tape: &mut fgvr_nn::Tape,
                images: &fgvr_nn::Activation,
                norm: fgvr_nn::NormMode,
            ) -> candle_core::Result<fgvr_nn::FeatureMaps> {
                fgvr_nn::images::check(images.shape())?;
                let mut none = $crate::intermediates::Intermediates::none();
                self.forward(tape, images, norm, &mut none)
            }

            fn device(&self) -> Option<&fgvr_nn::Device> {
                self.device.as_ref()
            }

            fn width(&self) -> usize {
                self.config.out_channels()
            }
        }
    };
}

pub(crate) use convolutional;

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};
    use fgvr_nn::{Encoder, NormMode, Parameters};

    use crate::{EfficientNet, EfficientNetConfig, ResNet, ResNetConfig};

    /// Runs a network by each of its entry points; `last` is the name of its last map.
    macro_rules! agrees {
        ($network:expr, $last:literal) => {
            let network = $network;
            let values = (0..2 * 3 * 32 * 32).map(|i| (i as f32 * 0.37).sin());
            let images = Tensor::from_iter(values, &Device::Cpu).unwrap();
            let images = images.reshape((2, 3, 32, 32)).unwrap();
            let features = network.features(&images, NormMode::Eval).unwrap();
            assert_eq!(features.pooled.dims(), [2, network.width()]);
            let frozen = network.freeze().unwrap().embed(&images).unwrap();
            let far = (frozen - &features.pooled).unwrap().abs().unwrap();
            let far = far.max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(far < 1e-4, "{far}");
            let names = network.intermediate_names();
            assert_eq!(names.last().unwrap(), $last);
            let found = network
                .intermediates(&images, NormMode::Eval, &[$last])
                .unwrap();
            assert_eq!(found.len(), 1);
            let error = network
                .intermediates(&images, NormMode::Eval, &["x"])
                .unwrap_err();
            assert!(error.to_string().contains($last), "{error}");
        };
    }

    #[test]
    fn both_networks_run_freeze_and_show_their_maps() {
        let vb = || Parameters::new(0).builder(DType::F32, &Device::Cpu);
        let small = ResNetConfig {
            width: 8,
            ..ResNetConfig::resnet18()
        };
        agrees!(ResNet::new(&small, vb()).unwrap(), "layer4");
        let lite = EfficientNetConfig {
            width_multiplier: 0.2,
            ..EfficientNetConfig::default()
        };
        agrees!(EfficientNet::new(&lite, vb()).unwrap(), "blocks.6");
    }
}

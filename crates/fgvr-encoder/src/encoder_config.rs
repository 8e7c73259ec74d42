//! Which network, and its options: what a settings file says of the encoder.

use crate::vit::{Initialisation, Pooling, Positions, VitConfig};
use crate::{Architecture, EfficientNetConfig, Error, ResNetConfig, Stem};

/// An architecture and the options of its family.
///
/// ```
/// use fgvr_encoder::{Architecture, EncoderConfig};
/// let config = EncoderConfig::from(Architecture::ResNet18);
/// assert_eq!((config.out_channels()?, config.stride()?), (512, 32));
/// # Ok::<(), fgvr_encoder::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct EncoderConfig {
    /// Which network.
    pub architecture: Architecture,
    /// How an image enters a residual network.
    pub stem: Stem,
    /// [`ResNetConfig::width`]: 64 in the published residual networks.
    pub width: usize,
    /// [`ResNetConfig::zero_init_residual`].
    pub zero_init_residual: bool,
    /// [`VitConfig::patch_size`]; without one it is the architecture's own.
    pub patch_size: Option<usize>,
    /// [`VitConfig::image_size`]; without one it is the architecture's own. Convolutional networks take any
    /// size.
    pub image_size: Option<usize>,
    /// [`VitConfig::heads`], which shapes do not show; without them one head for 64 channels, as the networks of
    /// these names have it.
    pub heads: Option<usize>,
    /// [`VitConfig::norm_eps`]; without one it is the architecture's own, 1e-6.
    pub norm_eps: Option<f64>,
    /// [`VitConfig::positions`].
    pub positions: Positions,
    /// [`VitConfig::initialisation`].
    pub initialisation: Initialisation,
    /// [`VitConfig::pooling`]. Convolutional networks have the mean over places, and no such option.
    pub pooling: Pooling,
}

/// What to build, family by family.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum NetworkConfig {
    /// A residual network.
    ResNet(ResNetConfig),
    /// An EfficientNet-Lite.
    EfficientNet(EfficientNetConfig),
    /// A vision transformer.
    Vit(VitConfig),
}

/// [`ResNetConfig::width`] of the published networks.
const WIDTH: usize = 64;

impl Default for EncoderConfig {
    fn default() -> Self {
        Self {
            architecture: Architecture::default(),
            stem: Stem::default(),
            width: WIDTH,
            zero_init_residual: false,
            patch_size: None,
            image_size: None,
            heads: None,
            norm_eps: None,
            positions: Positions::default(),
            initialisation: Initialisation::default(),
            pooling: Pooling::default(),
        }
    }
}

impl From<Architecture> for EncoderConfig {
    fn from(architecture: Architecture) -> Self {
        Self {
            architecture,
            ..Self::default()
        }
    }
}

impl EncoderConfig {
    /// The network that the architecture and its options come to.
    ///
    /// # Errors
    /// [`Error::Option`] for an option that the family does not have, and what the network's own
    /// configuration refuses.
    pub fn network(&self) -> Result<NetworkConfig, Error> {
        match self.architecture {
            Architecture::ResNet10 => self.resnet(10, 64),
            Architecture::ResNet14 => self.resnet(14, 64),
            Architecture::ResNet18 => self.resnet(18, 64),
            Architecture::ResNet34 => self.resnet(34, 64),
            Architecture::ResNet50 => self.resnet(50, 64),
            Architecture::ResNet101 => self.resnet(101, 64),
            Architecture::WideResNet50x2 => self.resnet(50, 128),
            Architecture::TfEfficientNetLite0 => self.efficientnet(&EfficientNetConfig::lite(0)?),
            Architecture::TfEfficientNetLite1 => self.efficientnet(&EfficientNetConfig::lite(1)?),
            Architecture::TfEfficientNetLite2 => self.efficientnet(&EfficientNetConfig::lite(2)?),
            Architecture::TfEfficientNetLite3 => self.efficientnet(&EfficientNetConfig::lite(3)?),
            Architecture::TfEfficientNetLite4 => self.efficientnet(&EfficientNetConfig::lite(4)?),
            Architecture::EfficientNetLite0 => {
                self.efficientnet(&EfficientNetConfig::lite(0)?.symmetric())
            }
            Architecture::VitTinyPatch16 => self.vit(VitConfig::tiny_patch16()),
            Architecture::VitSmallPatch16 => self.vit(VitConfig::small_patch16()),
            Architecture::VitBasePatch16 => self.vit(VitConfig::base_patch16()),
            Architecture::VitSmallPatch14Dinov2 => self.vit(VitConfig::small_patch16().dinov2()),
            Architecture::VitBasePatch14Dinov2 => self.vit(VitConfig::base_patch16().dinov2()),
            Architecture::VitSmallPatch14Reg4Dinov2 => {
                self.vit(VitConfig::small_patch16().dinov2().with_registers(4))
            }
            Architecture::VitBasePatch14Reg4Dinov2 => {
                self.vit(VitConfig::base_patch16().dinov2().with_registers(4))
            }
        }
    }

    fn resnet(&self, depth: usize, base_width: usize) -> Result<NetworkConfig, Error> {
        self.refuse_of_vit("residual networks")?;
        let config = ResNetConfig {
            depth,
            width: self.width,
            base_width,
            stem: self.stem,
            zero_init_residual: self.zero_init_residual,
        };
        config.validate()?;
        Ok(NetworkConfig::ResNet(config))
    }

    fn efficientnet(&self, published: &EfficientNetConfig) -> Result<NetworkConfig, Error> {
        let family = "EfficientNets";
        self.refuse_of_vit(family)?;
        self.refuse_of_resnet(family)?;
        Ok(NetworkConfig::EfficientNet(published.clone()))
    }

    /// `published`, with the options of this configuration.
    fn vit(&self, published: VitConfig) -> Result<NetworkConfig, Error> {
        self.refuse_of_resnet("vision transformers")?;
        let config = VitConfig {
            patch_size: self.patch_size.unwrap_or(published.patch_size),
            image_size: self.image_size.unwrap_or(published.image_size),
            heads: self.heads.unwrap_or(published.heads),
            norm_eps: self.norm_eps.unwrap_or(published.norm_eps),
            positions: self.positions,
            initialisation: self.initialisation,
            pooling: self.pooling,
            ..published
        };
        config.validate()?;
        Ok(NetworkConfig::Vit(config))
    }

    /// An error for an option of vision transformers that is set, where the network is of another `family`.
    fn refuse_of_vit(&self, family: &'static str) -> Result<(), Error> {
        let unset = |size: Option<usize>| size.map(|size| size.to_string());
        self.refuse("patch_size", unset(self.patch_size), family)?;
        self.refuse("image_size", unset(self.image_size), family)?;
        self.refuse("heads", unset(self.heads), family)?;
        let eps = self.norm_eps.map(|eps| eps.to_string());
        self.refuse("norm_eps", eps, family)?;
        let learned = self.positions == Positions::Learned;
        let positions = (!learned).then(|| self.positions.name().to_owned());
        self.refuse("positions", positions, family)?;
        let normal = self.initialisation == Initialisation::Normal;
        let initialisation = (!normal).then(|| "xavier".to_owned());
        self.refuse("initialisation", initialisation, family)?;
        let pooling = (self.pooling != Pooling::default()).then(|| self.pooling.name().to_owned());
        self.refuse("pooling", pooling, family)
    }

    /// The same for an option of residual networks.
    fn refuse_of_resnet(&self, family: &'static str) -> Result<(), Error> {
        let stem = (self.stem != Stem::default()).then(|| format!("{:?}", self.stem));
        let width = (self.width != WIDTH).then(|| self.width.to_string());
        let zero = self.zero_init_residual.then(|| "true".to_owned());
        self.refuse("stem", stem, family)?;
        self.refuse("width", width, family)?;
        self.refuse("zero_init_residual", zero, family)
    }

    /// An error for an option that has a value, `found`, where the family has no such option.
    fn refuse(
        &self,
        option: &'static str,
        found: Option<String>,
        family: &'static str,
    ) -> Result<(), Error> {
        match found {
            None => Ok(()),
            Some(found) => Err(Error::Option {
                architecture: self.architecture.name(),
                option,
                found,
                family,
            }),
        }
    }

    /// Checks what [`Backbone::new`](crate::Backbone::new) needs.
    ///
    /// # Errors
    /// [`Error::Option`] for an option that the family does not have, and what the network's own configuration
    /// refuses.
    pub fn validate(&self) -> Result<(), Error> {
        self.network().map(drop)
    }

    /// The channels of the pooled vector: those of the last map, or twice as many of [`Pooling::Both`].
    ///
    /// # Errors
    /// [`Error::Option`] for an option that the family does not have, and what the network's own configuration
    /// refuses.
    pub fn out_channels(&self) -> Result<usize, Error> {
        Ok(match self.network()? {
            NetworkConfig::ResNet(config) => config.out_channels(),
            NetworkConfig::EfficientNet(config) => config.out_channels(),
            NetworkConfig::Vit(config) => config.out_channels(),
        })
    }

    /// Pixels of the image per place of the last map, in each direction.
    ///
    /// # Errors
    /// [`Error::Option`] for an option that the family does not have, and what the network's own configuration
    /// refuses.
    pub fn stride(&self) -> Result<usize, Error> {
        Ok(match self.network()? {
            NetworkConfig::ResNet(config) => config.stride(),
            NetworkConfig::EfficientNet(config) => config.stride(),
            NetworkConfig::Vit(config) => config.patch_size,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_architecture_has_a_network() {
        for architecture in Architecture::ALL {
            let config = EncoderConfig::from(architecture);
            config.validate().unwrap();
            assert!(config.out_channels().unwrap() >= 192, "{architecture}");
        }
    }

    #[test]
    fn options_reach_the_network() {
        let config = EncoderConfig {
            architecture: Architecture::WideResNet50x2,
            stem: Stem::Small,
            width: 16,
            zero_init_residual: true,
            ..EncoderConfig::default()
        };
        let expected = ResNetConfig {
            depth: 50,
            width: 16,
            base_width: 128,
            stem: Stem::Small,
            zero_init_residual: true,
        };
        assert_eq!(config.network().unwrap(), NetworkConfig::ResNet(expected));
        assert_eq!(config.stride().unwrap(), 16);
    }

    #[test]
    fn a_patch_size_and_an_image_size_reach_the_transformer() {
        let config = EncoderConfig {
            patch_size: Some(8),
            image_size: Some(64),
            ..EncoderConfig::from(Architecture::VitSmallPatch14Reg4Dinov2)
        };
        let NetworkConfig::Vit(vit) = config.network().unwrap() else {
            panic!("a vision transformer");
        };
        assert_eq!((vit.grid(), vit.registers, vit.width), (8, 4, 384));
        assert_eq!(config.stride().unwrap(), 8);
        let config = EncoderConfig {
            image_size: Some(60),
            ..config
        };
        let error = config.validate().unwrap_err();
        assert!(matches!(error, Error::PatchGrid { .. }), "{error}");
    }

    #[test]
    fn heads_follow_the_width_unless_they_are_given() {
        let heads = |config: &EncoderConfig| match config.network().unwrap() {
            NetworkConfig::Vit(vit) => (vit.heads, vit.norm_eps),
            _ => panic!("a vision transformer"),
        };
        for architecture in Architecture::ALL.into_iter().filter(|a| a.is_vit()) {
            let plain = EncoderConfig::from(architecture);
            let width = plain.out_channels().unwrap();
            assert_eq!(heads(&plain), (width / 64, 1e-6), "{architecture}");
            let given = EncoderConfig {
                heads: Some(12),
                norm_eps: Some(1e-12),
                ..plain
            };
            assert_eq!(heads(&given), (12, 1e-12), "{architecture}");
        }
        let vit = EncoderConfig::from(Architecture::VitTinyPatch16);
        let uneven = EncoderConfig {
            heads: Some(7),
            ..vit.clone()
        };
        assert!(matches!(uneven.validate(), Err(Error::Heads { .. })));
        let wide = EncoderConfig {
            norm_eps: Some(2.),
            ..vit
        };
        assert!(matches!(wide.validate(), Err(Error::NormEps { .. })));
        let resnet = EncoderConfig {
            heads: Some(6),
            ..EncoderConfig::from(Architecture::ResNet18)
        };
        assert!(matches!(resnet.validate(), Err(Error::Option { .. })));
    }

    #[test]
    fn an_option_that_the_family_does_not_have_is_an_error() {
        let resnet = EncoderConfig::from(Architecture::ResNet18);
        let vit = EncoderConfig::from(Architecture::VitTinyPatch16);
        let lite = EncoderConfig::from(Architecture::TfEfficientNetLite0);
        for (config, named) in [
            (
                EncoderConfig {
                    patch_size: Some(16),
                    ..resnet.clone()
                },
                "`patch_size` is 16",
            ),
            (
                EncoderConfig {
                    image_size: Some(64),
                    ..resnet
                },
                "`image_size` is 64",
            ),
            (
                EncoderConfig {
                    pooling: Pooling::Both,
                    ..lite.clone()
                },
                "`pooling` is both",
            ),
            (
                EncoderConfig {
                    stem: Stem::Small,
                    ..vit.clone()
                },
                "`stem` is Small",
            ),
            (
                EncoderConfig {
                    width: 32,
                    ..vit.clone()
                },
                "`width` is 32",
            ),
            (
                EncoderConfig {
                    zero_init_residual: true,
                    ..vit
                },
                "`zero_init_residual` is true",
            ),
            (
                EncoderConfig {
                    width: 32,
                    ..lite.clone()
                },
                "`width` is 32",
            ),
            (
                EncoderConfig {
                    norm_eps: Some(1e-5),
                    ..lite
                },
                "but EfficientNets have no such option",
            ),
        ] {
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn a_file_names_the_architecture_as_timm_does() {
        let read = |text| serde_json::from_str::<EncoderConfig>(text);
        let config = read(r#"{"architecture": "resnet18", "stem": "small"}"#).unwrap();
        assert_eq!(config.architecture, Architecture::ResNet18);
        let written = serde_json::to_string(&config).unwrap();
        assert!(
            written.contains(r#""architecture":"resnet18""#),
            "{written}"
        );
        assert_eq!(read(&written).unwrap(), config);
        let error = read(r#"{"architecture": "resnet19"}"#).unwrap_err();
        assert!(error.to_string().contains("did you mean"), "{error}");
    }
}

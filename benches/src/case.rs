//! What can be timed, by name.

use anyhow::{Result, bail};
use fgvr_encoder::{Architecture, EncoderConfig, NetworkConfig};

use crate::embed::Embed;
use crate::judge::Judge;
use crate::micro::Micro;
use crate::place::Place;
use crate::train::Train;
use crate::{moco, synthpair};

/// Something prepared, that can be repeated.
pub(crate) trait Case {
    /// Images that one repetition works on.
    fn images(&self) -> usize;

    /// Floating-point operations of one repetition, where they are what counts.
    fn operations(&self) -> Option<f64> {
        None
    }

    /// One repetition.
    fn step(&mut self) -> Result<()>;
}

/// A network, the side of its images and their number: `resnet50-224-b16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// Which network, by torchvision's or timm's name.
    pub(crate) network: Architecture,
    /// Pixels.
    pub(crate) side: usize,
    /// Images.
    pub(crate) batch: usize,
}

impl Size {
    /// The published network, for images of this size.
    pub(crate) fn encoder(&self) -> Result<EncoderConfig> {
        let mut config = EncoderConfig::from(self.network);
        if let NetworkConfig::Vit(_) = config.network()? {
            config.image_size = Some(self.side);
        }
        Ok(config)
    }

    pub(crate) fn parse(name: &str) -> Result<Self> {
        let parts: Vec<&str> = name.split('-').collect();
        let number = |text: &str, prefix: &str| {
            let digits = text.strip_prefix(prefix)?;
            digits.parse::<usize>().ok().filter(|number| *number > 0)
        };
        if let [network, side, batch] = parts[..]
            && let (Ok(network), Some(side), Some(batch)) =
                (network.parse(), number(side, ""), number(batch, "b"))
        {
            return Ok(Self {
                network,
                side,
                batch,
            });
        }
        bail!("`{name}` is no size; expected one such as resnet50-224-b16");
    }
}

/// Prepares the case called `name`: `train/…`, `embed/…`, `judge/…` or `micro/…`. A device has the steps of pretraining
/// and embedding.
pub(crate) fn prepare(name: &str, place: &Place) -> Result<Box<dyn Case>> {
    match name.split_once('/') {
        Some(("train", size)) => Ok(match size.split_once('-') {
            Some(("moco", size)) => Box::new(moco::step(Size::parse(size)?, place)?),
            Some(("synthpair", size)) => Box::new(synthpair::step(Size::parse(size)?, place)?),
            _ => {
                let size = Size::parse(size)?;
                place.only_cpu(name)?;
                Box::new(Train::new(size)?)
            }
        }),
        Some(("embed", size)) => Ok(Box::new(Embed::new(Size::parse(size)?, place)?)),
        Some(("judge", name_of_case)) => {
            place.only_cpu(name)?;
            Ok(Box::new(Judge::new(name_of_case)?))
        }
        Some(("micro", convolution)) => {
            place.only_cpu(name)?;
            Ok(Box::new(Micro::new(convolution)?))
        }
        _ => bail!("no case `{name}`; its name begins with train/, embed/, judge/ or micro/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_and_a_wrong_one_named() {
        let size = Size::parse("resnet50-224-b16").unwrap();
        assert_eq!(
            (size.network, size.side, size.batch),
            (Architecture::ResNet50, 224, 16)
        );
        for wrong in [
            "",
            "resnet50",
            "resnet50-224-16",
            "vit50-224-b16",
            "resnet50-0-b1",
        ] {
            let error = Size::parse(wrong).unwrap_err().to_string();
            assert!(error.contains("resnet50-224-b16"), "{error}");
        }
    }

    #[test]
    fn a_case_that_does_not_exist_is_an_error() {
        for wrong in [
            "resnet50-224-b16",
            "fly/resnet50-224-b16",
            "train/x",
            "micro/x",
        ] {
            assert!(prepare(wrong, &Place::cpu()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn small_networks_train_and_embed() {
        for name in [
            "train/resnet18-32-b2",
            "embed/resnet18-32-b2",
            "embed/vit_tiny_patch16_224-32-b2",
        ] {
            let mut case = prepare(name, &Place::cpu()).unwrap();
            assert_eq!(case.images(), 2);
            case.step().unwrap();
        }
    }
}

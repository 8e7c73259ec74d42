//! A step of SynthPair on MoCo v2.
//!
//! The pair's warm-up is left out, and so is the pair's own augmentation, here and on PyTorch's side: it is
//! work on pictures, and torchvision's does not take a batch with a draw of its own for each image.

use anyhow::Result;
use fgvr_encoder::{EncoderConfig, Stem};
use fgvr_ssl::SynthPairConfig;
use fgvr_train::PretrainConfig;

use crate::case::Size;
use crate::place::Place;
use crate::pretraining::{Pretraining, STEPS};

/// Images of the set the batches pretend to come from.
const SET: u32 = 10_000;
/// The largest side of images for which the small stem is meant.
const SMALL: usize = 96;

pub(crate) fn step(size: Size, place: &Place) -> Result<Pretraining> {
    Pretraining::new(&config(size, place)?, SET, place)
}

/// The program's defaults but for the size, and without warm-up and the pair's augmentation.
fn config(size: Size, place: &Place) -> Result<PretrainConfig> {
    let stem = match size.side > SMALL {
        true => Stem::ImageNet,
        false => Stem::Small,
    };
    let mut config = PretrainConfig {
        encoder: EncoderConfig {
            stem,
            ..size.encoder()?
        },
        precision: place.precision,
        ..PretrainConfig::default()
    };
    config.data.size = size.side;
    config.loader.batch = size.batch;
    config.optimizer.steps = Some(STEPS);
    let pairs = config.methods.get_mut::<SynthPairConfig>()?;
    (pairs.warm_up, pairs.ramp) = (0., 0.);
    pairs.augment_pair = false;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use fgvr_encoder::Architecture;

    use super::*;
    use crate::case::Case;

    const SIZE: Size = Size {
        network: Architecture::ResNet10,
        side: 32,
        batch: 4,
    };

    #[test]
    fn every_step_has_a_pair_and_a_full_queue() {
        let mut case = step(SIZE, &Place::cpu()).unwrap();
        for _ in 0..2 {
            case.step().unwrap();
        }
        assert_eq!(case.batch.indices, [8, 9, 10, 11]);
        let state = case.trainer.state().unwrap();
        for queue in ["queue", "pair_queue"] {
            let position = &state[&format!("objective.{queue}.position")];
            assert_eq!(position.to_vec1::<i64>().unwrap()[1], 4096);
        }
    }

    #[test]
    fn images_as_large_as_imagenets_get_its_stem() {
        let stem = |side| {
            let size = Size { side, ..SIZE };
            config(size, &Place::cpu()).unwrap().encoder.stem
        };
        assert_eq!([stem(64), stem(224)], [Stem::Small, Stem::ImageNet]);
    }
}

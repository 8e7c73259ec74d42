//! A step of MoCo v2 as published (arXiv:2003.04297), but for network and size.

use anyhow::Result;
use fgvr_train::PretrainConfig;
use fgvr_train::config::Layers;

use crate::case::Size;
use crate::place::Place;
use crate::pretraining::{Pretraining, STEPS};

/// ImageNet's training images: a queue holds at most half the set.
const SET: u32 = 1_281_167;

pub(crate) fn step(size: Size, place: &Place) -> Result<Pretraining> {
    Pretraining::new(&config(size, place)?, SET, place)
}

/// `fgvr pretrain --preset moco-v2` with this network, side and batch.
fn config(size: Size, place: &Place) -> Result<PretrainConfig> {
    let mut layers = Layers::default();
    layers.preset("moco-v2")?;
    for setting in [
        format!("encoder.architecture={}", size.network.name()),
        format!("data.size={}", size.side),
        format!("loader.batch={}", size.batch),
        format!("optimizer.steps={STEPS}"),
        format!("precision={}", place.precision),
    ] {
        layers.set(&setting)?;
    }
    Ok(layers.resolve()?)
}

#[cfg(test)]
mod tests {
    use fgvr_encoder::Architecture;
    use fgvr_nn::Precision;
    use fgvr_ssl::MoCoConfig;

    use super::*;
    use crate::case::Case;

    fn size(network: Architecture, side: usize, batch: usize) -> Size {
        Size {
            network,
            side,
            batch,
        }
    }

    #[test]
    fn the_settings_are_those_of_the_paper() {
        let size = size(Architecture::ResNet50, 224, 256);
        let config = config(size, &Place::cpu()).unwrap();
        let moco = config.methods.get::<MoCoConfig>();
        assert_eq!((moco.queue, moco.dim), (65536, 128));
        assert_eq!(config.precision, Precision::F32);
        assert!((config.optimizer.lr - 0.03).abs() < 1e-12);
    }

    #[test]
    fn every_step_meets_a_full_queue_and_makes_no_pair() {
        let size = size(Architecture::ResNet10, 32, 4);
        let mut case = step(size, &Place::cpu()).unwrap();
        for _ in 0..2 {
            case.step().unwrap();
        }
        let state = case.trainer.state().unwrap();
        let position = state["objective.queue.position"].to_vec1::<i64>().unwrap();
        assert_eq!(position, [8, 65536]);
    }
}

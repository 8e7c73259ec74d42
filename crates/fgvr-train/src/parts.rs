//! How well masks and Grad-CAM hit the parts that tell classes apart, on a set that knows them.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use fgvr_data::augment::{EvaluationView, pair_augment};
use fgvr_data::{Dataset, load_batch};
use fgvr_eval::{PartHit, part_hit};
use fgvr_gradcam::{Sign, grad_cam_signed, importance};
use fgvr_perturb::{Control, MaskConfig, MaskRule, RandomKey, non_discriminative_mask};
use serde::Serialize;

use crate::config::PretrainConfig;
use crate::{Result, Trainer};

/// Hits of the parts, over test images. For image i and channel c, e_ic is the share of the
/// channel's activation that lies on the parts; a mask that perturbs what does not discriminate
/// keeps channels with a higher e than those it masks.
#[derive(Clone, Debug, Serialize)]
pub struct PartHits {
    /// Test images that were looked at and have parts.
    pub images: usize,
    /// The method's mask.
    pub mask: PartHit,
    /// A random mask of the same size.
    pub random_mask: PartHit,
    /// Shares of Grad-CAM maps on the parts: `kept` of what lowers the loss, `masked` of what
    /// raises it. A uniform map would have `area`.
    pub grad_cam: PartHit,
}

/// Hits on at most `evaluate.part_images` test images; `None` where the set does not know its
/// parts, the bank is too small for a mask, or the encoder does not pool places.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn part_hits(
    config: &PretrainConfig,
    trainer: &Trainer,
    test: &Arc<dyn Dataset>,
) -> Result<Option<PartHits>> {
    // A transformer pools its class token: the gradient there says nothing of places.
    let pools_places = !config.encoder.architecture.is_vit();
    if !pools_places || test.is_empty() || test.part_mask(0)?.is_none() {
        return Ok(None);
    }
    let bank = trainer.synthpair().bank();
    if bank.len() < config.synthpair.bank_minimum {
        return Ok(None);
    }
    let (variance, mean) = (bank.variance()?, bank.mean()?);
    let wanted = config.evaluate.part_images.min(test.len()).max(1);
    // Evenly spread, as the test images may be in the order of their classes.
    let chosen: Vec<usize> = (0..wanted).map(|i| i * test.len() / wanted).collect();
    let masks = masks(config);
    let mut hits: [Vec<PartHit>; 3] = Default::default();
    let mut images_seen = 0;
    for indices in chosen.chunks(config.evaluate.batch) {
        // The whole image: the masks of the parts are those of it.
        let view = EvaluationView::of_ratio(config.data.size, 1.);
        let loaded = load_batch(test.as_ref(), indices, &view, &config.normalisation)?;
        let Some(images) = loaded.images else {
            continue;
        };
        let parts = part_masks(test, &loaded.indices, config.data.size)?;
        let numbers: Vec<u32> = loaded.indices.iter().map(|i| *i as u32).collect();
        let other = pair_augment(
            &images,
            &config.pair_augment,
            &config.normalisation,
            config.seed,
            0,
            0,
            &numbers,
        )?;
        let (features, gradient) = trainer
            .base()
            .gradient_at_pooled(&images, &other, &numbers)?;
        let score = importance(
            &features.pooled,
            &gradient,
            config.synthpair.importance,
            Some(&mean),
        )?;
        let key = RandomKey {
            seed: config.seed,
            step: 0,
        };
        for (hits, mask) in hits.iter_mut().zip(&masks) {
            let mask = non_discriminative_mask(&variance, &score, mask, key, &numbers)?;
            hits.push(part_hit(&features.map, &mask, &parts)?);
        }
        let (_, _, h, w) = features.map.dims4()?;
        let at_map = gradient
            .unsqueeze(2)?
            .unsqueeze(3)?
            .broadcast_as(features.map.shape())?;
        let at_map = (at_map / (h * w) as f64)?;
        let cam = |sign| grad_cam_signed(&features.map, &at_map, sign);
        let cams = Tensor::stack(&[cam(Sign::LowersLoss)?, cam(Sign::RaisesLoss)?], 1)?; // (N, 2, h, w)
        let sides = Tensor::new(&[[0f32, 1.]], &Device::Cpu)?.repeat((numbers.len(), 1))?;
        hits[2].push(part_hit(&cams, &sides, &parts)?);
        images_seen += numbers.len();
    }
    let [mask, random_mask, grad_cam] = hits.map(|hits| PartHit::merge(&hits));
    Ok(Some(PartHits {
        images: images_seen,
        mask,
        random_mask,
        grad_cam,
    }))
}

/// The method's mask (whatever the arm perturbs), and a random one of its size.
fn masks(config: &PretrainConfig) -> [MaskConfig; 2] {
    let method = MaskConfig {
        rule: match config.synthpair.mask.rule {
            MaskRule::All | MaskRule::None => MaskRule::Union,
            rule => rule,
        },
        control: Control::None,
        ..config.synthpair.mask.clone()
    };
    let random = MaskConfig {
        control: Control::Random,
        ..method.clone()
    };
    [method, random]
}

/// Part masks (N, size, size) of test images.
fn part_masks(test: &Arc<dyn Dataset>, indices: &[usize], size: usize) -> Result<Tensor> {
    let mut masks = Vec::with_capacity(indices.len());
    for index in indices {
        let mask = match test.part_mask(*index)? {
            Some(mask) => Tensor::from_vec(mask.values, (mask.height, mask.width), &Device::Cpu)?,
            None => Tensor::zeros((size, size), candle_core::DType::F32, &Device::Cpu)?,
        };
        masks.push(mask);
    }
    Ok(Tensor::stack(&masks, 0)?)
}

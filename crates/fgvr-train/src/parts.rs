//! How well masks, Grad-CAM and the maps of add-ons hit the parts that tell classes apart, on a set that knows them.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use fgvr_data::augment::{EvaluationView, pair_augment};
use fgvr_data::{Dataset, load_batch};
use fgvr_eval::{PartHit, part_hit};
use fgvr_gradcam::{Sign, grad_cam_signed, importance};
use fgvr_nn::Features;
use fgvr_perturb::{
    Control, FeatureBank, MaskConfig, MaskRule, RandomKey, non_discriminative_mask,
};
use fgvr_ssl::{Addon, AddonKind, Base, Shuffle, SynthPairConfig};
use serde::Serialize;

use crate::Result;
use crate::config::PretrainConfig;

/// Sets the shuffles of maps apart from other draws of the same seed.
const SHUFFLED: u64 = 0x6d61_7073;

/// Hits of the parts, over test images.
#[derive(Clone, Debug, Serialize)]
pub struct PartHits {
    /// Test images that were looked at and have parts.
    pub images: usize,
    /// Hits of masks over channels, and of Grad-CAM; absent where the bank is too small for a mask, and where
    /// the encoder does not pool places.
    #[serde(flatten)]
    pub channels: Option<ChannelHits>,
    /// Hits of the maps of add-ons, in their order.
    pub maps: Vec<MapHits>,
}

/// Hits of masks over channels. For image i and channel c, e_ic is the share of the channel's activation
/// that lies on the parts; a mask that perturbs what does not discriminate keeps channels with a higher e
/// than those it masks.
#[derive(Clone, Debug, Serialize)]
pub struct ChannelHits {
    /// The method's mask.
    pub mask: PartHit,
    /// A random mask of the same size.
    pub random_mask: PartHit,
    /// Shares of Grad-CAM maps on the parts: `kept` of what lowers the loss, `masked` of what
    /// raises it. A uniform map would have `area`.
    pub grad_cam: PartHit,
}

/// How much of an add-on's map lies on the parts, beside what would lie there without looking.
#[derive(Clone, Debug, Serialize)]
pub struct MapHits {
    /// The add-on.
    pub addon: AddonKind,
    /// Mean share of the map that lies on the parts.
    pub share: f64,
    /// The same of its values in a random order of places.
    pub shuffled: f64,
    /// The same of a uniform map.
    pub area: f64,
    /// Images that count: with parts, and a map that is not zero everywhere.
    pub images: usize,
}

/// What masks and maps of images are made from.
pub(crate) struct MapSources<'a> {
    /// The loss whose gradient says what is important.
    pub(crate) base: &'a dyn Base,
    /// Features of training images, which say what varies, of a run with an add-on that keeps them.
    pub(crate) bank: Option<FeatureBank>,
    /// Those that look at places have maps.
    pub(crate) addons: &'a [Box<dyn Addon + Send>],
}

/// Hits on at most `evaluate.part_images` test images; `None` where the set does not know its parts, and
/// where there is nothing to measure.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn part_hits(
    config: &PretrainConfig,
    sources: &MapSources<'_>,
    test: &Arc<dyn Dataset>,
) -> Result<Option<PartHits>> {
    // A class token's gradient says nothing of places, and a transformer's map has either sign, which no share has.
    let pools_places = !config.encoder.architecture.is_vit();
    let bank = sources.bank.as_ref();
    let bank = bank.filter(|bank| pools_places && bank.len() >= config.pairs().bank_minimum);
    let addons = sources.addons;
    if bank.is_none() && config.addons.is_empty() || !test.knows_parts()? {
        return Ok(None);
    }
    let channels = bank.map(|bank| Channels::new(config, bank));
    let mut channels = channels.transpose()?;
    let wanted = config.evaluate.part_images.min(test.len()).max(1);
    // Evenly spread, as the test images may be in the order of their classes.
    let chosen: Vec<usize> = (0..wanted).map(|i| i * test.len() / wanted).collect();
    let mut maps: Vec<Vec<PartHit>> = vec![Vec::new(); addons.len()];
    let mut images_seen = 0;
    for indices in chosen.chunks(config.evaluate.batch) {
        // As much of an image as a square can show; the masks of the parts get the same view.
        let view = EvaluationView::of_ratio(config.data.size, 1.);
        let loaded = load_batch(test.as_ref(), indices, &view, &config.normalisation)?;
        let Some(images) = loaded.images else {
            continue;
        };
        let parts = part_masks(test, &loaded.indices, &view)?;
        let numbers: Vec<u32> = loaded.indices.iter().map(|i| *i as u32).collect();
        let others = pair_augment(
            &images,
            &config.pair_augment,
            &config.normalisation,
            config.seed,
            0,
            0,
            &numbers,
        )?;
        if let Some(channels) = &mut channels {
            let (features, gradient) = sources
                .base
                .gradient_at_pooled(&images, &others, &numbers)?;
            channels.push(&features, &gradient, &parts, &numbers)?;
        }
        for (addon, hits) in addons.iter().zip(&mut maps) {
            if let Some(map) = addon.map(sources.base, &images, &others, &numbers)? {
                hits.push(map_hit(&map, &parts, config.seed, &numbers)?);
            }
        }
        images_seen += numbers.len();
    }
    let maps = addons
        .iter()
        .zip(&maps)
        .filter(|(_, hits)| !hits.is_empty());
    let maps: Vec<_> = maps
        .map(|(addon, hits)| {
            let hit = PartHit::merge(hits);
            MapHits {
                addon: addon.kind(),
                share: hit.kept,
                shuffled: hit.masked,
                area: hit.area,
                images: hit.images,
            }
        })
        .collect();
    let channels = channels.map(Channels::hits);
    Ok(
        (channels.is_some() || !maps.is_empty()).then_some(PartHits {
            images: images_seen,
            channels,
            maps,
        }),
    )
}

/// The masks over channels, and their hits so far.
struct Channels<'a> {
    config: &'a PretrainConfig,
    variance: Tensor,
    mean: Tensor,
    masks: [MaskConfig; 2],
    hits: [Vec<PartHit>; 3],
}

impl<'a> Channels<'a> {
    fn new(config: &'a PretrainConfig, bank: &FeatureBank) -> Result<Self> {
        Ok(Self {
            config,
            variance: bank.variance()?,
            mean: bank.mean()?,
            masks: masks(config),
            hits: Default::default(),
        })
    }

    fn push(
        &mut self,
        features: &Features,
        gradient: &Tensor,
        parts: &Tensor,
        numbers: &[u32],
    ) -> Result<()> {
        let config = self.config;
        let score = importance(
            &features.pooled,
            gradient,
            config.pairs().importance,
            Some(&self.mean),
        )?;
        let key = RandomKey {
            seed: config.seed,
            step: 0,
        };
        for (hits, mask) in self.hits.iter_mut().zip(&self.masks) {
            let mask = non_discriminative_mask(&self.variance, &score, mask, key, numbers)?;
            hits.push(part_hit(&features.map, &mask, parts)?);
        }
        let (_, _, h, w) = features.map.dims4()?;
        let at_map = gradient
            .unsqueeze(2)?
            .unsqueeze(3)?
            .broadcast_as(features.map.shape())?;
        let at_map = (at_map / (h * w) as f64)?;
        let cam = |sign| grad_cam_signed(&features.map, &at_map, sign);
        let [lowers, raises] = [cam(Sign::LowersLoss)?, cam(Sign::RaisesLoss)?];
        self.hits[2].push(two_maps(&lowers, &raises, parts)?);
        Ok(())
    }

    fn hits(self) -> ChannelHits {
        let [mask, random_mask, grad_cam] = self.hits.map(|hits| PartHit::merge(&hits));
        ChannelHits {
            mask,
            random_mask,
            grad_cam,
        }
    }
}

/// Shares of two maps (N, h, w) on the parts: the first as `kept`, the second as `masked`.
fn two_maps(first: &Tensor, second: &Tensor, parts: &Tensor) -> Result<PartHit> {
    let maps = Tensor::stack(&[first, second], 1)?; // (N, 2, h, w)
    let sides = Tensor::new(&[[0f32, 1.]], &Device::Cpu)?.repeat((first.dim(0)?, 1))?;
    Ok(part_hit(&maps, &sides, parts)?)
}

/// The share of a map (N, h, w) on the parts, and as `masked` that of its values in a random order.
fn map_hit(map: &Tensor, parts: &Tensor, seed: u64, numbers: &[u32]) -> Result<PartHit> {
    let (_, h, w) = map.dims3()?;
    let shuffled = numbers.iter().enumerate().map(|(row, number)| {
        let order = Shuffle::new(h * w, [seed, SHUFFLED, u64::from(*number), 0])?;
        order.apply(&map.get(row)?.flatten_all()?)?.reshape((h, w))
    });
    let shuffled = shuffled.collect::<candle_core::Result<Vec<_>>>()?;
    two_maps(map, &Tensor::stack(&shuffled, 0)?, parts)
}

/// The method's mask (whatever the arm perturbs), and a random one of its size.
fn masks(config: &PretrainConfig) -> [MaskConfig; 2] {
    let mask = config.methods.get::<SynthPairConfig>().mask;
    let method = MaskConfig {
        rule: match mask.rule {
            MaskRule::All | MaskRule::None => MaskRule::Union,
            rule => rule,
        },
        control: Control::None,
        ..mask
    };
    let random = MaskConfig {
        control: Control::Random,
        ..method.clone()
    };
    [method, random]
}

/// Part masks (N, size, size) of test images, as `view` shows them.
fn part_masks(test: &Arc<dyn Dataset>, indices: &[usize], view: &EvaluationView) -> Result<Tensor> {
    let size = view.size;
    let mut masks = Vec::with_capacity(indices.len() * size * size);
    for index in indices {
        match test.part_mask(*index)? {
            Some(mask) => masks.extend(view.apply_to_mask(&mask)?),
            None => masks.extend(std::iter::repeat_n(0f32, size * size)),
        }
    }
    Ok(Tensor::from_vec(
        masks,
        (indices.len(), size, size),
        &Device::Cpu,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_on_the_parts_has_a_share_of_one_and_its_shuffle_about_the_area() {
        let n = 200;
        let one = |place: usize| {
            let values: Vec<f32> = (0..16).map(|at| f32::from(u8::from(at == place))).collect();
            Tensor::from_vec(values, (1, 4, 4), &Device::Cpu).unwrap()
        };
        let map = one(5).repeat((n, 1, 1)).unwrap();
        let numbers: Vec<u32> = (0..n as u32).collect();
        let hit = map_hit(&map, &map, 1, &numbers).unwrap();
        assert_eq!((hit.kept, hit.area), (1., 1. / 16.));
        assert!((hit.masked - hit.area).abs() < 0.06, "{hit:?}");
        // The same of an image whatever its batch.
        let [part, all] = [40, n].map(|n| {
            let map = map.narrow(0, 0, n).unwrap();
            map_hit(&map, &map, 1, &numbers[..n]).unwrap().masked * n as f64
        });
        let rest = map.narrow(0, 40, n - 40).unwrap();
        let rest = map_hit(&rest, &rest, 1, &numbers[40..]).unwrap();
        assert!((part + rest.masked * (n - 40) as f64 - all).abs() < 1e-9);
    }
}

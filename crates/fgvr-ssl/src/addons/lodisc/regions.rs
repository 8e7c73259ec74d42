//! Which cells of a view are pivotal: by attention, by Grad-CAM, or drawn at random.

use candle_core::{Result, Tensor, bail};
use fgvr_gradcam::{Sign, grad_cam_signed};
use fgvr_nn::{Encoder, Features, NormMode};

use super::pivotal::share_within;
use super::{LoDisc, REGION, Regions, attention_product, mean, pivotal_mask, random_mask};
use crate::{AtFeatures, Base};

/// The pivotal cells of a view.
pub(super) struct Region {
    /// (N, h, w), 0 or 1.
    pub(super) mask: Tensor,
    /// What was ranked, as weights (N, h, w) of at least 0, one or several; none of a random region.
    weights: Vec<Tensor>,
}

impl LoDisc {
    /// The region of global view `view` of a step.
    pub(super) fn of_view(&self, step: &AtFeatures<'_>, view: usize) -> Result<Region> {
        let (views, images) = (step.input.views.global, step.input.images);
        let own = step.pass.branches.iter().filter(|b| b.view < 2);
        let own = own.enumerate().find(|(_, branch)| branch.view == view);
        if self.cfg.regions == Regions::Random {
            let Some(branch) = step.pass.branches.first() else {
                bail!("lodisc: the base's pass has no query branch");
            };
            let key = [step.input.seed, step.input.step, REGION + view as u64];
            return self.at_random(branch.leaves()?, images, key);
        }
        if let Some(found) = self.of_attention(step.base, views[view], NormMode::NoUpdate)? {
            return Ok(found);
        }
        match own {
            Some((at, branch)) => self.of_gradient(branch.leaves()?, &step.gradient[at].to_host()?),
            None => {
                let other = views[1 - view.min(1)];
                let (features, gradient) =
                    (step.base).gradient_at_pooled(views[view], other, images)?;
                self.of_gradient(&features, &gradient)
            }
        }
    }

    pub(super) fn at_random(
        &self,
        features: &Features,
        images: &[u32],
        key: [u64; 3],
    ) -> Result<Region> {
        let (_, _, h, w) = features.map.dims4()?;
        Ok(Region {
            mask: random_mask(images, (h, w), self.cfg.fraction, key)?,
            weights: Vec::new(),
        })
    }

    /// By attention; `None` where Grad-CAM is to rank.
    pub(super) fn of_attention(
        &self,
        base: &dyn Base,
        images: &Tensor,
        norm: NormMode,
    ) -> Result<Option<Region>> {
        if self.cfg.regions == Regions::GradCam {
            return Ok(None);
        }
        let encoder: &dyn Encoder = base.target_encoder().unwrap_or(base.encoder());
        match encoder.class_attention(images, norm)? {
            Some(layers) => Ok(Some(Region {
                mask: pivotal_mask(&attention_product(&layers)?, self.cfg.fraction)?,
                weights: layers,
            })),
            None if self.cfg.regions == Regions::Attention => {
                bail!(
                    "lodisc: regions is attention, but the encoder has no class token; use grad-cam or auto-by-encoder"
                )
            }
            None => Ok(None),
        }
    }

    /// By Grad-CAM: the gradient at the map is that at its mean, spread over places.
    pub(super) fn of_gradient(&self, features: &Features, gradient: &Tensor) -> Result<Region> {
        let map = features.map.detach();
        let (_, _, h, w) = map.dims4()?;
        pools_places(&map, &features.pooled.detach())?;
        let spread = gradient.unsqueeze(2)?.unsqueeze(3)?; // (N, C) -> (N, C, 1, 1)
        let spread = (spread.broadcast_as(map.shape())? / (h * w) as f64)?;
        let opposite = match self.cfg.sign {
            Sign::RaisesLoss => Sign::LowersLoss,
            Sign::LowersLoss => Sign::RaisesLoss,
        };
        let cam = grad_cam_signed(&map, &spread, self.cfg.sign)?;
        // relu(s) - relu(-s) = s
        let unrectified = (&cam - grad_cam_signed(&map, &spread, opposite)?)?;
        Ok(Region {
            mask: pivotal_mask(&unrectified, self.cfg.fraction)?,
            weights: vec![cam],
        })
    }
}

/// Refuses features of which Grad-CAM from the pooled gradient says nothing.
fn pools_places(map: &Tensor, pooled: &Tensor) -> Result<()> {
    let largest = |t: &Tensor| t.abs()?.max_all()?.to_scalar::<f32>();
    let difference = largest(&(map.mean((2, 3))? - pooled)?)?;
    // Both may have been rounded to bf16. NaN passes: it is no matter of pooling.
    if difference > 1e-2 * largest(pooled)? + 1e-6 {
        bail!(
            "lodisc: regions is grad-cam, but the encoder's feature is not the mean of its map; use attention or auto-by-encoder"
        );
    }
    Ok(())
}

impl Region {
    /// The share of the weights that lies within, mean over images and layers.
    pub(super) fn mass(&self) -> Result<Option<f64>> {
        let mut shares = Vec::new();
        for weights in &self.weights {
            shares.extend(share_within(weights, &self.mask)?);
        }
        Ok(mean(&shares))
    }
}

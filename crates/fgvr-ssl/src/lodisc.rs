//! Local discrimination: what an image's pivotal patches alone tell is to agree with the other view.

use candle_core::{Result, Tensor, bail};
use fgvr_gradcam::{Sign, grad_cam_signed};
use fgvr_nn::{Encoder, Features, NormMode};

use crate::addons::{AddonConfig, AddonParts};
use crate::pivotal::{
    attention_product, masked, pivotal_count, pivotal_mask, random_mask, share_within,
};
use crate::recipe::{BYOL_VIEWS, LearningRate, Optimizer, Recipe};
use crate::{Addon, AddonKind, AtFeatures, Base, MomentumSchedule};

/// Sets these draws apart from others of the same (seed, step).
const REGION: u64 = 0x6c6f_6469_7363;

/// By what an image's patches are ranked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Regions {
    /// [`Regions::Attention`] of an encoder with a class token, else [`Regions::GradCam`].
    #[default]
    AutoByEncoder,
    /// The product over layers of the class token's attention in the network that makes the targets.
    Attention,
    /// Grad-CAM of the base's loss at the online encoder's last map, whose mean must be its feature.
    GradCam,
    /// Nothing: patches drawn at random, the control that a claim must beat.
    Random,
}

impl Regions {
    /// Its name in configuration files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AutoByEncoder => "auto-by-encoder",
            Self::Attention => "attention",
            Self::GradCam => "grad-cam",
            Self::Random => "random",
        }
    }
}

/// Choices of [`LoDisc`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct LoDiscConfig {
    /// Weight of the local loss beside the base's, the global one.
    pub weight: f64,
    /// Share of the patches that is kept, rounded down to whole patches.
    pub fraction: f64,
    /// By what they are ranked.
    pub regions: Regions,
    /// Which places Grad-CAM ranks high.
    ///
    /// # Design choice
    /// Those that lower the loss: the evidence by which the base tells the image from others, as
    /// attention is. Under pooling by the mean the two signs split the map into halves of about equal
    /// weight, so that the other one is a fair control.
    pub sign: Sign,
}

impl Default for LoDiscConfig {
    fn default() -> Self {
        Self {
            weight: 1.,
            fraction: 0.3,
            regions: Regions::AutoByEncoder,
            sign: Sign::LowersLoss,
        }
    }
}

impl LoDiscConfig {
    /// Checks that square images of `side` pixels with a map of `cells` places along a side can be masked.
    ///
    /// # Errors
    /// A map of one place, a fraction that keeps none or all, and places of no whole number of pixels.
    pub fn fits(&self, side: usize, cells: usize) -> Result<()> {
        pivotal_count(self.fraction, cells * cells)?;
        if !side.is_multiple_of(cells) {
            bail!(
                "lodisc: images of {side} x {side}, expected multiples of the map's side {cells}"
            );
        }
        Ok(())
    }
}

impl AddonConfig for LoDiscConfig {
    fn validate(&self) -> Result<()> {
        if !(self.weight >= 0. && self.weight.is_finite()) {
            bail!(
                "lodisc: weight is {}, expected a number of at least 0",
                self.weight
            );
        }
        if !(self.fraction > 0. && self.fraction < 1.) {
            bail!(
                "lodisc: fraction is {}, expected a number between 0 and 1",
                self.fraction
            );
        }
        Ok(())
    }

    fn build(&self, parts: AddonParts<'_>) -> Result<Box<dyn Addon + Send>> {
        Ok(Box::new(LoDisc::new(self, parts)?))
    }
}

/// How LoDisc was trained by those who published it, on MoCo v3 with ViT-B/16 at 224 px from supervised
/// ImageNet weights; temperature and momentum are [`crate::MoCoV3Config`]'s defaults.
pub const LODISC_RECIPE: Recipe = Recipe {
    source: "the released code of arXiv:2403.04066: ViT-B/16, 100 epochs; the README leaves the rate blank, 1e-3 is the argument's default; the batch is not stated, 256 is ours",
    optimizer: Optimizer::AdamW {
        betas: [0.9, 0.999],
    },
    learning_rate: LearningRate {
        per_256: 1e-3,
        warm_up_epochs: 0,
        constant: &[],
    },
    weight_decay: [0.5, 0.5],
    decays_norm_and_bias: true,
    momentum: Some((0.99, MomentumSchedule::Cosine)),
    epochs: 100,
    batch: 256,
    views: BYOL_VIEWS,
    local_crops: None,
};

/// Local discrimination (LoDisc, arXiv:2403.04066) as an add-on. The patches of each view x_i are ranked by
///
/// att_j = Π_l A_l\[CLS, j\],
///
/// A_l the head-averaged attention of layer l in the network that makes the targets; the ⌊0.3·P⌋ highest
/// of P are kept, and all other pixels become 0. With k'_i the target of the masked view,
/// L = L_global + w · L_local, where L_local is the base's own loss of its queries against k'_i in place
/// of k_i: ctr(q_1, k'_2) + ctr(q_2, k'_1) on MoCo v3. No gradient reaches the masked images.
///
/// # Design choice
/// The authors' method stands on MoCo v3 and a transformer. Here it stands on every base, by
/// [`Base::against`]; the pass over masked images takes batch statistics where there are any and leaves no
/// trace in the running ones. For a trunk without a class token the cells of the last map are ranked by
/// Grad-CAM of the base's loss, without its ReLU, which would make a tie of all cells of the other
/// sign; a view without a query, such as MoCo v2's second, by [`Base::gradient_at_pooled`].
#[derive(Debug)]
pub struct LoDisc {
    cfg: LoDiscConfig,
    seed: u64,
}

/// The pivotal cells of a view.
struct Region {
    /// (N, h, w), 0 or 1.
    mask: Tensor,
    /// What was ranked, as weights (N, h, w) of at least 0, one or several; none of a random region.
    weights: Vec<Tensor>,
}

impl LoDisc {
    /// With these choices.
    ///
    /// # Errors
    /// A configuration out of range.
    pub fn new(cfg: &LoDiscConfig, parts: AddonParts<'_>) -> Result<Self> {
        cfg.validate()?;
        Ok(Self {
            cfg: cfg.clone(),
            seed: parts.seed,
        })
    }

    /// The region of global view `view` of a step.
    fn of_view(&self, step: &AtFeatures<'_>, view: usize) -> Result<Region> {
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

    fn at_random(&self, features: &Features, images: &[u32], key: [u64; 3]) -> Result<Region> {
        let (_, _, h, w) = features.map.dims4()?;
        Ok(Region {
            mask: random_mask(images, (h, w), self.cfg.fraction, key)?,
            weights: Vec::new(),
        })
    }

    /// By attention; `None` where Grad-CAM is to rank.
    fn of_attention(
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
    fn of_gradient(&self, features: &Features, gradient: &Tensor) -> Result<Region> {
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
    fn mass(&self) -> Result<Option<f64>> {
        let mut shares = Vec::new();
        for weights in &self.weights {
            shares.extend(share_within(weights, &self.mask)?);
        }
        Ok(mean(&shares))
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (!values.is_empty()).then_some(mean)
}

impl Addon for LoDisc {
    fn kind(&self) -> AddonKind {
        AddonKind::LocalDiscrimination
    }

    fn is_active(&self) -> bool {
        self.cfg.weight > 0.
    }

    fn at_features(&mut self, step: &mut AtFeatures<'_>) -> Result<()> {
        // A step that is not finite is dropped: there is nothing to rank.
        if !self.is_active() || !step.is_finite()? {
            return Ok(());
        }
        let input = step.input;
        let mut views = input.views.global.map(Tensor::clone);
        let mut masses = Vec::new();
        for (view, x) in views.iter_mut().enumerate() {
            // A view is a target where another view's query is compared with it.
            let compared = step.pass.branches.iter().any(|b| b.view != view);
            let shown = view == 0 && step.report.pictures.is_some();
            if !compared && !shown {
                continue;
            }
            let region = self.of_view(step, view)?;
            if compared {
                *x = masked(x, &region.mask)?;
                masses.extend(region.mass()?);
            }
            if let (true, Some(pictures)) = (shown, &mut step.report.pictures) {
                pictures.maps.push(("pivotal", region.mask));
            }
        }
        let [first, second] = &views;
        let found = (step.base).against(step.pass, [first, second], input.images)?;
        step.add_found("loss_local", self.cfg.weight, found)?;
        let mass = mean(&masses).map(|mass| ("lodisc_mass", mass));
        step.report.figures.extend(mass);
        Ok(())
    }

    fn map(
        &self,
        base: &dyn Base,
        images: &Tensor,
        others: &Tensor,
        indices: &[u32],
    ) -> Result<Option<Tensor>> {
        if self.cfg.regions == Regions::Random {
            let features = base.encoder().features(images, NormMode::Eval)?;
            let region = self.at_random(&features, indices, [self.seed, 0, REGION])?;
            return Ok(Some(region.mask));
        }
        if let Some(region) = self.of_attention(base, images, NormMode::Eval)? {
            return Ok(Some(region.mask));
        }
        let (features, gradient) = base.gradient_at_pooled(images, others, indices)?;
        Ok(Some(self.of_gradient(&features, &gradient)?.mask))
    }
}

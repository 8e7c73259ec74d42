//! Local discrimination: what an image's pivotal patches alone tell is to agree with the other view.

mod config;
mod masked_keys;
mod pivotal;
mod regions;

use std::collections::{BTreeMap, HashMap};

use candle_core::{Result, Tensor};
use fgvr_nn::NormMode;

use self::masked_keys::MaskedKeys;

use crate::{Addon, AddonKind, AddonParts, AtFeatures, Base, MethodConfig};

pub use self::config::{LODISC_RECIPE, LoDiscConfig, LocalNegatives, Regions};
pub use self::pivotal::{attention_product, masked, pivotal_count, pivotal_mask, random_mask};

/// Sets these draws apart from others of the same (seed, step).
const REGION: u64 = 0x6c6f_6469_7363;

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
/// [`Base::against`] that compares views; the pass over masked images takes batch statistics where there are any and leaves no
/// trace in the running ones. For a trunk without a class token the cells of the last map are ranked by
/// Grad-CAM of the base's loss, without its ReLU, which would make a tie of all cells of the other
/// sign; a view without a query, such as MoCo v2's second, by [`Base::gradient_at_pooled`]. Among a queue of whole
/// images' keys the masked positive stands out by its grey pixels alone; with [`LocalNegatives::Masked`] the negatives are
/// masked views of earlier batches, in a queue of LoDisc's own that is as long as the base's, begins empty, is saved and
/// goes on with its images.
#[derive(Debug)]
pub struct LoDisc {
    cfg: LoDiscConfig,
    seed: u64,
    masked_keys: MaskedKeys,
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
            masked_keys: MaskedKeys::default(),
        })
    }
}

impl Addon for LoDisc {
    fn kind(&self) -> AddonKind {
        AddonKind::LODISC
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
        let (base, views, images) = (step.base, [first, second], input.images);
        let found = match (self.cfg.negatives, base.negatives()) {
            (LocalNegatives::Masked, Some(own)) => {
                let held = self.masked_keys.held(own, step.pass)?;
                let between = base.against_held(step.pass, views, images, held)?;
                self.masked_keys.wait(input.step, between.keys, images);
                between.found
            }
            (LocalNegatives::Masked, None) | (LocalNegatives::Whole, _) => {
                base.against(step.pass, views, images)?
            }
        };
        step.add_found("loss_local", self.cfg.weight, found)?;
        let mass = mean(&masses).map(|mass| ("lodisc_mass", mass));
        step.report.figures.extend(mass);
        Ok(())
    }

    fn after_step(&mut self) -> Result<()> {
        self.masked_keys.enter()
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        self.masked_keys.state()
    }

    fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        self.masked_keys.load(state)
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

fn mean(values: &[f64]) -> Option<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (!values.is_empty()).then_some(mean)
}

//! Patch match: places of one view against the places of the other view that look most like them.

mod config;
mod objective;

use candle_core::{DType, Device, Result, Tensor, bail};
use fgvr_nn::Parameters;

use crate::{Addon, AddonKind, AddonParts, AtFeatures, InfoNce, MethodConfig, ProjectionHead};

pub use self::config::PatchMatchConfig;

/// Beside the base's loss, one of places. With F and F' the last maps of two views of image n, g two 1x1
/// convolutions with a ReLU between them and L2 normalisation after them,
///
/// m(i) = argmax_j cos(F_ni, F'_nj),  q_ni = g(F_ni),  k_nj = sg g(F'_nj),
/// L = w · mean_{n,i} -log( exp(q_ni·k_nm(i)/T) / (exp(q_ni·k_nm(i)/T) + Σ_{n'≠n, j} exp(q_ni·k_n'j/T)) )
///
/// over the places of the batch, the views also the other way round where the base has two query branches
/// (then L is the mean of both). A base with one compares with the key encoder's map. After DenseCL
/// (arXiv:2011.09157), which matches places the same way.
///
/// # Differs
/// Negatives are the places of the batch's other images, without a queue. Other places of the same image
/// are none: they often show the same part.
#[derive(Debug)]
pub struct PatchMatch {
    cfg: PatchMatchConfig,
    head: ProjectionHead,
    parameters: Parameters,
}

impl PatchMatch {
    /// With these choices.
    ///
    /// # Errors
    /// A configuration out of range.
    pub fn new(cfg: &PatchMatchConfig, parts: AddonParts<'_>) -> Result<Self> {
        cfg.validate()?;
        let parameters = Parameters::new(parts.seed);
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        let hidden = cfg.hidden.unwrap_or(parts.width);
        Ok(Self {
            head: ProjectionHead::new(parts.width, hidden, cfg.dim, vb.pp("patch_match"))?,
            cfg: cfg.clone(),
            parameters,
        })
    }
}

impl Addon for PatchMatch {
    fn kind(&self) -> AddonKind {
        AddonKind::PATCH_MATCH
    }

    fn is_active(&self) -> bool {
        self.cfg.weight > 0.
    }

    fn at_features(&mut self, step: &mut AtFeatures<'_>) -> Result<()> {
        if !self.is_active() {
            return Ok(());
        }
        let (input, pass) = (step.input, step.pass);
        let draw = [input.seed, input.step];
        let maps = pass.global().map(|branch| Ok(&branch.leaves()?.map));
        let maps = maps.collect::<Result<Vec<&Tensor>>>()?;
        let found = match (maps.as_slice(), &pass.key_map) {
            ([first, second], _) => {
                let forth = self.between(first, second, input.images, draw)?;
                let both = forth.plus(self.between(second, first, input.images, draw)?)?;
                InfoNce {
                    loss: (both.loss * 0.5)?,
                    ..both
                }
            }
            ([one], Some(key)) => self.between(one, &key.to_host()?, input.images, draw)?,
            (maps, _) => bail!(
                "patch match: {} query branches and no map of keys, expected two branches or a map",
                maps.len()
            ),
        };
        step.add_loss("loss_patch_match", self.cfg.weight, &found.loss)?;
        step.report.figures.push(("patch_match_top1", found.top1));
        Ok(())
    }

    fn parameters(&self) -> Option<&Parameters> {
        Some(&self.parameters)
    }
}

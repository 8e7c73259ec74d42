//! Uniformity as an add-on of one's own: a term of the loss at the features of whatever base it stands on.

use candle_core::{Result, Tensor, bail};
use fgvr_ssl::{Addon, AddonConfig, AddonKind, AddonParts, AtFeatures, MethodConfig, l2_normalise};
use serde::{Deserialize, Serialize};

/// Its name, and its section of the settings.
pub(crate) const UNIFORMITY: AddonKind = AddonKind::new("uniformity", "uniformity");

/// Its choices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct UniformityConfig {
    /// The weight of the term.
    pub(crate) weight: f64,
    /// t: how fast a pair's part falls with its squared distance.
    pub(crate) sharpness: f64,
}

impl Default for UniformityConfig {
    fn default() -> Self {
        Self {
            weight: 0.1,
            sharpness: 2.,
        }
    }
}

impl MethodConfig for UniformityConfig {
    fn validate(&self) -> Result<()> {
        for (name, value) in [("weight", self.weight), ("sharpness", self.sharpness)] {
            if !(value >= 0. && value.is_finite()) {
                bail!("uniformity: {name} is {value}, expected a number of at least 0");
            }
        }
        Ok(())
    }
}

impl AddonConfig for UniformityConfig {
    fn kind(&self) -> AddonKind {
        UNIFORMITY
    }

    fn build(&self, _: AddonParts<'_>) -> Result<Box<dyn Addon + Send>> {
        self.validate()?;
        Ok(Box::new(Uniformity(self.clone())))
    }
}

/// Uniformity on the sphere (arXiv:2005.10242), with u = h/|h| the features of unit norm:
///
/// L = log of the mean over i and j ≠ i of exp(-t |u_i - u_j|²)
///
/// of each whole view, and the mean over views.
pub(crate) struct Uniformity(UniformityConfig);

impl Uniformity {
    fn loss(&self, pooled: &Tensor) -> Result<Tensor> {
        let unit = l2_normalise(pooled)?;
        let n = unit.dim(0)? as f64;
        // |u_i - u_j|² = 2 - 2 u_i·u_j, (N, N)
        let distance = ((unit.matmul(&unit.t()?)? * -2.)? + 2.)?;
        let sum = (distance * -self.0.sharpness)?.exp()?.sum_all()?;
        // Each with itself is exp(0).
        ((sum - n)? / (n * (n - 1.)))?.log()
    }
}

impl Addon for Uniformity {
    fn kind(&self) -> AddonKind {
        UNIFORMITY
    }

    fn is_active(&self) -> bool {
        self.0.weight > 0.
    }

    fn at_features(&mut self, step: &mut AtFeatures<'_>) -> Result<()> {
        if !self.is_active() {
            return Ok(());
        }
        let views = step.pass.global();
        let losses = views.map(|branch| self.loss(&branch.leaves()?.pooled));
        let losses = losses.collect::<Result<Vec<_>>>()?;
        let loss = Tensor::stack(&losses, 0)?.mean_all()?;
        step.add_loss("loss_uniformity", self.0.weight, &loss)
    }
}

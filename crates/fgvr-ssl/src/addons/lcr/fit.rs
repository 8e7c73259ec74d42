//! LCR's loss: the screening map A fitted to the Grad-CAM G of the base's loss, KL(softmax(G/t) ‖ softmax(A/t)).

use candle_core::{Result, Tensor, bail};
use fgvr_nn::NormMode;

use super::rationale::{divergence, target};
use super::{CommonRationale, Route};

/// A fit of the screening map to its target.
#[derive(Clone, Debug)]
pub struct RationaleFit {
    /// The divergence, a scalar on candle's autograd.
    pub loss: Tensor,
    /// A (N, h, w).
    pub rationale: Tensor,
    /// G (N, h, w).
    pub target: Tensor,
}

impl CommonRationale {
    /// Fits the screening map of a feature map (N, C, h, w) to the Grad-CAM of a loss whose gradient at
    /// the pooled features is `gradient` (N, C).
    ///
    /// # Errors
    /// Shapes that do not agree, and a map of a single place, where there is nothing to choose.
    pub fn fit(&self, map: &Tensor, gradient: &Tensor, norm: NormMode) -> Result<RationaleFit> {
        let c = &self.choices;
        let (_, _, h, w) = map.dims4()?;
        if h * w < 2 {
            bail!("lcr: the map has {h} x {w} places, expected two or more: take larger images");
        }
        let map = match c.route {
            Route::ReadOut => map.detach(),
            Route::Released | Route::ConstantTarget => map.clone(),
        };
        let rationale = self.screening.map(&map, norm)?;
        let target = match c.route {
            Route::Released => target(&map, gradient, c.sign, c.target)?,
            Route::ConstantTarget | Route::ReadOut => {
                target(&map.detach(), gradient, c.sign, c.target)?
            }
        };
        let loss = divergence(&target, &rationale, c.softmax, c.temperature, c.reduction)?;
        Ok(RationaleFit {
            loss,
            rationale: rationale.detach(),
            target: target.detach(),
        })
    }
}

//! The losses of the symmetric bases, on the host or on a device.

use candle_core::{Result, Tensor, bail};
use fgvr_nn::cuda::Array;
use fgvr_nn::cuda::ops::Rows as Shape;
use fgvr_nn::cuda::ops::cosine::{self, Compared, cosine};
use fgvr_nn::cuda::ops::info_nce::Into;

use crate::bases::head::{SHORTEST, l2_normalise};
use crate::bases::projection::Projection;
use crate::losses::contrast::{self, DeviceHeld, likelihood};
use crate::losses::found::{Back, Found, Term, TermLoss};
use crate::step::values::{narrowed, vectors, wide};
use crate::{InfoNce, Negatives, Rows, Values, info_nce};

/// One term of a symmetric base's loss, of predictions q and targets k of length one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Comparison {
    /// |q - k|^2: BYOL's.
    Distance,
    /// -q·k / 2: SimSiam's.
    HalfNegative,
    /// `factor` times InfoNCE among the keys of the batch: MoCo v3's.
    InBatch {
        /// T.
        temperature: f64,
        /// 2T in MoCo v3.
        factor: f64,
    },
}

/// -log-likelihood of its own key among the keys of a batch, and how well it is found: the reading of
/// similarity that the symmetric bases report, whether it is their loss or not. Rows are normalised.
pub(crate) fn in_batch(
    queries: &Tensor,
    keys: &Tensor,
    images: &[u32],
    temperature: f64,
) -> Result<InfoNce> {
    // A key of the query's own image, its own key too, is no negative.
    let negatives = (images.len() > 1).then_some(Negatives { keys, images });
    info_nce(queries, keys, images, negatives, temperature)
}

impl Comparison {
    /// Of predictions (N, D) and targets (N, D), neither normalised, on candle's autograd.
    ///
    /// # Errors
    /// Shapes that do not agree.
    pub fn of(self, predictions: &Tensor, targets: &Tensor, images: &[u32]) -> Result<InfoNce> {
        let (q, k) = (l2_normalise(predictions)?, l2_normalise(targets)?);
        let loss = match self {
            // Not 2 - 2 cos: a row of zeros stays zero when normalised.
            Self::Distance => (&q - &k)?.sqr()?.sum(1)?.mean_all()?,
            Self::HalfNegative => ((&q * &k)?.sum(1)?.mean_all()? * -0.5)?,
            Self::InBatch {
                temperature,
                factor,
            } => {
                let found = in_batch(&q, &k, images, temperature)?;
                let loss = (&found.loss * factor)?;
                return Ok(InfoNce { loss, ..found });
            }
        };
        let found = in_batch(&q.detach(), &k.detach(), images, 1.)?;
        Ok(InfoNce { loss, ..found })
    }

    /// [`Comparison::of`] in either place; on a device compared in f32, whatever the type of maps.
    pub(crate) fn compare(
        self,
        predicted: Projection,
        targets: &Values,
        images: &[u32],
    ) -> Result<Found> {
        match (&predicted.values, targets) {
            (Values::Host(q), Values::Host(k)) => self.of(q, k, images).map(Found::Host),
            (Values::Device(_), Values::Device(_)) => self.on_device(predicted, targets, images),
            _ => bail!("compare: predictions and targets are not in one place"),
        }
    }

    fn on_device(self, predicted: Projection, targets: &Values, images: &[u32]) -> Result<Found> {
        let (Rows::Device(keys), Rows::Device(queries)) = (targets.unit()?, predicted.unit()?)
        else {
            bail!("compare: expected predictions and targets on a device");
        };
        let (device, [n, d]) = (&keys.device, keys.shape);
        let images = device.run(|m| Array::from_u32(m, images))?;
        // A key of the query's own image, its own key too, is no negative.
        let held = DeviceHeld {
            keys: keys.array.clone(),
            images: images.clone(),
            count: n,
        };
        let loss = match self {
            Self::Distance => cosine::Loss::Distance,
            Self::HalfNegative => cosine::Loss::HalfNegative,
            Self::InBatch {
                temperature,
                factor,
            } => {
                let scales = [temperature, factor];
                return Ok(contrast::on_device(predicted, &keys, &images, &held, scales)?.0);
            }
        };
        let (Values::Device(output), Some(tape), Values::Device(targets)) =
            (predicted.values, predicted.tape, targets)
        else {
            bail!("compare: expected predictions on a tape");
        };
        let (q, k) = (wide(device, &output)?, wide(device, targets)?);
        if vectors(&output)? != [n, d] {
            bail!("compare: predictions {output:?} and targets {targets:?} differ in shape");
        }
        let (found, means) = device.run(|m| {
            let compared = Compared {
                predictions: &q,
                targets: &k,
                rows: n,
                width: d,
                shortest: SHORTEST,
            };
            let found = cosine(m, &compared, loss, 1.)?;
            // How alike they are, which is no part of the loss.
            let (into, rows) = ((1., Into::Nowhere), Shape::new(n, d));
            let compared = [&queries.array, &keys.array];
            let (alike, _) = likelihood(m, compared, &images, &held, rows, 1., into)?;
            Ok((found, alike.means))
        })?;
        let gradient = narrowed(device, &found.gradient, output.shape())?;
        let term = Term {
            means,
            loss: TermLoss::Other(found.loss),
        };
        let back = Back {
            tape,
            output,
            gradient,
            view: predicted.view,
            share: None,
        };
        Ok(Found::on_device(device, term, back))
    }
}

//! The losses of the symmetric bases on a device, and their way back.

use candle_core::Result;
use fgvr_nn::cuda::Array;
use fgvr_nn::cuda::ops::Rows;
use fgvr_nn::cuda::ops::cosine::{self, Compared, cosine};
use fgvr_nn::cuda::ops::info_nce::Into;
use fgvr_nn::cuda::ops::unit_rows::unit_rows;
use fgvr_nn::{Device, Map};

use super::contrast::{Loss, Term, likelihood};
use super::{Contrasted, Held, contrast, narrow, vectors, wide};
use crate::head::SHORTEST;

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

/// [`Objective::compare`](crate::Objective::compare) of predictions and targets (N, 1, 1, D), neither normalised, with
/// the gradient of `weight` times it at the predictions. `images` (N) of u32. Compared in f32, whatever the type of maps.
pub(crate) fn compare(
    device: &Device,
    comparison: Comparison,
    [predictions, targets]: [&Map; 2],
    images: &Array,
    weight: f64,
) -> Result<(Contrasted, Map)> {
    let [n, d] = vectors(predictions)?;
    let rows = Rows::new(n, d);
    let unit = |map: &Map| {
        let array = map.array()?;
        device.run(|m| Ok(unit_rows(m, array, rows, SHORTEST)?.rows))
    };
    let keys = unit(targets)?;
    // A key of the query's own image, its own key too, is no negative.
    let held = Held {
        keys: &keys,
        images,
        count: n,
    };
    let loss = match comparison {
        Comparison::Distance => cosine::Loss::Distance,
        Comparison::HalfNegative => cosine::Loss::HalfNegative,
        Comparison::InBatch {
            temperature,
            factor,
        } => {
            let weight = factor * weight;
            let (found, at_q) = contrast(
                device,
                predictions,
                &keys,
                images,
                held,
                temperature,
                weight,
            )?;
            return Ok((found.times(factor), at_q));
        }
    };
    let queries = unit(predictions)?;
    let (q, k) = (wide(device, predictions)?, wide(device, targets)?);
    let (found, means) = device.run(|m| {
        let compared = Compared {
            predictions: &q,
            targets: &k,
            rows: n,
            width: d,
            shortest: SHORTEST,
        };
        let found = cosine(m, &compared, loss, weight as f32)?;
        // How alike they are, which is no part of the loss.
        let into = (1., Into::Nowhere);
        let (alike, _) = likelihood(m, [&queries, &keys], images, held, rows, 1., into)?;
        Ok((found, alike.means))
    })?;
    let at_q = narrow(device, &found.gradient, [n, d])?;
    let found = Contrasted {
        terms: vec![Term {
            means,
            loss: Loss::Other(found.loss),
        }],
        queries,
        keys,
    };
    Ok((found, at_q))
}

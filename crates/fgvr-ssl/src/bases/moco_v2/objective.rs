//! MoCo v2 as the paper has it: queries of one view, keys of the other, and the queue as negatives.

use candle_core::Result;
use fgvr_nn::{Encoder, NormMode};

use super::MoCoV2;
use crate::bases::projection::Projection;
use crate::losses::contrast::contrast;
use crate::step::values::features;
use crate::{Branch, Pass, Rows, RunningStatistics, Shuffle, Values};

/// What the key network makes of images, in their order, without a way back.
pub(super) struct KeyFeatures {
    map: Values,
    pooled: Values,
    /// (N, D), of length one.
    pub(super) keys: Rows,
}

/// Which shuffle of a step.
#[derive(Clone, Copy)]
pub(super) enum Keys {
    Real = 0,
    Generated = 1,
    Other = 2,
}

impl<E: Encoder> MoCoV2<E> {
    /// k = p_m(f_m(x)), of sub-batches of a shuffled batch.
    pub(super) fn keys(&self, images: &Values, which: Keys) -> Result<KeyFeatures> {
        let n = images.len()?;
        let norm = NormMode::Split {
            groups: self.groups(n),
            update: matches!(which, Keys::Real)
                && self.cfg.running_statistics == RunningStatistics::Own,
        };
        let shuffle = Shuffle::new(n, [self.cfg.seed, self.step, which as u64, 0])?;
        let shuffled = images.reordered(shuffle.order())?;
        let (map, pooled) = features(&self.key.encoder, &shuffled, norm)?;
        let order = shuffle.inverse();
        let pooled = pooled.reordered(&order)?;
        let keys = self.key_head.project(Projection::constant(&pooled)?)?;
        Ok(KeyFeatures {
            map: map.reordered(&order)?,
            keys: keys.unit()?,
            pooled,
        })
    }

    /// The largest number of equal sub-batches, of two images or more each, up to the configured one.
    fn groups(&self, n: usize) -> usize {
        (1..=self.cfg.groups.min(n / 2))
            .rev()
            .find(|groups| n.is_multiple_of(*groups))
            .unwrap_or(1)
    }

    /// q = p(f(x1)) and k⁺ of x2: L = -log exp(q·k⁺/T) / (exp(q·k⁺/T) + Σ_n exp(q·n/T)), n over the queue.
    pub(super) fn pass(
        &self,
        [first, second]: [&Values; 2],
        images: &[u32],
        which: Keys,
    ) -> Result<Pass> {
        let (norm, queue) = match which {
            Keys::Real => (NormMode::Train, &self.queue),
            Keys::Generated => (NormMode::NoUpdate, &self.pair_queue),
            Keys::Other => (NormMode::NoUpdate, &self.queue),
        };
        let branch = Branch::forward(&self.online.encoder, first, norm, 0)?;
        let query = self.head.project(Projection::of(&branch)?)?;
        let key = self.keys(second, which)?;
        let held = queue.held(first.device())?;
        let (found, query) = contrast(query, &key.keys, images, &held, self.cfg.temperature)?;
        Ok(Pass {
            branches: vec![branch],
            found,
            query,
            keys: key.keys,
            key_pooled: key.pooled.rows()?,
            key_map: Some(key.map),
        })
    }
}

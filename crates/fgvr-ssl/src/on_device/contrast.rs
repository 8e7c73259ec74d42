//! InfoNCE of projections and keys on a device, and its way back.

use candle_core::Result;
use fgvr_nn::cuda::ops::Rows;
use fgvr_nn::cuda::ops::info_nce::{Contrast, Into, Positive, info_nce};
use fgvr_nn::cuda::ops::queue::Queue;
use fgvr_nn::cuda::ops::unit_rows::{row_products, unit_rows};
use fgvr_nn::cuda::{Array, DType, Product};
use fgvr_nn::{Device, Map};

use super::vectors;

use crate::head::SHORTEST;

/// What [`contrast`] found; [`InfoNce`](crate::InfoNce) has the same on the CPU.
#[derive(Clone)]
pub(crate) struct Contrasted {
    /// Means of loss, hits, positives and negatives (4).
    means: Array,
    /// Queries (N, D) of length one, f32.
    pub(crate) queries: Array,
    /// Keys likewise.
    pub(crate) keys: Array,
}

/// The numbers of a contrast.
pub(crate) struct Numbers {
    pub(crate) loss: f64,
    pub(crate) top1: f64,
    pub(crate) positive: f64,
    pub(crate) negative: Option<f64>,
}

impl Contrasted {
    /// What was found, once it is there.
    pub(crate) fn numbers(&self, device: &Device) -> Result<Numbers> {
        let means = device.values(&self.means)?;
        let of = |i: usize| f64::from(means[i]);
        Ok(Numbers {
            loss: of(0),
            top1: of(1),
            positive: of(2),
            // No number where there is no negative.
            negative: Some(of(3)).filter(|mean| !mean.is_nan()),
        })
    }
}

/// [`crate::info_nce()`] of projections `z` (N, 1, 1, D), which are normalised first, against their keys (N, D), of length
/// one, and those in the queue; with the gradient of `weight` times the loss at `z`. `images` (N) of u32.
pub(crate) fn contrast(
    device: &Device,
    z: &Map,
    keys: &Array,
    images: &Array,
    queue: &Queue,
    temperature: f64,
    weight: f64,
) -> Result<(Contrasted, Map)> {
    let [n, d] = vectors(z)?;
    let (rows, columns) = (Rows::new(n, d), queue.len());
    let array = z.array()?;
    let (found, at_z) = device.run(|m| {
        let queries = unit_rows(m, array, rows, SHORTEST)?;
        let positive = row_products(m, &queries.rows, keys, rows)?;
        let (held, held_images) = (queue.keys()?, queue.images()?);
        let similarity = Array::new(m, DType::F32, n * columns)?;
        if columns > 0 {
            // (N, D) x (K, D)T -> (N, K)
            let to_similarity = Product {
                m: n,
                n: columns,
                k: d,
                a_transposed: false,
                b_transposed: true,
            };
            m.multiply(&to_similarity, [&queries.rows, &held, &similarity], false)?;
        }
        let contrast = Contrast {
            similarity: &similarity,
            rows: n,
            columns,
            positive: Positive::Beside(&positive),
            own: None,
            images: Some([images, &held_images]),
            temperature,
        };
        let found = info_nce(m, &contrast, weight as f32, Into::Place)?;
        let of_rows = match &found.of_similarity {
            Some(of_similarity) if columns > 0 => {
                let of_rows = Array::new(m, DType::F32, n * d)?;
                // (N, K) x (K, D) -> (N, D)
                let to_queries = Product {
                    m: n,
                    n: d,
                    k: columns,
                    a_transposed: false,
                    b_transposed: false,
                };
                m.multiply(&to_queries, [of_similarity, &held, &of_rows], false)?;
                Some(of_rows)
            }
            _ => None,
        };
        let shares = found.of_positive.as_ref().unwrap_or(&positive);
        let at_z = queries.gradient(m, of_rows.as_ref(), [shares, keys])?;
        let found = Contrasted {
            means: found.means,
            queries: queries.rows,
            keys: keys.clone(),
        };
        Ok((found, at_z))
    })?;
    Ok((found, Map::new(device, z.shape(), at_z)?))
}

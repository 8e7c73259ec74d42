//! InfoNCE of projections and keys on a device, and its way back.

use candle_core::Result;
use fgvr_nn::cuda::ops::Rows;
use fgvr_nn::cuda::ops::info_nce::{self, Into, Positive};
use fgvr_nn::cuda::ops::unit_rows::{row_products, unit_rows};
use fgvr_nn::cuda::{self, Array, DType, Machine, Product};
use fgvr_nn::{Device, Map};

use super::vectors;

use crate::head::SHORTEST;

/// What [`contrast`] found; [`InfoNce`](crate::InfoNce) has the same on the CPU.
#[derive(Clone)]
pub(crate) struct Contrasted {
    /// One for each term of the loss.
    pub(super) terms: Vec<Term>,
    /// Queries (N, D) of length one, f32.
    pub(crate) queries: Array,
    /// Keys likewise.
    pub(crate) keys: Array,
}

/// A term of the loss.
#[derive(Clone)]
pub(super) struct Term {
    /// Means of -log-likelihood, hits, positives and negatives (4).
    pub(super) means: Array,
    pub(super) loss: Loss,
}

/// What the loss is.
#[derive(Clone)]
pub(super) enum Loss {
    /// So many times the -log-likelihood.
    Times(f64),
    /// Another one (1).
    Other(Array),
}

/// The numbers of a contrast.
pub(crate) struct Numbers {
    pub(crate) loss: f64,
    pub(crate) top1: f64,
    pub(crate) positive: f64,
    pub(crate) negative: Option<f64>,
}

/// Keys (K, D) of length one that stand as negatives, and their images (K) of u32: those of a query's own image do not.
#[derive(Clone, Copy)]
pub(crate) struct Held<'a> {
    pub(crate) keys: &'a Array,
    pub(crate) images: &'a Array,
    /// K
    pub(crate) count: usize,
}

impl Term {
    fn numbers(&self, device: &Device) -> Result<Numbers> {
        let means = device.values(&self.means)?;
        let of = |i: usize| f64::from(means[i]);
        Ok(Numbers {
            loss: match &self.loss {
                Loss::Times(factor) => factor * of(0),
                Loss::Other(loss) => f64::from(device.values(loss)?[0]),
            },
            top1: of(1),
            positive: of(2),
            // No number where there is no negative.
            negative: Some(of(3)).filter(|mean| !mean.is_nan()),
        })
    }
}

impl Contrasted {
    /// The sum of two losses, of these queries; the keys of this one.
    pub(crate) fn plus(mut self, other: Self, queries: Array) -> Self {
        self.terms.extend(other.terms);
        Self { queries, ..self }
    }

    /// With a loss that is `factor` times as large.
    pub(super) fn times(mut self, factor: f64) -> Self {
        for term in &mut self.terms {
            if let Loss::Times(before) = &mut term.loss {
                *before *= factor;
            }
        }
        self
    }

    /// What was found, once it is there: the sum of the terms' losses, and the means of the rest.
    pub(crate) fn numbers(&self, device: &Device) -> Result<Numbers> {
        let terms = self.terms.iter().map(|term| term.numbers(device));
        let terms = terms.collect::<Result<Vec<_>>>()?;
        let count = terms.len() as f64;
        let mean = |of: fn(&Numbers) -> f64| terms.iter().map(of).sum::<f64>() / count;
        let negatives = terms.iter().map(|term| term.negative);
        let negatives = negatives.sum::<Option<f64>>();
        Ok(Numbers {
            loss: terms.iter().map(|term| term.loss).sum(),
            top1: mean(|term| term.top1),
            positive: mean(|term| term.positive),
            negative: negatives.map(|sum| sum / count),
        })
    }
}

/// InfoNCE of queries and their keys (N, D) of length one, and those held.
pub(super) fn likelihood(
    m: &dyn Machine,
    [queries, keys]: [&Array; 2],
    images: &Array,
    held: Held<'_>,
    rows: Rows,
    temperature: f64,
    (weight, into): (f64, Into),
) -> cuda::Result<(info_nce::Found, Array)> {
    let (n, d, columns) = (rows.rows, rows.channels, held.count);
    let positive = row_products(m, queries, keys, rows)?;
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
        m.multiply(&to_similarity, [queries, held.keys, &similarity], false)?;
    }
    let contrast = info_nce::Contrast {
        similarity: &similarity,
        rows: n,
        columns,
        positive: Positive::Beside(&positive),
        own: None,
        images: Some([images, held.images]),
        temperature,
    };
    let found = info_nce::info_nce(m, &contrast, weight as f32, into)?;
    Ok((found, positive))
}

/// [`crate::info_nce()`] of projections `z` (N, 1, 1, D), which are normalised first, against their keys (N, D), of length
/// one, and those held; with the gradient of `weight` times the loss at `z`. `images` (N) of u32.
pub(crate) fn contrast(
    device: &Device,
    z: &Map,
    keys: &Array,
    images: &Array,
    held: Held<'_>,
    temperature: f64,
    weight: f64,
) -> Result<(Contrasted, Map)> {
    let [n, d] = vectors(z)?;
    let (rows, columns) = (Rows::new(n, d), held.count);
    let array = z.array()?;
    let (found, at_z) = device.run(|m| {
        let queries = unit_rows(m, array, rows, SHORTEST)?;
        let compared = [&queries.rows, keys];
        let into = (weight, Into::Place);
        let (found, positive) = likelihood(m, compared, images, held, rows, temperature, into)?;
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
                m.multiply(&to_queries, [of_similarity, held.keys, &of_rows], false)?;
                Some(of_rows)
            }
            _ => None,
        };
        let shares = found.of_positive.as_ref().unwrap_or(&positive);
        let at_z = queries.gradient(m, of_rows.as_ref(), [shares, keys])?;
        let found = Contrasted {
            terms: vec![Term {
                means: found.means,
                loss: Loss::Times(1.),
            }],
            queries: queries.rows,
            keys: keys.clone(),
        };
        Ok((found, at_z))
    })?;
    Ok((found, Map::new(device, z.shape(), at_z)?))
}

//! InfoNCE of projections against their keys and those held, on the host or on a device.

use candle_core::{Result, Tensor, bail};
use fgvr_nn::Activation;
use fgvr_nn::cuda::ops::Rows as Shape;
use fgvr_nn::cuda::ops::info_nce::{self as kernel, Into, Positive};
use fgvr_nn::cuda::ops::unit_rows::{row_products, unit_rows};
use fgvr_nn::cuda::{self, Array, DType, Machine, Product};

use crate::bases::head::{SHORTEST, l2_normalise};
use crate::bases::projection::Projection;
use crate::losses::found::{Back, Found, Term, TermLoss};
use crate::step::values::{DeviceRows, vectors};
use crate::{Negatives, Rows, Values, info_nce};

/// Keys of length one that stand as negatives, and their images: those of a query's own image do not.
pub(crate) enum Held<'a> {
    /// None while there are none.
    Host(Option<(Tensor, &'a [u32])>),
    Device(DeviceHeld),
}

/// [`Held`] on a device.
pub(crate) struct DeviceHeld {
    /// (K, D)
    pub(crate) keys: Array,
    /// (K) of u32
    pub(crate) images: Array,
    /// K
    pub(crate) count: usize,
}

/// [`crate::info_nce()`] of projections (N, D), which are normalised first, against their keys, of length one, and those
/// held; and the normalised projections.
pub(crate) fn contrast(
    projected: Projection,
    keys: &Rows,
    images: &[u32],
    held: &Held<'_>,
    temperature: f64,
) -> Result<(Found, Rows)> {
    match (&projected.values, keys, held) {
        (Values::Host(z), Rows::Host(keys), Held::Host(held)) => {
            let queries = l2_normalise(z)?;
            let negatives = (held.as_ref()).map(|(keys, images)| Negatives { keys, images });
            let found = info_nce(&queries, keys, images, negatives, temperature)?;
            Ok((Found::Host(found), Rows::Host(queries.detach())))
        }
        (Values::Device(_), Rows::Device(keys), Held::Device(held)) => {
            let device = &keys.device;
            let images = device.run(|m| Array::from_u32(m, images))?;
            on_device(projected, keys, &images, held, [temperature, 1.])
        }
        _ => bail!("contrast: queries, keys and those held are not in one place"),
    }
}

/// [`contrast`] on a device, of `factor` times the loss; `images` are those of the queries, (N) of u32.
pub(crate) fn on_device(
    projected: Projection,
    keys: &DeviceRows,
    images: &Array,
    held: &DeviceHeld,
    [temperature, factor]: [f64; 2],
) -> Result<(Found, Rows)> {
    let Projection {
        values: Values::Device(z),
        tape: Some(tape),
        view,
    } = projected
    else {
        bail!("contrast: expected queries on a device");
    };
    let (device, [n, d], columns) = (&keys.device, vectors(&z)?, held.count);
    let (array, keys) = (z.array()?, &keys.array);
    let rows = Shape::new(n, d);
    let (queries, means, at_z) = device.run(|m| {
        let queries = unit_rows(m, array, rows, SHORTEST)?;
        let into = (factor, Into::Place);
        let compared = [&queries.rows, keys];
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
                m.multiply(&to_queries, [of_similarity, &held.keys, &of_rows], false)?;
                Some(of_rows)
            }
            _ => None,
        };
        let shares = found.of_positive.as_ref().unwrap_or(&positive);
        let at_z = queries.gradient(m, of_rows.as_ref(), [shares, keys])?;
        Ok((queries.rows, found.means, at_z))
    })?;
    let term = Term {
        means,
        loss: TermLoss::Times(factor),
    };
    let back = Back {
        tape,
        gradient: Activation::new(device, z.shape(), at_z)?,
        output: z,
        view,
        share: None,
    };
    let queries = Rows::on(device, queries, [n, d]);
    Ok((Found::on_device(device, term, back), queries))
}

/// InfoNCE of queries and their keys (N, D) of length one, and those held.
pub(crate) fn likelihood(
    m: &dyn Machine,
    [queries, keys]: [&Array; 2],
    images: &Array,
    held: &DeviceHeld,
    rows: Shape,
    temperature: f64,
    (weight, into): (f64, Into),
) -> cuda::Result<(kernel::Found, Array)> {
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
        m.multiply(&to_similarity, [queries, &held.keys, &similarity], false)?;
    }
    let contrast = kernel::Contrast {
        similarity: &similarity,
        rows: n,
        columns,
        positive: Positive::Beside(&positive),
        own: None,
        images: Some([images, &held.images]),
        temperature,
    };
    let found = kernel::info_nce(m, &contrast, weight as f32, into)?;
    Ok((found, positive))
}

//! How embeddings lie on the unit sphere.

use candle_core::Tensor;

use crate::Error;
use crate::embeddings::Rows;
use crate::ranking::for_each_query;

pub(crate) const STD: &str = "embedding_std";
pub(crate) const ALIGNMENT: &str = "alignment";
pub(crate) const UNIFORMITY: &str = "uniformity";

/// Mean over dimensions of the standard deviation of L2-normalised embeddings (N, D): 0 for a collapse,
/// about `1/sqrt(D)` for an even spread about the origin (arXiv:2011.10566, section 4.1).
///
/// # Errors
/// A tensor that is not (N, D), empty ones, and values that are not finite.
pub fn embedding_std(embeddings: &Tensor) -> Result<f64, Error> {
    Ok(std_of_rows(Rows::of(STD, "embeddings", embeddings)?))
}

pub(crate) fn std_of_rows(mut rows: Rows) -> f64 {
    rows.l2_normalise();
    let (_, variance) = rows.moments();
    variance.iter().map(|v| v.sqrt()).sum::<f64>() / rows.d as f64
}

/// Mean of `|x_i - y_i|^alpha` over L2-normalised embeddings (N, D) of two views of the same images; 0 is
/// the best. Wang and Isola (arXiv:2005.10242), who use alpha = 2.
///
/// # Errors
/// Shapes that differ, an alpha that is not above 0, and what [`embedding_std`] refuses.
pub fn alignment(x: &Tensor, y: &Tensor, alpha: f64) -> Result<f64, Error> {
    let x = Rows::of(ALIGNMENT, "x", x)?;
    alignment_of_rows(x, Rows::of(ALIGNMENT, "y", y)?, alpha)
}

pub(crate) fn alignment_of_rows(mut a: Rows, mut b: Rows, alpha: f64) -> Result<f64, Error> {
    positive(ALIGNMENT, "alpha", alpha)?;
    if (a.n, a.d) != (b.n, b.d) {
        return Err(b.unexpected(ALIGNMENT, "y", format!("({}, {})", a.n, a.d)));
    }
    a.l2_normalise();
    b.l2_normalise();
    let distances = (0..a.n).map(|i| {
        let pairs = a.row(i).iter().zip(b.row(i));
        pairs
            .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
            .sum::<f64>()
            .powf(alpha / 2.)
    });
    Ok(distances.sum::<f64>() / a.n as f64)
}

/// Logarithm of the mean over pairs `i < j` of `exp(-t |x_i - x_j|^2)`, of L2-normalised embeddings
/// (N, D); lower is more even, 0 is a collapse. Wang and Isola (arXiv:2005.10242), who use t = 2.
///
/// # Errors
/// Fewer than two embeddings, a t that is not above 0, and what [`embedding_std`] refuses.
pub fn uniformity(embeddings: &Tensor, t: f64) -> Result<f64, Error> {
    uniformity_of_rows(Rows::of(UNIFORMITY, "embeddings", embeddings)?, t)
}

pub(crate) fn uniformity_of_rows(mut rows: Rows, t: f64) -> Result<f64, Error> {
    positive(UNIFORMITY, "t", t)?;
    if rows.n < 2 {
        return Err(rows.unexpected(UNIFORMITY, "embeddings", "at least two rows"));
    }
    rows.l2_normalise();
    let squares: Vec<f64> = (0..rows.n)
        .map(|i| rows.row(i).iter().map(|v| f64::from(*v).powi(2)).sum())
        .collect();
    let sums = for_each_query(&rows, &rows, |i, products| {
        let later = products[i + 1..].iter().zip(&squares[i + 1..]);
        later
            .map(|(product, square)| {
                let distance = (squares[i] + square - 2. * f64::from(*product)).max(0.);
                (-t * distance).exp()
            })
            .sum::<f64>()
    });
    let pairs = rows.n as f64 * (rows.n - 1) as f64 / 2.;
    Ok((sums.iter().sum::<f64>() / pairs).ln())
}

fn positive(op: &'static str, field: &'static str, value: f64) -> Result<(), Error> {
    if value.is_finite() && value > 0. {
        return Ok(());
    }
    Err(Error::Config {
        op,
        field,
        value: value.to_string(),
        expected: "a value above 0",
    })
}

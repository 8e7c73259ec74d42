//! How embeddings lie on the unit sphere.

use candle_core::Tensor;

use crate::Error;
use crate::embeddings::{Rows, shape};
use crate::ranking::for_each_query;

/// Mean over dimensions of the standard deviation of L2-normalised embeddings (N, D): 0 for a collapse,
/// about `1/sqrt(D)` for an even spread about the origin (arXiv:2011.10566, section 4.1).
///
/// # Errors
/// A tensor that is not (N, D), empty ones, and values that are not finite.
pub fn embedding_std(embeddings: &Tensor) -> Result<f64, Error> {
    let rows = normalised("embedding_std", "embeddings", embeddings)?;
    let (_, variance) = rows.moments();
    Ok(variance.iter().map(|v| v.sqrt()).sum::<f64>() / rows.d as f64)
}

/// Mean of `|x_i - y_i|^alpha` over L2-normalised embeddings (N, D) of two views of the same images; 0 is
/// the best. Wang and Isola (arXiv:2005.10242), who use alpha = 2.
///
/// # Errors
/// Shapes that differ, an alpha that is not above 0, and what [`embedding_std`] refuses.
pub fn alignment(x: &Tensor, y: &Tensor, alpha: f64) -> Result<f64, Error> {
    const OP: &str = "alignment";
    positive(OP, "alpha", alpha)?;
    let (a, b) = (normalised(OP, "x", x)?, normalised(OP, "y", y)?);
    if (a.n, a.d) != (b.n, b.d) {
        return Err(shape(OP, "y", y, format!("({}, {})", a.n, a.d)));
    }
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
    const OP: &str = "uniformity";
    positive(OP, "t", t)?;
    let rows = normalised(OP, "embeddings", embeddings)?;
    if rows.n < 2 {
        return Err(shape(OP, "embeddings", embeddings, "at least two rows"));
    }
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
    })?;
    let pairs = rows.n as f64 * (rows.n - 1) as f64 / 2.;
    Ok((sums.iter().sum::<f64>() / pairs).ln())
}

fn normalised(op: &'static str, name: &'static str, tensor: &Tensor) -> Result<Rows, Error> {
    let mut rows = Rows::of(op, name, tensor)?;
    rows.l2_normalise();
    Ok(rows)
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

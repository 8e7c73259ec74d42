//! Grad-CAM over places.

use crate::Error;
use crate::real::Real;

/// Which places a map shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Sign {
    /// Places whose activation raises the quantity whose gradient was given.
    #[default]
    RaisesLoss,
    /// Places whose activation lowers it: for a loss, the evidence for the right answer.
    LowersLoss,
}

/// Grad-CAM (N, h, w) of a map and a gradient of the shape (N, C, h, w); lengths are the caller's care. Sums are f64,
/// places in their order and then channels in theirs.
pub(crate) fn of_values<T: Real>(
    map: &[T],
    grad: &[T],
    shape: [usize; 4],
    sign: Sign,
) -> Result<Vec<T>, Error> {
    let [n, c, h, w] = shape;
    if shape.contains(&0) {
        return Err(Error::Empty {
            op: "grad_cam",
            name: "map",
            shape: shape.to_vec(),
        });
    }
    let places = h * w;
    let sign = match sign {
        Sign::RaisesLoss => 1.,
        Sign::LowersLoss => -1.,
    };
    let mut out = Vec::with_capacity(n * places);
    let images = map
        .chunks_exact(c * places)
        .zip(grad.chunks_exact(c * places));
    for (map, grad) in images {
        let mut sum = vec![0f64; places];
        let channels = map.chunks_exact(places).zip(grad.chunks_exact(places));
        for (channel, grad) in channels {
            let total: f64 = grad.iter().map(|g| g.wide()).sum();
            let weight = sign * total / places as f64;
            for (sum, value) in sum.iter_mut().zip(channel) {
                *sum += weight * value.wide();
            }
        }
        out.extend(sum.into_iter().map(|v| T::of_wide(v.rectified())));
    }
    Ok(out)
}

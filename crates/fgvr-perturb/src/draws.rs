//! What [`perturb`](crate::perturb()) and the random mask draw, for whoever does the rest elsewhere.

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use crate::key::Purpose;
use crate::{Error, RandomKey};

/// The normals that perturb each channel of each image, (N, C) row by row, before any least change.
#[must_use]
pub fn normals(key: RandomKey, images: &[u32], channels: usize) -> Vec<f64> {
    let draw = |image: &u32| {
        let mut rng = key.rng(*image, Purpose::Gaussian);
        (0..channels).map(move |_| StandardNormal.sample(&mut rng))
    };
    images.iter().flat_map(draw).collect()
}

/// For each row of a batch, the row whose entries replace its own: drawn among the rows of other images in the order
/// of their indices, so that the batch's order does not matter.
///
/// # Errors
/// A batch of one image alone.
pub fn partners(key: RandomKey, images: &[u32]) -> Result<Vec<usize>, Error> {
    (0..images.len())
        .map(|at| partner(at, images, key))
        .collect()
}

fn partner(at: usize, images: &[u32], key: RandomKey) -> Result<usize, Error> {
    let mut others: Vec<usize> = (0..images.len())
        .filter(|i| images[*i] != images[at])
        .collect();
    others.sort_by_key(|i| images[*i]);
    if others.is_empty() {
        return Err(Error::OneImage { rows: images.len() });
    }
    let mut rng = key.rng(images[at], Purpose::Swap);
    Ok(others[rng.random_range(0..others.len() as u64) as usize])
}

/// For each image a shuffle of all channels, (N, C) row by row: a random mask takes the first ones.
#[must_use]
pub fn orders(key: RandomKey, images: &[u32], channels: usize) -> Vec<u32> {
    let shuffle = |image: &u32| order(key, *image, channels, channels);
    let wide = images.iter().flat_map(shuffle);
    wide.map(|channel| channel as u32).collect()
}

/// The channels, of which the first `settled` are in the order of the shuffle: the first steps of Fisher-Yates.
pub(crate) fn order(key: RandomKey, image: u32, channels: usize, settled: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..channels).collect();
    let mut rng = key.rng(image, Purpose::RandomMask);
    for at in 0..settled {
        order.swap(at, rng.random_range(at as u64..channels as u64) as usize);
    }
    order
}

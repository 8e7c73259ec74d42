//! What a step of a residual head looks at.

use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::CachedViews;

/// Images of a step, two different views, and the image that the second view is of.
pub(super) struct Drawn {
    pub(super) images: Vec<u32>,
    /// Rows of the cached views (N V, C).
    pub(super) first: Vec<u32>,
    pub(super) second: Vec<u32>,
    /// Another view of the images themselves.
    pub(super) own: Vec<u32>,
    /// Whose second view it is.
    pub(super) others: Vec<u32>,
}

/// The mutual neighbours of each image, ascending.
pub(super) fn neighbours_of(pairs: &[(u32, u32)], images: usize) -> Vec<Vec<u32>> {
    let mut of = vec![Vec::new(); images];
    for (a, b) in pairs {
        of[*a as usize].push(*b);
        of[*b as usize].push(*a);
    }
    of.iter_mut().for_each(|list| list.sort_unstable());
    of
}

impl Drawn {
    /// Step number `step`: `batch` images without one twice, by (seed, step) alone.
    pub(super) fn new(
        cached: &CachedViews<'_>,
        neighbours: &[Vec<u32>],
        (batch, share): (usize, f64),
        (seed, step): (u64, u64),
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // A stream for each step.
        rng.set_stream(step);
        let views = cached.views as u32;
        let mut images: Vec<u32> = (0..cached.images() as u32).collect();
        let (chosen, _) = images.partial_shuffle(&mut rng, batch);
        let images = chosen.to_vec();
        let mut drawn = Self {
            first: Vec::with_capacity(batch),
            second: Vec::with_capacity(batch),
            own: Vec::with_capacity(batch),
            others: Vec::with_capacity(batch),
            images,
        };
        for image in &drawn.images {
            let first = rng.random_range(0..views);
            let second = (first + rng.random_range(1..views)) % views;
            let near = &neighbours[*image as usize];
            let is_neighbour = rng.random::<f64>() < share;
            let other = match near.len() {
                0 => *image,
                // Drawn in any case, so that what follows does not depend on the share.
                n => match (is_neighbour, rng.random_range(0..n)) {
                    (true, at) => near[at],
                    (false, _) => *image,
                },
            };
            drawn.first.push(image * views + first);
            drawn.second.push(other * views + second);
            drawn.own.push(image * views + second);
            drawn.others.push(other);
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_each_image_once_two_views_and_neighbours_by_their_share() {
        let values = vec![0.; 40 * 3];
        let cached = CachedViews {
            width: 1,
            views: 3,
            values: &values,
            pairs: &[(0, 1), (1, 5)],
        };
        let near = neighbours_of(cached.pairs, 40);
        assert_eq!(near[1], [0, 5]);
        let drawn = |share, step| Drawn::new(&cached, &near, (30, share), (7, step));
        let (without, with) = (drawn(0., 4), drawn(1., 4));
        assert_eq!(without.images, with.images);
        assert_ne!(without.images, drawn(0., 5).images);
        let mut images = with.images.clone();
        images.sort_unstable();
        images.dedup();
        assert_eq!(images.len(), 30);
        for (at, image) in with.images.iter().enumerate() {
            assert_eq!(without.others[at], *image);
            let has = !near[*image as usize].is_empty();
            assert_eq!(with.others[at] != *image, has, "{image}");
            assert_eq!(with.second[at] / 3, with.others[at]);
            assert_eq!([with.first[at] / 3, with.own[at] / 3], [*image; 2]);
            assert_ne!(with.first[at], with.own[at]);
        }
    }
}

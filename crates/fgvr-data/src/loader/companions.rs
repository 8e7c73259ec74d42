//! Which images are taken for the second views of others.

use std::sync::Arc;

use super::Companions;
use crate::Error;
use crate::keyed::{Stream, below, generator, happens, shuffle};

/// Companions from pairs of images that may stand in for each other: with probability `share` the second view of an image
/// is of one of those it is paired with, each equally likely; otherwise, and where it is in no pair, of itself. Drawn by
/// (`seed`, epoch, index).
///
/// # Errors
/// A share outside [0, 1], and a pair of images that are not among the `images` of the set.
pub fn companions_of(
    pairs: &[(u32, u32)],
    images: usize,
    share: f64,
    seed: u64,
) -> Result<Companions, Error> {
    if !(0. ..=1.).contains(&share) {
        return Err(Error::Setting {
            setting: "share",
            found: share.to_string(),
            expected: "a number in [0, 1]".to_owned(),
        });
    }
    let mut others: Vec<Vec<usize>> = vec![Vec::new(); images];
    for (a, b) in pairs {
        for (one, other) in [(*a as usize, *b as usize), (*b as usize, *a as usize)] {
            match others.get_mut(one) {
                Some(others) if other < images => others.push(other),
                _ => {
                    return Err(Error::IndexOutOfRange {
                        set: format!("the pair ({a}, {b})"),
                        index: one.max(other),
                        len: images,
                    });
                }
            }
        }
    }
    Ok(Arc::new(move |epoch, index| {
        let others = &others[index];
        let mut rng = generator([seed, epoch, index as u64, 0], Stream::Companion);
        match happens(&mut rng, share) && !others.is_empty() {
            true => others[below(&mut rng, others.len())],
            false => index,
        }
    }))
}

/// The same pairs of other images: a random order of all `images` is drawn by `seed`, and each image takes the place of one. A
/// control of what the choice of pairs does, with as many pairs that hang together alike.
#[must_use]
pub fn shuffled_pairs(pairs: &[(u32, u32)], images: usize, seed: u64) -> Vec<(u32, u32)> {
    let mut order: Vec<u32> = (0u32..).take(images).collect();
    shuffle(
        &mut generator([seed, 0, 0, 1], Stream::Companion),
        &mut order,
    );
    let at = |index: u32| order.get(index as usize).copied().unwrap_or(index);
    let mut shuffled: Vec<(u32, u32)> = (pairs.iter())
        .map(|(a, b)| (at(*a).min(at(*b)), at(*a).max(at(*b))))
        .collect();
    shuffled.sort_unstable();
    shuffled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_second_views_is_of_a_partner_and_each_partner_comes() {
        let pairs = [(0, 1), (0, 2), (2, 3)];
        let of = |share: f64| companions_of(&pairs, 5, share, 7).unwrap();
        let (half, always, never) = (of(0.5), of(1.), of(0.));
        let mut found = [0; 5];
        for epoch in 0..1000 {
            assert_eq!([always(epoch, 1), always(epoch, 4)], [0, 4]);
            assert_eq!(never(epoch, 0), 0);
            assert_eq!(half(epoch, 0), half(epoch, 0));
            found[half(epoch, 0)] += 1;
        }
        assert!((450..550).contains(&found[0]), "{found:?}");
        assert!(
            found[1] > 200 && found[2] > 200 && found[3] + found[4] == 0,
            "{found:?}"
        );
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let said = |pairs: &[(u32, u32)], share| {
            let error = companions_of(pairs, 5, share, 0).map(drop).unwrap_err();
            error.to_string()
        };
        assert!(said(&[(0, 5)], 1.).contains("(0, 5)"));
        assert!(said(&[], 1.5).contains("share"));
    }

    #[test]
    fn shuffled_pairs_hang_together_alike() {
        let pairs: Vec<(u32, u32)> = (0..40).map(|i| (i, 40 + i % 7)).collect();
        let shuffled = shuffled_pairs(&pairs, 100, 3);
        assert_eq!(shuffled, shuffled_pairs(&pairs, 100, 3));
        assert_ne!(shuffled, shuffled_pairs(&pairs, 100, 4));
        let degrees = |pairs: &[(u32, u32)]| {
            let mut degrees = vec![0; 100];
            pairs.iter().for_each(|(a, b)| {
                degrees[*a as usize] += 1;
                degrees[*b as usize] += 1;
            });
            degrees.sort_unstable();
            degrees
        };
        assert_eq!(degrees(&pairs), degrees(&shuffled));
        assert!(shuffled.iter().filter(|pair| pairs.contains(pair)).count() < 5);
    }
}

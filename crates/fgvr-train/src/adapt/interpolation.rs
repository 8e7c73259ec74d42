//! How far to go from a start to what was trained from it.

use serde::Serialize;

use super::Features;
use super::train::knn_of_held_out;
use crate::against_start::ComparedBy;
use crate::{AdaptOptions, Result};

/// Weights between the start and the trained network, and what they were compared by.
#[derive(Clone, Debug, Serialize)]
pub struct Interpolation {
    /// The share of the trained network in the weights that were chosen; 1 is the trained network itself.
    pub share: f64,
    /// By what, on photos that nothing was trained on or fitted to.
    pub by: ComparedBy,
    /// Each share with its figure, from the smallest to 1.
    pub tried: Vec<Tried>,
}

/// What weights of one share came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Tried {
    /// The share of the trained network.
    pub share: f64,
    /// A fraction in [0, 1].
    pub figure: f64,
}

impl Interpolation {
    /// In words, for people: `0.5 of the way from the start (kNN: 0.5 57.1 %, 1 56.2 %)`.
    #[must_use]
    pub fn line(&self) -> String {
        let tried = self.tried.iter();
        let tried = tried.map(|tried| format!("{} {:.1} %", tried.share, 100. * tried.figure));
        let tried = tried.collect::<Vec<_>>().join(", ");
        format!(
            "{} of the way from the start ({}: {tried})",
            self.share, self.by
        )
    }
}

/// The best of `candidates`, each a share with the features of its network, in rising order of shares; of equals the one with the
/// smallest share. `None` where nothing can tell them apart: too few photos.
///
/// # Errors
/// Features that are not finite.
pub(super) fn best(
    candidates: &[(f64, &Features)],
    options: &AdaptOptions,
) -> Result<Option<Interpolation>> {
    let mut by = ComparedBy::Knn;
    let mut tried = Vec::new();
    for (share, features) in candidates {
        let figure = match knn_of_held_out(features, options)? {
            Some(figure) => figure,
            None if features.held_out.photos() < 2 => return Ok(None),
            None => {
                by = ComparedBy::ViewsFound;
                let agreement = options.settings.agreement;
                let [first, ..] = features
                    .held_out
                    .measure(None, &features.plain, agreement)?;
                first.iter().sum::<f64>() / first.len().max(1) as f64
            }
        };
        tried.push(Tried {
            share: *share,
            figure,
        });
    }
    let Some(best) = best_of(&tried) else {
        return Ok(None);
    };
    Ok(Some(Interpolation {
        share: best.share,
        by,
        tried,
    }))
}

/// The first of the highest.
fn best_of(tried: &[Tried]) -> Option<Tried> {
    let mut all = tried.iter().copied();
    let first = all.next()?;
    Some(
        all.fold(first, |best, next| match next.figure > best.figure {
            true => next,
            false => best,
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_is_taken_and_of_equals_the_smallest_share() {
        let tried = |figures: [f64; 3]| {
            let shares = [0.25, 0.5, 1.].into_iter().zip(figures);
            let tried = shares.map(|(share, figure)| Tried { share, figure });
            best_of(&Vec::from_iter(tried)).unwrap().share
        };
        assert_eq!(tried([0.5, 0.7, 0.6]), 0.5);
        assert_eq!(tried([0.5, 0.6, 0.7]), 1.);
        assert_eq!(tried([0.5, 0.7, 0.7]), 0.5);
        assert_eq!(tried([0.6, 0.6, 0.6]), 0.25);
        assert!(best_of(&[]).is_none());
    }

    #[test]
    fn a_line_says_what_was_tried() {
        let of = |share, figure| Tried { share, figure };
        let found = Interpolation {
            share: 0.5,
            by: ComparedBy::Knn,
            tried: vec![of(0.5, 0.571), of(1., 0.562)],
        };
        let expected = "0.5 of the way from the start (kNN: 0.5 57.1 %, 1 56.2 %)";
        assert_eq!(found.line(), expected);
    }
}

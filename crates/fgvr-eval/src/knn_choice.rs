//! The choice of the number of neighbours on validation rows.

use crate::knn::hits_of_prefixes;
use crate::{Embeddings, Error, KnnConfig};

/// A number of neighbours, and what it was chosen by.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct KnnChoice {
    /// The configuration with the number that did best.
    pub config: KnnConfig,
    /// Each number on offer, with its top-1 on the validation rows.
    pub top1: Vec<(usize, f64)>,
    /// Whether it is the largest or smallest of several on offer: the best may lie outside.
    pub at_edge: bool,
}

/// The number of neighbours among `numbers` with the highest top-1 of `validation` by `train`, the smallest of equally good
/// ones. `cfg` gives the temperature.
///
/// # Errors
/// What [`Embeddings::new`] refuses, sets of different widths, no number or one of 0.
pub fn choose_neighbours(
    train: &Embeddings,
    validation: &Embeddings,
    numbers: &[usize],
    cfg: &KnnConfig,
) -> Result<KnnChoice, Error> {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    numbers.dedup();
    let hits = hits_of_prefixes(train, validation, &numbers, cfg)?;
    let top1 =
        |hits: &Vec<bool>| hits.iter().filter(|hit| **hit).count() as f64 / hits.len() as f64;
    let top1: Vec<(usize, f64)> = numbers.iter().copied().zip(hits.iter().map(top1)).collect();
    let mut best = top1[0];
    for choice in &top1[1..] {
        if choice.1 > best.1 {
            best = *choice;
        }
    }
    let edges = [numbers.first(), numbers.last()];
    Ok(KnnChoice {
        config: KnnConfig {
            k: best.0,
            ..cfg.clone()
        },
        at_edge: numbers.len() > 1 && edges.contains(&Some(&best.0)),
        top1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knn_hits;

    #[test]
    fn one_pass_gives_what_each_number_gives_alone() {
        let wave = |i: u32| [(i as f32 * 0.7).sin(), (i as f32 * 1.3).cos(), 0.3];
        let set = |range: std::ops::Range<u32>| {
            let values: Vec<f32> = range.clone().flat_map(wave).collect();
            Embeddings::from_slice(&values, 3, range.map(|i| i * i % 4).collect()).unwrap()
        };
        let (train, validation) = (set(0..60), set(60..101));
        let found = choose_neighbours(
            &train,
            &validation,
            &[9, 1, 400, 3, 3],
            &KnnConfig::default(),
        )
        .unwrap();
        assert_eq!(
            found.top1.iter().map(|(k, _)| *k).collect::<Vec<_>>(),
            [1, 3, 9, 400]
        );
        for (k, top1) in &found.top1 {
            let cfg = KnnConfig {
                k: *k,
                ..KnnConfig::default()
            };
            let hits = knn_hits(&train, &validation, &cfg).unwrap();
            assert_eq!(
                hits.iter().filter(|hit| **hit).count() as f64 / 41.,
                *top1,
                "{k}"
            );
        }
        let best = found.top1.iter().map(|(_, top1)| *top1).fold(0., f64::max);
        let first = found.top1.iter().find(|(_, top1)| *top1 == best).unwrap().0;
        assert_eq!(found.config.k, first);
        for wrong in [&[][..], &[3, 0]] {
            let error = choose_neighbours(&train, &validation, wrong, &KnnConfig::default());
            assert!(error.is_err(), "{wrong:?}");
        }
    }
}

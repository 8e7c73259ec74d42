//! How well two partitions of the same items agree: clusters and classes.

use std::collections::BTreeMap;

use crate::Error;

const OP: &str = "partition_agreement";

/// Agreement of clusters with classes; each is 1 where they are the same but for their numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct PartitionAgreement {
    /// Normalised mutual information, I(U; V) over the mean of H(U) and H(V); 0 for independent partitions.
    pub nmi: f64,
    /// Adjusted Rand index (Hubert and Arabie 1985): the share of pairs of items on which both partitions agree, less
    /// what chance gives, whose mean is 0.
    pub ari: f64,
    /// Share of items that are of the commonest class of their cluster. It grows with the number of clusters.
    pub purity: f64,
    /// Number of clusters that hold an item.
    pub clusters: usize,
    /// Number of classes.
    pub classes: usize,
}

/// Compares the cluster of each item with its class; the numbers of either mean nothing.
///
/// # Errors
/// No item, and another number of clusters than of classes given.
pub fn partition_agreement(clusters: &[u32], classes: &[u32]) -> Result<PartitionAgreement, Error> {
    if clusters.is_empty() {
        let reason = "no items to compare; give a cluster and a class for each".to_owned();
        return Err(Error::Nothing { op: OP, reason });
    }
    if clusters.len() != classes.len() {
        return Err(Error::Labels {
            op: OP,
            name: "clusters",
            rows: clusters.len(),
            labels: classes.len(),
        });
    }
    let n = clusters.len() as f64;
    let mut joint: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    for pair in clusters.iter().copied().zip(classes.iter().copied()) {
        *joint.entry(pair).or_default() += 1;
    }
    let counted = |items: &[u32]| {
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        for item in items {
            *counts.entry(*item).or_default() += 1;
        }
        counts
    };
    let (of_clusters, of_classes) = (counted(clusters), counted(classes));
    let mut commonest: BTreeMap<u32, u64> = BTreeMap::new();
    for ((cluster, _), count) in &joint {
        let most = commonest.entry(*cluster).or_default();
        *most = (*most).max(*count);
    }
    Ok(PartitionAgreement {
        nmi: nmi(&joint, &of_clusters, &of_classes, n),
        ari: ari(&joint, &of_clusters, &of_classes, n),
        purity: commonest.values().sum::<u64>() as f64 / n,
        clusters: of_clusters.len(),
        classes: of_classes.len(),
    })
}

type Joint = BTreeMap<(u32, u32), u64>;
type Counts = BTreeMap<u32, u64>;

fn nmi(joint: &Joint, clusters: &Counts, classes: &Counts, n: f64) -> f64 {
    if clusters.len() == 1 && classes.len() == 1 {
        return 1.; // nothing is divided, by either
    }
    let entropy = |counts: &Counts| {
        let shares = counts.values().map(|count| *count as f64 / n);
        -shares.map(|share| share * share.ln()).sum::<f64>()
    };
    let information = joint.iter().map(|((cluster, class), count)| {
        let share = *count as f64 / n;
        let expected = (clusters[cluster] as f64 / n) * (classes[class] as f64 / n);
        share * (share / expected).ln()
    });
    // Rounding may leave a little less than nothing.
    let information = information.sum::<f64>().max(0.);
    let mean = (entropy(clusters) + entropy(classes)) / 2.;
    if mean == 0. { 0. } else { information / mean }
}

fn ari(joint: &Joint, clusters: &Counts, classes: &Counts, n: f64) -> f64 {
    let pairs = |count: u64| count as f64 * (count as f64 - 1.) / 2.;
    let both: f64 = joint.values().map(|count| pairs(*count)).sum();
    let in_clusters: f64 = clusters.values().map(|count| pairs(*count)).sum();
    let in_classes: f64 = classes.values().map(|count| pairs(*count)).sum();
    let all = n * (n - 1.) / 2.;
    let most = (in_clusters + in_classes) / 2.;
    let expected = if all > 0. {
        in_clusters * in_classes / all
    } else {
        0.
    };
    // All items in one part, or each in its own, in both partitions.
    if most == expected {
        return 1.;
    }
    (both - expected) / (most - expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_clusters_do_not_matter() {
        let found = partition_agreement(&[5, 5, 9, 9, 0], &[1, 1, 2, 2, 3]).unwrap();
        assert!((found.nmi - 1.).abs() < 1e-12 && found.ari == 1. && found.purity == 1.);
        assert_eq!((found.clusters, found.classes), (3, 3));
    }

    #[test]
    fn an_example_of_hand() {
        // Two clusters of three: {a a b} and {a b b}; pairs together in both: 1 + 1.
        let found = partition_agreement(&[0, 0, 0, 1, 1, 1], &[7, 7, 8, 7, 8, 8]).unwrap();
        assert!((found.purity - 4. / 6.).abs() < 1e-12);
        assert!(
            (found.ari - (2. - 2.4) / (6. - 2.4)).abs() < 1e-12,
            "{found:?}"
        );
    }

    #[test]
    fn what_is_not_divided_and_what_is_divided_to_single_items() {
        let one = partition_agreement(&[0, 0, 0], &[4, 4, 4]).unwrap();
        assert_eq!((one.nmi, one.ari, one.purity), (1., 1., 1.));
        let none = partition_agreement(&[0, 0, 0, 0], &[1, 1, 2, 2]).unwrap();
        assert_eq!((none.nmi, none.ari, none.purity), (0., 0., 0.5));
        let lone = partition_agreement(&[3], &[9]).unwrap();
        assert_eq!((lone.nmi, lone.ari), (1., 1.));
        partition_agreement(&[], &[]).unwrap_err();
        partition_agreement(&[1], &[1, 2]).unwrap_err();
    }
}

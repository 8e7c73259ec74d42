//! The nearest rows of a set to each other: half of the products, since each serves both of its rows.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::{BLOCK, Nearest, OP, Side, check, from_gallery};
use crate::Error;
use crate::best::Best;
use crate::product::{Packed, Products, pieces};

/// Blocks that one is multiplied with in a task.
const RUN: usize = 8;
/// Rows of a sample by which it is told roughly how similar the nearest are.
pub(super) const SAMPLE: usize = 1024;
/// At least so many of the nearest should be in the sample, or it tells nothing.
const TELLING: f64 = 8.;

pub(crate) fn in_set(set: &Side<'_>, k: usize) -> Result<Nearest, Error> {
    let n = set.n();
    check(k, n)?;
    if n == 1 {
        let reason = "a set of one row has no other row".to_owned();
        return Err(Error::Nothing { op: OP, reason });
    }
    let k = k.min(n - 1);
    let blocks: Vec<Range<usize>> = pieces(n, BLOCK).collect();
    // Both sides once: a block is multiplied with all others.
    let packed: Vec<[Packed; 2]> = blocks
        .par_iter()
        .map(|block| {
            let mut right = Packed::default();
            set.right(block, &mut right);
            [set.left(block), right]
        })
        .collect();
    let lefts: Vec<&Packed> = packed.iter().map(|[left, _]| left).collect();
    let bounds = bounds(set, &lefts, k);
    let best: Vec<Mutex<Best>> = bounds
        .into_iter()
        .map(|least| Mutex::new(Best::above(least, k)))
        .collect();
    // Each pair of blocks once: a block with itself and some that follow it.
    let tasks: Vec<(usize, Range<usize>)> = (0..blocks.len())
        .flat_map(|a| {
            let others = pieces(blocks.len() - a, RUN);
            others.map(move |others| (a, a + others.start..a + others.end))
        })
        .collect();
    tasks.into_par_iter().for_each(|(a, others)| {
        let asking = &packed[a][0];
        let mut products = Products::default();
        // What is kept does not depend on the order of the pairs, and no panic leaves it in between.
        let lock = |block: usize| best[block].lock().unwrap_or_else(PoisonError::into_inner);
        for b in others {
            let (of_a, of_b) = (&blocks[a], &blocks[b]);
            for (part, first) in asking.parts(BLOCK) {
                products.compute(asking, part, &packed[b][1]);
                let mut kept = lock(a);
                for (row, scores) in (first..).zip(products.rows()) {
                    let itself = (a == b).then_some(of_a.start + row);
                    kept.offer(row, scores, of_b.start, itself);
                }
                drop(kept);
                if a != b {
                    let mut kept = lock(b);
                    for (index, scores) in (of_a.start + first..).zip(products.rows()) {
                        kept.offer_to_each(scores, index);
                    }
                }
            }
        }
    });
    let mut found: Vec<Vec<(u32, f32)>> = Vec::with_capacity(n);
    for best in best {
        found.extend(
            best.into_inner()
                .unwrap_or_else(PoisonError::into_inner)
                .into_sorted(),
        );
    }
    // Rows whose bound was too high: few, if rows are alike in how similar their nearest are.
    let short: Vec<usize> = (0..n).filter(|row| found[*row].len() < k).collect();
    if !short.is_empty() {
        let values: Vec<f32> = short
            .iter()
            .flat_map(|row| set.rows(&(*row..row + 1)).0)
            .copied()
            .collect();
        let asking = Side {
            values: &values,
            d: set.d,
            lengths: set
                .lengths
                .as_ref()
                .map(|lengths| short.iter().map(|row| lengths[*row]).collect()),
        };
        let whole = from_gallery(&asking, set, k + 1)?;
        for (query, row) in short.into_iter().enumerate() {
            let others = whole.of(query).filter(|(other, _)| *other != row);
            found[row] = others.take(k).map(|(other, s)| (other as u32, s)).collect();
        }
    }
    let mut nearest = Nearest::new(k, n);
    nearest.extend(found);
    Ok(nearest)
}

/// A score for each row of each block that its `k` nearest are probably above, from a sample of the set; minus infinity where
/// a sample tells nothing.
pub(super) fn bounds(set: &Side<'_>, blocks: &[&Packed], k: usize) -> Vec<Vec<f32>> {
    let n = set.n();
    // How many of a row's nearest are in the sample on average, and so many more that there are hardly ever more.
    let inside = k as f64 * SAMPLE as f64 / n as f64;
    let rank = (inside + 4. * inside.sqrt()).ceil() as usize + 2;
    if n < 4 * SAMPLE || inside < TELLING || rank >= SAMPLE / 2 {
        let none = |block: &&Packed| vec![f32::NEG_INFINITY; block.n()];
        return blocks.iter().map(none).collect();
    }
    let picked: Vec<usize> = (0..SAMPLE).map(|i| i * n / SAMPLE).collect();
    let mut values = Vec::with_capacity(SAMPLE * set.d);
    for row in &picked {
        values.extend_from_slice(set.rows(&(*row..row + 1)).0);
    }
    let lengths: Option<Vec<f64>> = set
        .lengths
        .as_ref()
        .map(|lengths| picked.iter().map(|row| lengths[*row]).collect());
    let mut sample = Packed::default();
    sample.right(&values, set.d, lengths.as_deref());
    let of_block = |asking: &&Packed| {
        let (mut products, mut least) = (Products::default(), Vec::with_capacity(asking.n()));
        let mut scores = Vec::new();
        for (part, _) in asking.parts(BLOCK) {
            products.compute(asking, part, &sample);
            for row in products.rows() {
                scores.clear();
                scores.extend_from_slice(row);
                let (_, bound, _) = scores.select_nth_unstable_by(rank, |a, b| b.total_cmp(a));
                least.push(*bound);
            }
        }
        least
    };
    blocks.par_iter().map(of_block).collect()
}

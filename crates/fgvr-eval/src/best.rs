//! The best candidates of some rows, while more of them arrive.

/// Scores that are compared together.
const LANES: usize = 16;

/// For each of some rows the `k` best candidates so far: the highest scores, equal ones by their index.
///
/// What is kept does not depend on the order in which candidates arrive.
pub(crate) struct Best {
    k: usize,
    /// Below this score a candidate of the row is not among the best; one for each row.
    least: Vec<f32>,
    /// Packed candidates of each row, at most twice as many as are kept.
    rows: Vec<Vec<u64>>,
}

impl Best {
    pub(crate) fn new(rows: usize, k: usize) -> Self {
        Self::above(vec![f32::NEG_INFINITY; rows], k)
    }

    /// Candidates below these scores, one for each row, are passed over; a row may then end with fewer than `k`.
    pub(crate) fn above(least: Vec<f32>, k: usize) -> Self {
        Self {
            rows: vec![Vec::new(); least.len()],
            k,
            least,
        }
    }

    /// Candidates of `row`: those with these scores, the first of which has the index `first`, but for the one with the
    /// index `but`.
    pub(crate) fn offer(&mut self, row: usize, scores: &[f32], first: usize, but: Option<usize>) {
        let (chunks, rest) = scores.as_chunks::<LANES>();
        for (chunk, first) in chunks.iter().zip((first..).step_by(LANES)) {
            for lane in hits(chunk, &[self.least[row]; LANES]) {
                // The bound may have risen within the chunk.
                if chunk[lane] >= self.least[row] && but != Some(first + lane) {
                    self.take(row, chunk[lane], first + lane);
                }
            }
        }
        for (score, index) in rest.iter().zip(first + chunks.len() * LANES..) {
            if *score >= self.least[row] && but != Some(index) {
                self.take(row, *score, index);
            }
        }
    }

    /// A candidate with the index `index` for each row: its score by row.
    pub(crate) fn offer_to_each(&mut self, scores: &[f32], index: usize) {
        let (chunks, rest) = scores.as_chunks::<LANES>();
        for (chunk, first) in chunks.iter().zip((0..).step_by(LANES)) {
            let Some(least) = self.least[first..].first_chunk::<LANES>() else {
                break;
            };
            for lane in hits(chunk, least) {
                self.take(first + lane, chunk[lane], index);
            }
        }
        for (score, row) in rest.iter().zip(chunks.len() * LANES..) {
            if *score >= self.least[row] {
                self.take(row, *score, index);
            }
        }
    }

    fn take(&mut self, row: usize, score: f32, index: usize) {
        let kept = &mut self.rows[row];
        if kept.capacity() == 0 {
            kept.reserve_exact(2 * self.k);
        }
        kept.push(pack(score, index));
        if kept.len() == 2 * self.k {
            keep(kept, self.k);
            self.least[row] = score_of(kept[self.k - 1]);
        }
    }

    /// The candidates of another part of the gallery besides, for the same rows.
    pub(crate) fn merge(&mut self, other: Self) {
        for (row, other) in self.rows.iter_mut().zip(other.rows) {
            row.extend(other);
            if row.len() > self.k {
                keep(row, self.k);
            }
        }
    }

    /// (index, score) of the best of each row, best first; fewer than `k` where there were fewer candidates.
    pub(crate) fn into_sorted(self) -> impl Iterator<Item = Vec<(u32, f32)>> {
        self.rows.into_iter().map(move |mut row| {
            if row.len() > self.k {
                keep(&mut row, self.k);
            }
            row.sort_unstable_by(|a, b| b.cmp(a));
            let unpacked = |key: u64| (u32::MAX - key as u32, score_of(key));
            row.into_iter().map(unpacked).collect()
        })
    }
}

/// The places at which a score is not below its bound.
#[inline(always)]
fn hits(scores: &[f32; LANES], least: &[f32; LANES]) -> impl Iterator<Item = usize> + use<> {
    // A byte a lane, which the compiler makes of vector comparisons; no branch until one is found.
    let lanes: [u8; LANES] = std::array::from_fn(|lane| u8::from(scores[lane] >= least[lane]));
    let mut left = u128::from_le_bytes(lanes);
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let lane = left.trailing_zeros() / 8;
        left &= left - 1;
        Some(lane as usize)
    })
}

/// The `k` highest of more than `k` keys, the lowest of them last.
fn keep(keys: &mut Vec<u64>, k: usize) {
    keys.select_nth_unstable_by(k - 1, |a, b| b.cmp(a));
    keys.truncate(k);
}

/// A number that is higher for a higher score, and of equal scores for the lower index.
fn pack(score: f32, index: usize) -> u64 {
    // -0 becomes 0, which it is equal to.
    let bits = (score + 0.).to_bits();
    let ordered = if bits >> 31 == 1 {
        !bits
    } else {
        bits | 1 << 31
    };
    u64::from(ordered) << 32 | u64::from(u32::MAX - index as u32)
}

fn score_of(key: u64) -> f32 {
    let ordered = (key >> 32) as u32;
    f32::from_bits(if ordered >> 31 == 1 {
        ordered & !(1 << 31)
    } else {
        !ordered
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(scores: &[f32], k: usize) -> Vec<(u32, f32)> {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].partial_cmp(&scores[*a]).unwrap());
        let best = order.into_iter().take(k);
        best.map(|index| (index as u32, scores[index])).collect()
    }

    #[test]
    fn the_best_are_those_of_a_stable_sort_in_any_order_of_arrival() {
        // Few different scores, so that many are equal.
        let scores: Vec<f32> = (0..500)
            .map(|i| ((i * 37) % 23) as f32 / 7. - 1.5)
            .collect();
        for k in [1, 2, 7, 499, 500, 600] {
            let wanted = expected(&scores, k);
            let mut forwards = Best::new(2, k);
            forwards.offer(1, &scores, 0, None);
            let mut backwards = Best::new(2, k);
            for (index, score) in scores.iter().enumerate().rev() {
                backwards.offer_to_each(&[f32::NEG_INFINITY, *score], index);
            }
            let mut halves = Best::new(2, k);
            halves.offer(1, &scores[200..], 200, None);
            let mut other = Best::new(2, k);
            other.offer(1, &scores[..200], 0, None);
            halves.merge(other);
            for best in [forwards, backwards, halves] {
                let rows: Vec<_> = best.into_sorted().collect();
                assert_eq!(rows[1], wanted, "k = {k}");
            }
        }
    }

    #[test]
    fn one_candidate_can_be_left_out_and_zeros_are_equal() {
        let mut best = Best::new(1, 3);
        best.offer(0, &[-0., 1., 0., -0.5], 10, Some(11));
        let found: Vec<_> = best.into_sorted().next().unwrap();
        let indices: Vec<u32> = found.iter().map(|(index, _)| *index).collect();
        assert_eq!(indices, [10, 12, 13]);
        assert_eq!(found[2].1, -0.5);
    }
}

//! Inner products of rows with rows: packed panels and a register tile, on the calling thread.
//!
//! A product is summed over the columns in their order, each term by one fused multiply-add, whatever else is multiplied
//! in the same call. So its bits depend on its two rows alone, and equal rows are equally similar to all: ties are ties.
//! A library's product has other kernels for other sizes, whose sums round differently. Processors without fused
//! multiply-add (and those that are not x86-64) round twice a term, in the same order.

use std::ops::Range;
use std::sync::OnceLock;

/// Columns that one pass of a tile sums up: a panel of each side then stays in the first-level cache.
const DEPTH: usize = 256;

/// Sums up a tile: panels of both sides, the place of the tile, the length of its rows, and whether sums begin at 0 rather than at
/// what is there.
type Run = fn(&[f32], &[f32], &mut [f32], usize, bool);

/// Rows of a panel of the left and of the right side: a tile of as many sums as fit the registers.
#[derive(Clone, Copy, Debug)]
struct Tile {
    left: usize,
    right: usize,
    run: Run,
}

/// The tile of this processor.
fn tile() -> Tile {
    static TILE: OnceLock<Tile> = OnceLock::new();
    *TILE.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                return Tile {
                    left: 12,
                    right: 32,
                    run: with_avx512,
                };
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Tile {
                    left: 6,
                    right: 16,
                    run: with_avx2,
                };
            }
        }
        Tile {
            left: 4,
            right: 8,
            run: portable::<4, 8>,
        }
    })
}

/// Adds to the tile at the start of `c`, whose rows are `stride` apart, the products of a panel of `L` and one of `R` rows,
/// both (depth, rows); with `fresh` to zeros. For any processor.
fn portable<const L: usize, const R: usize>(
    a: &[f32],
    b: &[f32],
    c: &mut [f32],
    stride: usize,
    fresh: bool,
) {
    let mut sums = [[0f32; R]; L];
    if !fresh {
        for (sums, c) in sums.iter_mut().zip(c.chunks(stride)) {
            sums.copy_from_slice(&c[..R]);
        }
    }
    for (a, b) in a.as_chunks::<L>().0.iter().zip(b.as_chunks::<R>().0) {
        for (sums, a) in sums.iter_mut().zip(a) {
            sums.iter_mut().zip(b).for_each(|(sum, b)| *sum += a * b);
        }
    }
    for (sums, c) in sums.iter().zip(c.chunks_mut(stride)) {
        c[..R].copy_from_slice(sums);
    }
}

/// Defines `portable` with the registers of a set of instructions: `$rows` rows of two registers of `$lanes` sums each.
#[cfg(target_arch = "x86_64")]
macro_rules! tile_of {
    ($name:ident, $feature:literal, $rows:literal, $lanes:literal, $zero:ident, $load:ident, $store:ident, $all:ident, $fma:ident) => {
        fn $name(a: &[f32], b: &[f32], c: &mut [f32], stride: usize, fresh: bool) {
            use std::arch::x86_64::{$all, $fma, $load, $store, $zero};

            #[target_feature(enable = $feature)]
            unsafe fn run(
                a: *const f32,
                b: *const f32,
                depth: usize,
                c: *mut f32,
                stride: usize,
                fresh: bool,
            ) {
                let mut sums = [[$zero(); 2]; $rows];
                let kept = if fresh { 0 } else { $rows };
                for (row, sums) in sums.iter_mut().enumerate().take(kept) {
                    for (half, sums) in sums.iter_mut().enumerate() {
                        // SAFETY: row < $rows and half < 2, inside of the tile that the caller vouches for.
                        *sums = unsafe { $load(c.add(row * stride + half * $lanes)) };
                    }
                }
                for at in 0..depth {
                    // SAFETY: `b` holds depth x 2 $lanes values, as the caller vouches.
                    let halves = unsafe {
                        let b = b.add(at * 2 * $lanes);
                        [$load(b), $load(b.add($lanes))]
                    };
                    for (row, sums) in sums.iter_mut().enumerate() {
                        // SAFETY: `a` holds depth x $rows values, as the caller vouches.
                        let a = $all(unsafe { *a.add(at * $rows + row) });
                        for (sums, half) in sums.iter_mut().zip(halves) {
                            *sums = $fma(a, half, *sums);
                        }
                    }
                }
                for (row, sums) in sums.iter().enumerate() {
                    for (half, sums) in sums.iter().enumerate() {
                        // SAFETY: as where they were loaded.
                        unsafe { $store(c.add(row * stride + half * $lanes), *sums) };
                    }
                }
            }
            let depth = b.len() / (2 * $lanes);
            assert!(a.len() == depth * $rows && b.len() == depth * 2 * $lanes);
            assert!(c.len() >= ($rows - 1) * stride + 2 * $lanes && stride >= 2 * $lanes);
            // SAFETY: `tile` gives this function only where the processor has the instructions. The panels hold depth columns and
            // the tile's rows lie inside of `c` (checked above).
            unsafe { run(a.as_ptr(), b.as_ptr(), depth, c.as_mut_ptr(), stride, fresh) }
        }
    };
}

#[cfg(target_arch = "x86_64")]
tile_of!(
    with_avx512,
    "avx512f",
    12,
    16,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps
);

#[cfg(target_arch = "x86_64")]
tile_of!(
    with_avx2,
    "avx2,fma",
    6,
    8,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps
);

/// Rows in the order in which a tile reads them.
#[derive(Default)]
pub(crate) struct Packed {
    n: usize,
    d: usize,
    /// Rows of a panel.
    wide: usize,
    /// For each [`DEPTH`] columns, for each panel: (columns, rows of the panel), the last panel filled up with zeros.
    values: Vec<f32>,
}

impl Packed {
    /// The left side of a product: rows of `d` values, each over its length where `lengths` gives one above 0.
    pub(crate) fn left(&mut self, rows: &[f32], d: usize, lengths: Option<&[f64]>) {
        self.pack(rows, d, lengths, tile().left);
    }

    /// The right side likewise.
    pub(crate) fn right(&mut self, rows: &[f32], d: usize, lengths: Option<&[f64]>) {
        self.pack(rows, d, lengths, tile().right);
    }

    fn pack(&mut self, rows: &[f32], d: usize, lengths: Option<&[f64]>, wide: usize) {
        (self.n, self.d, self.wide) = (rows.len() / d, d, wide);
        let panels = self.n.div_ceil(wide);
        self.values.clear();
        self.values.resize(panels * wide * d, 0.);
        // (rows of the panel, D), each over its length
        let mut scaled = Vec::new();
        for (panel, rows) in rows.chunks(wide * d).enumerate() {
            let mut source = rows;
            if let Some(lengths) = lengths {
                scaled.clear();
                scaled.extend_from_slice(rows);
                let lengths = &lengths[panel * wide..];
                for (row, length) in scaled.chunks_exact_mut(d).zip(lengths) {
                    divide(row, *length);
                }
                source = &scaled;
            }
            for begin in (0..d).step_by(DEPTH) {
                let depth = DEPTH.min(d - begin);
                let at = (begin * panels + panel * depth) * wide;
                let columns = self.values[at..at + depth * wide].chunks_exact_mut(wide);
                for (column, places) in columns.enumerate() {
                    let values = source[begin + column..].iter().step_by(d);
                    places.iter_mut().zip(values).for_each(|(p, v)| *p = *v);
                }
            }
        }
    }

    /// Its rows.
    pub(crate) fn n(&self) -> usize {
        self.n
    }

    /// The panels of a left side in pieces of at most about `rows` rows, and the first row of each.
    pub(crate) fn parts(&self, rows: usize) -> impl Iterator<Item = (Range<usize>, usize)> + use<> {
        let wide = self.wide;
        pieces(self.panels(), (rows / wide).max(1))
            .map(move |part| (part.clone(), part.start * wide))
    }

    fn panels(&self) -> usize {
        self.n.div_ceil(self.wide)
    }
}

/// Divides a row by its length; a row of zeros stays.
pub(crate) fn divide(row: &mut [f32], length: f64) {
    if length > 0. {
        row.iter_mut()
            .for_each(|v| *v = (f64::from(*v) / length) as f32);
    }
}

/// Products of the rows of some panels of one side with all rows of the other.
#[derive(Default)]
pub(crate) struct Products {
    values: Vec<f32>,
    stride: usize,
    rows: usize,
    columns: usize,
}

impl Products {
    /// Of the rows of `panels` of `left` with all of `right`, which are of one width.
    pub(crate) fn compute(&mut self, left: &Packed, panels: Range<usize>, right: &Packed) {
        let tile = tile();
        let d = left.d;
        debug_assert!(d == right.d && left.wide == tile.left && right.wide == tile.right);
        self.rows = (left.n - panels.start * tile.left).min(panels.len() * tile.left);
        self.columns = right.n;
        self.stride = right.panels() * tile.right;
        // What an earlier call left there is written over, so that nothing need be filled with zeros.
        self.values
            .resize(panels.len() * tile.left * self.stride, 0.);
        for begin in (0..d).step_by(DEPTH) {
            let depth = DEPTH.min(d - begin);
            let panel = |side: &Packed, index: usize| {
                let size = side.wide * depth;
                let at = begin * side.panels() * side.wide + index * size;
                at..at + size
            };
            for j in 0..right.panels() {
                let b = &right.values[panel(right, j)];
                for i in panels.clone() {
                    let a = &left.values[panel(left, i)];
                    let at = (i - panels.start) * tile.left * self.stride + j * tile.right;
                    (tile.run)(a, b, &mut self.values[at..], self.stride, begin == 0);
                }
            }
        }
    }

    /// The products of each row, from the first of the panels on.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[f32]> {
        let rows = self.values.chunks_exact(self.stride).take(self.rows);
        rows.map(|row| &row[..self.columns])
    }
}

/// 0..n in as few pieces of at most `size` as there can be, all of nearly one length.
pub(crate) fn pieces(n: usize, size: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let count = n.div_ceil(size);
    (0..count).map(move |piece| piece * n / count..(piece + 1) * n / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(i: usize) -> f32 {
        ((i * 7919 + 13) % 1009) as f32 / 503. - 1.
    }

    /// Row by row, (M, N).
    fn all(a: &[f32], b: &[f32], d: usize) -> Vec<f32> {
        let (mut left, mut right, mut out) = <(Packed, Packed, Products)>::default();
        left.left(a, d, None);
        right.right(b, d, None);
        let mut found = Vec::new();
        for (part, first) in left.parts(24) {
            assert_eq!(found.len(), first * (b.len() / d));
            out.compute(&left, part, &right);
            found.extend(out.rows().flatten());
        }
        found
    }

    #[test]
    fn a_product_depends_on_its_two_rows_alone() {
        for d in [1, 37, 256, 600] {
            let row: Vec<f32> = (0..d).map(value).collect();
            let query: Vec<f32> = (0..d).map(|i| value(i + 5000)).collect();
            let single = all(&query, &row, d)[0];
            for (m, n) in [(1, 70), (3, 2), (5, 33), (64, 1), (17, 129)] {
                let found = all(&query.repeat(m), &row.repeat(n), d);
                assert_eq!(found.len(), m * n);
                assert!(
                    found.iter().all(|found| *found == single),
                    "{m} x {n} x {d}"
                );
            }
            assert_eq!(all(&row, &query, d), [single], "either way round");
        }
    }

    #[test]
    fn products_are_those_in_f64() {
        for (m, n, d) in [(1, 1, 1), (9, 6, 50), (30, 70, 513)] {
            let a: Vec<f32> = (0..m * d).map(value).collect();
            let b: Vec<f32> = (0..n * d).map(|i| value(i + 17)).collect();
            let found = all(&a, &b, d);
            for i in 0..m {
                for j in 0..n {
                    let terms = (0..d).map(|k| f64::from(a[i * d + k]) * f64::from(b[j * d + k]));
                    let expected: f64 = terms.sum();
                    let found = f64::from(found[i * n + j]);
                    assert!(
                        (found - expected).abs() < 1e-3,
                        "{m} {n} {d} {i} {j}: {found} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn tiles_of_every_processor_add_up_the_same() {
        let depth = 19;
        let values = |n: usize| -> Vec<f32> { (0..n).map(value).collect() };
        let run = |left: usize, right: usize, run: Run| {
            let (a, b) = (values(depth * left), values(depth * right));
            let stride = right + 3;
            let mut c = vec![1.; left * stride];
            run(&a, &b, &mut c, stride, true);
            c.iter_mut().for_each(|sum| *sum += 1.);
            run(&a, &b, &mut c, stride, false);
            for i in 0..left {
                for j in 0..right {
                    let terms = (0..depth).map(|k| a[k * left + i] * b[k * right + j]);
                    let expected = 1. + 2. * terms.sum::<f32>();
                    assert!((c[i * stride + j] - expected).abs() < 1e-5);
                }
                assert_eq!(c[i * stride + right..][..3], [2.; 3]);
            }
        };
        run(4, 8, portable::<4, 8>);
        let tile = tile();
        run(tile.left, tile.right, tile.run);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            run(6, 16, with_avx2);
        }
    }

    #[test]
    fn pieces_cover_all_and_are_of_nearly_one_length() {
        for (n, size) in [(1, 4), (4, 4), (5, 4), (1025, 1024), (12_000, 512)] {
            let all: Vec<_> = pieces(n, size).collect();
            assert_eq!(all.len(), n.div_ceil(size));
            assert_eq!((all[0].start, all[all.len() - 1].end), (0, n));
            assert!(all.windows(2).all(|pair| pair[0].end == pair[1].start));
            let least = all.iter().map(ExactSizeIterator::len).min();
            let most = all.iter().map(ExactSizeIterator::len).max();
            assert!(most <= Some(size) && most <= least.map(|least| least + 1));
        }
        assert_eq!(pieces(0, 4).count(), 0);
    }
}

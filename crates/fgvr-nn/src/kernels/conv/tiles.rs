//! The inner loops: tiles of places (or weights) x output channels that stay in registers.
//!
//! A tile holds ROWS x VECTORS registers of sums. Each step loads VECTORS registers of one operand
//! and multiplies them by ROWS floats of the other, so that ROWS * VECTORS products cost
//! ROWS + VECTORS loads. The sizes fill the registers: 14 x 2 of AVX-512's 32, 6 x 2 of AVX2's 16,
//! and 4 x 2 where the compiler makes what it can of arrays of 4.

use super::gather::Run;
use super::lanes::{Lanes, each_index, load_row, store_row};
use super::pack::Panel;
use super::winograd;
use crate::kernels::simd::Level;

/// Registers of one row of a tile, at most.
const MAX_VECTORS: usize = 2;
/// Floats of one row of a tile, at most.
const MAX_WIDTH: usize = 32;

/// Places of one tile: where they read in a window, and where they write in the target.
#[derive(Clone, Copy)]
pub(super) struct Places<'a> {
    pub(super) from: &'a [usize],
    pub(super) to: &'a [usize],
}

/// What a gather tile works on. See [`Tiles::gather`].
struct GatherTile<'a> {
    window: *const f32,
    /// As many as the tile has rows.
    from: *const usize,
    runs: &'a [Run],
    weights: *const f32,
    target: *mut f32,
    to: *const usize,
    columns: usize,
    ending: Option<Ending<'a>>,
}

/// What is done to the values of a panel before they are written.
#[derive(Clone, Copy)]
pub(super) struct Ending<'a> {
    /// Added to each place: as many floats as the panel's registers hold.
    pub(super) bias: &'a [f32],
    /// Added to each value: read where the target is written.
    pub(super) residual: Option<*const f32>,
    /// What values are cut off below and above at; not at NaN.
    pub(super) limits: [f32; 2],
}

/// What an outer tile works on. See [`Tiles::outer`].
struct OuterTile<'a> {
    window: *const f32,
    from: &'a [usize],
    columns: *const f32,
    sums: *mut f32,
}

type GatherFn = unsafe fn(&GatherTile<'_>);
type OuterFn = unsafe fn(&OuterTile<'_>);

/// The tiles of one level.
pub(super) struct Tiles {
    /// Floats of a register.
    pub(super) lanes: usize,
    /// Rows of a tile, at most.
    pub(super) rows: usize,
    /// By vectors - 1, then by rows - 1.
    gather: [&'static [GatherFn]; MAX_VECTORS],
    outer: [&'static [OuterFn]; MAX_VECTORS],
    pub(super) winograd: Transforms,
}

/// Winograd's transforms, see the module. By group of rows where only some rows are made.
pub(super) struct Transforms {
    pub(super) input: [unsafe fn(&winograd::InputTile); 4],
    pub(super) gradient: [unsafe fn(&winograd::Tile); 4],
    pub(super) output: unsafe fn(&winograd::Tile),
    pub(super) weight: unsafe fn(&winograd::Tile),
    pub(super) weight_gradient: [unsafe fn(&winograd::Tile); 4],
}

impl Tiles {
    /// The tiles of `level`, or of the highest level that this processor has.
    pub(super) fn at(level: Level) -> &'static Self {
        match level.supported() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => &avx512::TILES,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => &avx2::TILES,
            _ => &portable::TILES,
        }
    }

    /// Floats of the widest panel.
    pub(super) fn width(&self) -> usize {
        MAX_VECTORS * self.lanes
    }

    /// For each place r, `target[to[r]..][..columns]` = the sum over `runs` of
    /// `window[from[r] + offset + k]` x the run's row + k of `weights` (depth, width).
    ///
    /// # Safety
    /// - `from` and `to` must have the same length.
    /// - `window` must have every run of every place, `weights` a row for each of their floats.
    /// - `target + to[r]` must be valid for writing the panel's columns, for each r, and that of the ending's
    ///   residual, if any, for reading.
    #[allow(clippy::too_many_arguments)]
    pub(super) unsafe fn gather(
        &self,
        panel: &Panel,
        window: &[f32],
        places: Places<'_>,
        runs: &[Run],
        weights: &[f32],
        target: *mut f32,
        ending: Option<Ending<'_>>,
    ) {
        let Places { from, to } = places;
        debug_assert_eq!(from.len(), to.len());
        debug_assert!(runs.iter().all(|run| {
            let end = run.offset + run.len;
            from.iter().all(|from| from + end <= window.len())
        }));
        debug_assert!(
            (runs.iter()).all(|run| (run.row + run.len) * panel.width(self.lanes) <= weights.len())
        );
        let tile = GatherTile {
            window: window.as_ptr(),
            from: from.as_ptr(),
            runs,
            weights: weights.as_ptr(),
            target,
            to: to.as_ptr(),
            columns: panel.columns,
            ending,
        };
        debug_assert!(ending.is_none_or(|end| end.bias.len() >= panel.width(self.lanes)));
        // SAFETY: `Tiles::at` gave out these functions only to a processor that can run them; the
        // indexing below takes the one with as many rows as there are places. The rest is the
        // caller's promise.
        unsafe { self.gather[panel.vectors - 1][from.len() - 1](&tile) }
    }

    /// `sums` (rows, width) += over the places, `window[from + first + row]` x the place's row of
    /// `columns` (places, width).
    ///
    /// # Safety
    /// - `window` must have the rows' floats from `from + first` of every place.
    /// - `columns` must have a row for each place.
    pub(super) unsafe fn outer(
        &self,
        panel: &Panel,
        window: &[f32],
        from: &[usize],
        first: usize,
        columns: &[f32],
        sums: &mut [f32],
    ) {
        let width = panel.width(self.lanes);
        let rows = sums.len() / width;
        debug_assert!(from.iter().all(|from| from + first + rows <= window.len()));
        debug_assert_eq!(columns.len(), from.len() * width);
        debug_assert_eq!(sums.len(), rows * width);
        let tile = OuterTile {
            window: window[first..].as_ptr(),
            from,
            columns: columns.as_ptr(),
            sums: sums.as_mut_ptr(),
        };
        // SAFETY: as in `gather`; the function for `rows` rows writes rows * width floats, which
        // `sums` has.
        unsafe { self.outer[panel.vectors - 1][rows - 1](&tile) }
    }
}

/// `sums` += the float at `value` x `row`.
///
/// # Safety
/// A float at `value`, and the level of `L`.
#[inline(always)]
unsafe fn add_row<L: Lanes, const VECTORS: usize>(
    value: *const f32,
    row: &[L::Vector; VECTORS],
    sums: &mut [L::Vector; VECTORS],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let value = L::broadcast(value);
        for (row, sum) in row.iter().zip(sums) {
            *sum = L::multiply_add(value, *row, *sum);
        }
    }
}

/// # Safety
/// As [`Tiles::gather`], with ROWS places and a panel of VECTORS registers.
#[inline(always)]
unsafe fn gather<L: Lanes, const ROWS: usize, const VECTORS: usize>(tile: &GatherTile<'_>) {
    const { assert!(VECTORS * L::COUNT <= MAX_WIDTH) };
    // SAFETY: the caller's promise covers every read and write: ROWS places of `from` and `to`, the
    // runs of each in the window, VECTORS registers of weights for each float of the runs.
    // `wrapping_add` is `add` without a check in debug builds, which train networks too.
    unsafe {
        let mut sums = [[L::zero(); VECTORS]; ROWS];
        for run in tile.runs {
            let mut weights = tile.weights.wrapping_add(run.row * VECTORS * L::COUNT);
            let mut places = [std::ptr::null::<f32>(); ROWS];
            each_index!(ROWS, |r| {
                places[r] = tile.window.add(*tile.from.add(r) + run.offset);
            });
            for k in 0..run.len {
                let row = load_row::<L, VECTORS>(weights);
                each_index!(ROWS, |r| {
                    add_row::<L, VECTORS>(places[r].wrapping_add(k), &row, &mut sums[r]);
                });
                weights = weights.wrapping_add(VECTORS * L::COUNT);
            }
        }
        if let Some(ending) = &tile.ending {
            each_index!(ROWS, |r| {
                end::<L, VECTORS>(ending, *tile.to.add(r), tile.columns, &mut sums[r]);
            });
        }
        each_index!(ROWS, |r| {
            let target = tile.target.add(*tile.to.add(r));
            if tile.columns == VECTORS * L::COUNT {
                store_row::<L, VECTORS>(target, &sums[r]);
            } else {
                let mut row = [0.; MAX_WIDTH];
                store_row::<L, VECTORS>(row.as_mut_ptr(), &sums[r]);
                std::ptr::copy_nonoverlapping(row.as_ptr(), target, tile.columns);
            }
        });
    }
}

/// Does to the sums of one place what `ending` says.
///
/// # Safety
/// VECTORS registers of bias, `columns` floats of the residual from `to`, and the level of `L`.
#[inline(always)]
unsafe fn end<L: Lanes, const VECTORS: usize>(
    ending: &Ending<'_>,
    to: usize,
    columns: usize,
    sums: &mut [L::Vector; VECTORS],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let bias = load_row::<L, VECTORS>(ending.bias.as_ptr());
        for (sum, bias) in sums.iter_mut().zip(&bias) {
            *sum = L::add(*sum, *bias);
        }
        if let Some(residual) = ending.residual {
            let residual = residual.add(to);
            let added = if columns == VECTORS * L::COUNT {
                load_row::<L, VECTORS>(residual)
            } else {
                let mut row = [0.; MAX_WIDTH];
                std::ptr::copy_nonoverlapping(residual, row.as_mut_ptr(), columns);
                load_row::<L, VECTORS>(row.as_ptr())
            };
            for (sum, added) in sums.iter_mut().zip(&added) {
                *sum = L::add(*sum, *added);
            }
        }
        let [floor, ceiling] = ending.limits.map(|limit| L::splat(limit));
        for sum in sums {
            *sum = L::cut(*sum, floor, ceiling);
        }
    }
}

/// # Safety
/// As [`Tiles::outer`], with ROWS rows and a panel of VECTORS registers.
#[inline(always)]
unsafe fn outer<L: Lanes, const ROWS: usize, const VECTORS: usize>(tile: &OuterTile<'_>) {
    // SAFETY: the caller's promise covers ROWS floats of the window at each place, a row of VECTORS
    // registers of `columns` for each place, and ROWS such rows of `sums`.
    unsafe {
        let mut sums = [[L::zero(); VECTORS]; ROWS];
        let mut columns = tile.columns;
        for from in tile.from {
            let place = tile.window.wrapping_add(*from);
            let row = load_row::<L, VECTORS>(columns);
            each_index!(ROWS, |r| {
                add_row::<L, VECTORS>(place.wrapping_add(r), &row, &mut sums[r]);
            });
            columns = columns.wrapping_add(VECTORS * L::COUNT);
        }
        each_index!(ROWS, |r| {
            let to = tile.sums.add(r * VECTORS * L::COUNT);
            let mut row = load_row::<L, VECTORS>(to);
            for (row, sum) in row.iter_mut().zip(&sums[r]) {
                *row = L::add(*row, *sum);
            }
            store_row::<L, VECTORS>(to, &row);
        });
    }
}

/// The tables of one level: its functions for each number of rows and vectors.
macro_rules! tiles {
    ($lanes:ty, features: [$($feature:literal)?], rows: [$($rows:literal)*]) => {
        use super::{GatherTile, Lanes as _, OuterTile, Tiles, Transforms};
        use crate::kernels::conv::{lanes, winograd};

        $(#[target_feature(enable = $feature)])?
        unsafe fn gather<const ROWS: usize, const VECTORS: usize>(tile: &GatherTile<'_>) {
            // SAFETY: the caller's promise.
            unsafe { super::gather::<$lanes, ROWS, VECTORS>(tile) }
        }

        $(#[target_feature(enable = $feature)])?
        unsafe fn outer<const ROWS: usize, const VECTORS: usize>(tile: &OuterTile<'_>) {
            // SAFETY: the caller's promise.
            unsafe { super::outer::<$lanes, ROWS, VECTORS>(tile) }
        }

        $(#[target_feature(enable = $feature)])?
        unsafe fn input<const GROUP: usize>(tile: &winograd::InputTile) {
            // SAFETY: the caller's promise.
            unsafe { winograd::input::<$lanes, GROUP>(tile) }
        }

        $(#[target_feature(enable = $feature)])?
        unsafe fn gradient<const GROUP: usize>(tile: &winograd::Tile) {
            // SAFETY: the caller's promise.
            unsafe { winograd::gradient::<$lanes, GROUP>(tile) }
        }

        $(#[target_feature(enable = $feature)])?
        unsafe fn output(tile: &winograd::Tile) {
            // SAFETY: the caller's promise.
            unsafe { winograd::output::<$lanes>(tile) }
        }

        $(#[target_feature(enable = $feature)])?
        unsafe fn weight(tile: &winograd::Tile) {
            // SAFETY: the caller's promise.
            unsafe { winograd::weight::<$lanes>(tile) }
        }

        $(#[target_feature(enable = $feature)])?
        unsafe fn weight_gradient<const GROUP: usize>(tile: &winograd::Tile) {
            // SAFETY: the caller's promise.
            unsafe { winograd::weight_gradient::<$lanes, GROUP>(tile) }
        }

        pub(super) static TILES: Tiles = Tiles {
            lanes: <$lanes>::COUNT,
            rows: [$($rows),*].len(),
            gather: [&[$(gather::<$rows, 1>),*], &[$(gather::<$rows, 2>),*]],
            outer: [&[$(outer::<$rows, 1>),*], &[$(outer::<$rows, 2>),*]],
            winograd: Transforms {
                input: [input::<0>, input::<1>, input::<2>, input::<3>],
                gradient: [gradient::<0>, gradient::<1>, gradient::<2>, gradient::<3>],
                output,
                weight,
                weight_gradient: [
                    weight_gradient::<0>,
                    weight_gradient::<1>,
                    weight_gradient::<2>,
                    weight_gradient::<3>,
                ],
            },
        };
    };
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    tiles!(lanes::Avx512, features: ["avx512f"], rows: [1 2 3 4 5 6 7 8 9 10 11 12 13 14]);
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    tiles!(lanes::Avx2, features: ["avx2,fma"], rows: [1 2 3 4 5 6]);
}

mod portable {
    tiles!(lanes::Portable, features: [], rows: [1 2 3 4]);
}

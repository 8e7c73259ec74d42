//! The inner loops: places x channels, and taps x channels, that stay in registers.

use crate::kernels::conv::lanes::{self, Lanes, each_index};
use crate::kernels::simd::Level;

/// A few places of one line of the output, all of whose taps are inside the input.
pub(super) struct Strip<'a> {
    /// The input, from the column at which the first place reads a tap of offset 0.
    pub(super) source: *const f32,
    /// Floats of the input from one place to the next.
    pub(super) from_step: usize,
    /// Where the lines start that the place reads, and the weights for each.
    pub(super) rows: &'a [(usize, usize)],
    /// The same for columns, relative to a place and to a line's weights.
    pub(super) columns: &'a [(isize, usize)],
    /// (taps, channels)
    pub(super) weights: *const f32,
    /// (channels)
    pub(super) bias: Option<*const f32>,
    /// What is added at each place of the target.
    pub(super) residual: Option<*const f32>,
    /// What values are cut off below and above at, if at all; not at NaN.
    pub(super) limits: Option<[f32; 2]>,
    pub(super) target: *mut f32,
    /// Floats of the target from one place to the next.
    pub(super) to_step: usize,
    pub(super) channels: usize,
    pub(super) places: usize,
}

/// Some lines of the input and of the gradient of the output, and some neighbouring taps of one line of
/// the kernel.
pub(super) struct Outer<'a> {
    /// The input, from the column that the first tap reads for the first place.
    pub(super) x: *const f32,
    /// The gradient, from the first place's column.
    pub(super) dy: *const f32,
    /// Where lines start, in both.
    pub(super) lines: &'a [(usize, usize)],
    /// Places of each line.
    pub(super) places: usize,
    /// Floats of the input from one place to the next.
    pub(super) x_step: usize,
    /// Floats of the input from one tap to the next.
    pub(super) tap_step: usize,
    pub(super) channels: usize,
    /// (taps, channels)
    pub(super) sums: &'a mut [f32],
}

type StripFn = unsafe fn(&Strip<'_>);
type OuterFn = unsafe fn(&mut Outer<'_>);

/// The loops of one level.
pub(in crate::kernels::conv) struct DepthwiseTiles {
    /// Places of a strip, at most.
    pub(super) places: usize,
    /// Taps that are summed at once, at most.
    pub(super) taps: usize,
    /// By places - 1.
    strip: &'static [StripFn],
    /// By taps - 1.
    outer: &'static [OuterFn],
}

impl DepthwiseTiles {
    /// The loops of `level`, or of the highest level that this processor has.
    pub(in crate::kernels::conv) fn at(level: Level) -> &'static Self {
        match level.supported() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => &avx512::TILES,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => &avx2::TILES,
            _ => &portable::TILES,
        }
    }

    /// Writes the strip's places.
    ///
    /// # Safety
    /// - For each place, row and column of the strip, `channels` floats of the source at
    ///   `place * from_step + row.0 + column.0`, and of the weights at `row.1 + column.1`.
    /// - `channels` floats at `bias` and, for each place, at `place * to_step` of `residual`.
    /// - The same of `target`, valid for writing.
    pub(super) unsafe fn multiply(&self, strip: &Strip<'_>) {
        // SAFETY: `DepthwiseTiles::at` gave out these functions only to a processor that can run them,
        // and the indexing takes that of the strip's number of places. The rest is the caller's promise.
        unsafe { self.strip[strip.places - 1](strip) }
    }

    /// Adds to the sums of `taps` taps.
    ///
    /// # Safety
    /// For each line and place, `channels` floats of x for each of the taps, and of dy.
    pub(super) unsafe fn outer(&self, mut outer: Outer<'_>, taps: usize) {
        assert_eq!(
            outer.sums.len(),
            taps * outer.channels,
            "sums of {taps} taps"
        );
        // SAFETY: as in `multiply`; the function for `taps` taps writes as many rows of sums.
        unsafe { self.outer[taps - 1](&mut outer) }
    }
}

/// The channels of a strip: wide tiles, then what is left.
///
/// # Safety
/// As [`DepthwiseTiles::multiply`], with PLACES places, and the level of `L`.
#[inline(always)]
unsafe fn strip<L: Lanes, const PLACES: usize>(strip: &Strip<'_>) {
    let (mut channel, channels) = (0, strip.channels);
    // SAFETY: the caller's promise; each call works on channels below `channels`.
    unsafe {
        if PLACES <= 2 {
            // Few places are too few sums to hide what one multiplication takes.
            while channel + 4 * L::COUNT <= channels {
                strip_tile::<L, PLACES, 4>(strip, channel);
                channel += 4 * L::COUNT;
            }
        }
        while channel + 2 * L::COUNT <= channels {
            strip_tile::<L, PLACES, 2>(strip, channel);
            channel += 2 * L::COUNT;
        }
        while channel + L::COUNT <= channels {
            strip_tile::<L, PLACES, 1>(strip, channel);
            channel += L::COUNT;
        }
        while channel < channels {
            strip_tile::<lanes::Single, PLACES, 1>(strip, channel);
            channel += 1;
        }
    }
}

/// # Safety
/// As [`strip`], with VECTORS registers of channels from `channel`.
#[inline(always)]
unsafe fn strip_tile<L: Lanes, const PLACES: usize, const VECTORS: usize>(
    strip: &Strip<'_>,
    channel: usize,
) {
    // SAFETY: the caller's promise covers every read and write. `wrapping_add` is `add` without a check
    // in debug builds.
    unsafe {
        let first = match strip.bias {
            Some(bias) => lanes::load_row::<L, VECTORS>(bias.wrapping_add(channel)),
            None => [L::zero(); VECTORS],
        };
        let mut sums = [first; PLACES];
        let mut places = [strip.source.wrapping_add(channel); PLACES];
        each_index!(PLACES, |p| {
            places[p] = places[p].wrapping_add(p * strip.from_step);
        });
        for (from, of_row) in strip.rows {
            let weights = strip.weights.wrapping_add(of_row + channel);
            for (column, of_column) in strip.columns {
                let row = lanes::load_row::<L, VECTORS>(weights.wrapping_add(*of_column));
                let offset = from.wrapping_add_signed(*column);
                each_index!(PLACES, |p| {
                    let x = lanes::load_row::<L, VECTORS>(places[p].wrapping_add(offset));
                    for ((x, weight), sum) in x.iter().zip(&row).zip(&mut sums[p]) {
                        *sum = L::multiply_add(*x, *weight, *sum);
                    }
                });
            }
        }
        if let Some(residual) = strip.residual {
            each_index!(PLACES, |p| {
                let added = residual.wrapping_add(p * strip.to_step + channel);
                let added = lanes::load_row::<L, VECTORS>(added);
                for (sum, added) in sums[p].iter_mut().zip(&added) {
                    *sum = L::add(*sum, *added);
                }
            });
        }
        if let Some(limits) = strip.limits {
            let [floor, ceiling] = limits.map(|limit| L::splat(limit));
            each_index!(PLACES, |p| {
                for sum in &mut sums[p] {
                    *sum = L::cut(*sum, floor, ceiling);
                }
            });
        }
        each_index!(PLACES, |p| {
            let at = p * strip.to_step + channel;
            lanes::store_row::<L, VECTORS>(strip.target.wrapping_add(at), &sums[p]);
        });
    }
}

/// The channels of some sums: wide tiles, then what is left.
///
/// # Safety
/// As [`DepthwiseTiles::outer`], with TAPS taps, and the level of `L`.
#[inline(always)]
unsafe fn outer<L: Lanes, const TAPS: usize>(outer: &mut Outer<'_>) {
    let (mut channel, channels) = (0, outer.channels);
    // SAFETY: the caller's promise; each call works on channels below `channels`.
    unsafe {
        if TAPS <= 3 {
            while channel + 3 * L::COUNT <= channels {
                outer_tile::<L, TAPS, 3>(outer, channel);
                channel += 3 * L::COUNT;
            }
        }
        while channel + 2 * L::COUNT <= channels {
            outer_tile::<L, TAPS, 2>(outer, channel);
            channel += 2 * L::COUNT;
        }
        while channel + L::COUNT <= channels {
            outer_tile::<L, TAPS, 1>(outer, channel);
            channel += L::COUNT;
        }
        while channel < channels {
            outer_tile::<lanes::Single, TAPS, 1>(outer, channel);
            channel += 1;
        }
    }
}

/// # Safety
/// As [`outer`], with VECTORS registers of channels from `channel`.
#[inline(always)]
unsafe fn outer_tile<L: Lanes, const TAPS: usize, const VECTORS: usize>(
    outer: &mut Outer<'_>,
    channel: usize,
) {
    // SAFETY: the caller's promise covers every read; `sums` has TAPS rows of the outer's channels.
    unsafe {
        let mut sums = [[L::zero(); VECTORS]; TAPS];
        for (x, dy) in outer.lines {
            let mut x = outer.x.wrapping_add(x + channel);
            let mut dy = outer.dy.wrapping_add(dy + channel);
            for _ in 0..outer.places {
                let gradient = lanes::load_row::<L, VECTORS>(dy);
                each_index!(TAPS, |t| {
                    let x = lanes::load_row::<L, VECTORS>(x.wrapping_add(t * outer.tap_step));
                    for ((x, gradient), sum) in x.iter().zip(&gradient).zip(&mut sums[t]) {
                        *sum = L::multiply_add(*x, *gradient, *sum);
                    }
                });
                x = x.wrapping_add(outer.x_step);
                dy = dy.wrapping_add(outer.channels);
            }
        }
        let to = outer.sums.as_mut_ptr().wrapping_add(channel);
        each_index!(TAPS, |t| {
            let to = to.wrapping_add(t * outer.channels);
            let mut row = lanes::load_row::<L, VECTORS>(to);
            for (row, sum) in row.iter_mut().zip(&sums[t]) {
                *row = L::add(*row, *sum);
            }
            lanes::store_row::<L, VECTORS>(to, &row);
        });
    }
}

/// The tables of one level.
macro_rules! tiles {
    ($lanes:ty, features: [$($feature:literal)?]) => {
        use super::{DepthwiseTiles, Outer, Strip};
        use crate::kernels::conv::lanes;

        $(#[target_feature(enable = $feature)])?
        unsafe fn strip<const PLACES: usize>(strip: &Strip<'_>) {
            // SAFETY: the caller's promise.
            unsafe { super::strip::<$lanes, PLACES>(strip) }
        }

        $(#[target_feature(enable = $feature)])?
        unsafe fn outer<const TAPS: usize>(outer: &mut Outer<'_>) {
            // SAFETY: the caller's promise.
            unsafe { super::outer::<$lanes, TAPS>(outer) }
        }

        pub(super) static TILES: DepthwiseTiles = DepthwiseTiles {
            places: 6,
            taps: 5,
            strip: &[strip::<1>, strip::<2>, strip::<3>, strip::<4>, strip::<5>, strip::<6>],
            outer: &[outer::<1>, outer::<2>, outer::<3>, outer::<4>, outer::<5>],
        };
    };
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    tiles!(lanes::Avx512, features: ["avx512f"]);
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    tiles!(lanes::Avx2, features: ["avx2,fma"]);
}

mod portable {
    tiles!(lanes::Portable, features: []);
}

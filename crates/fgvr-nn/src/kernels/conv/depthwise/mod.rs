//! Depthwise convolutions: each channel of the output reads the same channel of the input alone.
//!
//! There is nothing to multiply as matrices, so registers hold neighbouring channels: a tile is a few
//! places x two registers of channels, and each tap costs one load of the input per product. The input is
//! read where it is. Along each axis neighbouring places that have the same taps inside the input are a
//! [`Segment`]: all of the middle is one, each place of the border its own; so no product with a padded
//! zero is computed, and the inner loop knows no borders.
//!
//! The gradient by the input is the same loop over other taps, as [`Gather`] says. That by the weights
//! keeps the sums of a row of taps in registers while it walks down the places of a block.

use std::ops::Range;

use rayon::prelude::*;

use super::epilogue::Epilogue;
use super::gather::{Axis, Gather};
use super::{ConvShape, LINE, TASKS, Target, even_parts};
use crate::Buffer;
use crate::kernels::rows;

mod tiles;

pub(super) use self::tiles::DepthwiseTiles;
use self::tiles::{Outer, Strip};

/// Lines of places that one task works on, at most: several tasks a thread, so that none waits long.
const PARTS: usize = 4 * TASKS;
/// Places of a partial sum of a gradient by the weights, at least: fewer are added up faster than their sum
/// is.
const PLACES: usize = 64;
/// Places whose products are added up in registers.
const AT_ONCE: usize = 512;

/// The weights (C, 1, k, k) as (taps, C), in the order in which `gather` reads them.
pub(super) fn pack(shape: &ConvShape, gather: &Gather, weight: &[f32]) -> Buffer {
    let (channels, taps) = (shape.c_in, shape.kernel * shape.kernel);
    let mut packed = Buffer::scratch(gather.depth() * channels);
    let rows = packed.chunks_exact_mut(channels);
    for (row, tap) in rows.zip(gather.taps(shape.kernel)) {
        for (to, weight) in row.iter_mut().zip(weight.chunks_exact(taps)) {
            *to = weight[tap];
        }
    }
    packed
}

/// Neighbouring places of an axis that have the same taps inside the source.
struct Segment {
    first: usize,
    count: usize,
    taps: Range<usize>,
}

fn segments(axis: &Axis) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    for i in 0..axis.count {
        // Offsets rise, so the taps inside are neighbours.
        let mut inside = axis.inside_taps(i).map(|(tap, _)| tap);
        let taps = inside.next().map_or(0..0, |first| {
            first..inside.last().map_or(first + 1, |last| last + 1)
        });
        match segments.last_mut() {
            Some(last) if last.taps == taps => last.count += 1,
            _ => segments.push(Segment {
                first: i,
                count: 1,
                taps,
            }),
        }
    }
    segments
}

/// A gather, its packed weights, and its columns in segments.
struct Class<'a> {
    gather: &'a Gather,
    packed: &'a [f32],
    /// With the offsets in the source, relative to a place, and in a line's weights of each tap.
    columns: Vec<(Segment, Vec<(isize, usize)>)>,
}

/// Writes what each of `classes`, a gather with its packed weights, reads of the `n` images of `source`,
/// weighted, to its places of `target`, and does what `epilogue` says on the way.
pub(super) fn multiply(
    tiles: &DepthwiseTiles,
    classes: &[(Gather, Buffer)],
    n: usize,
    source: &[f32],
    target: &mut [f32],
    epilogue: Option<&Epilogue<'_>>,
) {
    let classes: Vec<_> = classes
        .iter()
        .map(|(gather, packed)| Class::new(gather, packed))
        .collect();
    // Lines of all classes that read the same lines of the source, while these are in the cache.
    let rows = classes.iter().map(|class| class.gather.rows.count).max();
    let Some(rows) = rows else {
        return; // no place reads anything
    };
    let parts: Vec<_> = even_parts(n * rows, (n * rows).div_ceil(PARTS)).collect();
    let target = Target::new(target);
    parts.into_par_iter().with_max_len(1).for_each(|part| {
        for index in part {
            let (image, row) = (index / rows, index % rows);
            for class in &classes {
                if row < class.gather.rows.count {
                    class.line(tiles, [image, row], source, target, epilogue);
                }
            }
        }
    });
}

impl<'a> Class<'a> {
    fn new(gather: &'a Gather, packed: &'a [f32]) -> Self {
        let (columns, channels) = (&gather.columns, gather.to_channels);
        let offset = |tap: usize| (columns.offset(tap) * channels as isize, tap * channels);
        let with_offsets = |segment: Segment| {
            let offsets = segment.taps.clone().map(offset).collect();
            (segment, offsets)
        };
        Self {
            gather,
            packed,
            columns: segments(columns).into_iter().map(with_offsets).collect(),
        }
    }

    /// One line of an image of the target.
    fn line(
        &self,
        tiles: &DepthwiseTiles,
        [image, row]: [usize; 2],
        source: &[f32],
        target: Target<'_>,
        epilogue: Option<&Epilogue<'_>>,
    ) {
        let Gather { rows, columns, .. } = self.gather;
        let channels = self.gather.to_channels;
        let line = columns.from_size * channels;
        let taps: Vec<_> = rows
            .inside_taps(row)
            .map(|(tap, from)| {
                let from = (image * rows.from_size + from) * line;
                (from, tap * columns.len() * channels)
            })
            .collect();
        let to = rows.to_first + rows.to_step * row;
        let to = (image * rows.to_size + to) * columns.to_size + columns.to_first;
        // What the next line reads first is fetched meanwhile, a share with each strip.
        let next = taps.last().map_or(0, |(from, _)| from + line);
        let next = next.min(source.len())..(next + rows.from_step * line).min(source.len());
        let share = next.len() * tiles.places / columns.count;
        let mut next = source[next].chunks(share.max(1));
        for (segment, offsets) in &self.columns {
            for strip in even_parts(segment.count, tiles.places) {
                next.next().into_iter().for_each(fetch);
                let place = segment.first + strip.start;
                let to = (to + columns.to_step * place) * channels;
                let step = columns.to_step * channels;
                let len = (strip.len() - 1) * step + channels;
                let from = columns.from_step * place * channels;
                let strip = Strip {
                    source: source.as_ptr().wrapping_add(from),
                    from_step: columns.from_step * channels,
                    rows: &taps,
                    columns: offsets,
                    weights: self.packed.as_ptr(),
                    bias: epilogue.map(|epilogue| epilogue.bias.as_ptr()),
                    residual: (epilogue.and_then(|epilogue| epilogue.residual))
                        .map(|residual| residual[to..][..len].as_ptr()),
                    limits: epilogue.map(Epilogue::limits),
                    target: target.at(to, len),
                    to_step: step,
                    channels,
                    places: strip.len(),
                };
                // SAFETY: the taps of the line and of the segment are inside the source for each of its
                // places, `packed` has a row of channels for each tap, the bias (checked by whoever made
                // the epilogue) one value for each channel. The strip's places are below the target's
                // height and width; no other task has a line of this image and row, and no other class
                // of `multiply` these places.
                unsafe { tiles.multiply(&strip) };
            }
        }
    }
}

/// Asks for `values` to be brought to the second-level cache: the loops walk over the source in many
/// places at once, too many for the processor to foresee.
fn fetch(values: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks(LINE) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: every x86-64 processor has SSE; a prefetch reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// In how many partial sums the lines of a gradient by the weights are added up.
pub(super) fn chunks(gather: &Gather) -> usize {
    let places = gather.n * gather.rows.count * gather.columns.count;
    let lines = gather.n * gather.rows.count;
    (places / PLACES).clamp(1, TASKS.min(lines))
}

/// `sums` (chunks, taps, C) += the products of `x` and `dy`; `gather` is that of the forward pass.
pub(super) fn add_grad_weight(
    tiles: &DepthwiseTiles,
    gather: &Gather,
    x: &[f32],
    dy: &[f32],
    sums: &mut [f32],
) {
    let (rows, columns, channels) = (&gather.rows, &gather.columns, gather.to_channels);
    let of_columns = segments(columns);
    let size = rows.len() * columns.len() * channels;
    let chunks = sums.len() / size;
    let lines = gather.n * rows.count;
    let at_once = (AT_ONCE / columns.count).max(1);
    sums.par_chunks_mut(size)
        .enumerate()
        .with_max_len(1)
        .for_each(|(chunk, sums)| {
            let part = lines * chunk / chunks..lines * (chunk + 1) / chunks;
            if part.is_empty() {
                return;
            }
            for block in even_parts(part.len(), at_once) {
                let block = part.start + block.start..part.start + block.end;
                for row_tap in 0..rows.len() {
                    // Where the lines of x that this row of taps reads start, and those of dy.
                    let pairs: Vec<_> = block
                        .clone()
                        .filter_map(|index| {
                            let (image, row) = (index / rows.count, index % rows.count);
                            let mut inside = rows.inside_taps(row);
                            let (_, from) = inside.find(|(tap, _)| *tap == row_tap)?;
                            let from = (image * rows.from_size + from) * columns.from_size;
                            Some((from * channels, index * columns.count * channels))
                        })
                        .collect();
                    for segment in &of_columns {
                        for group in even_parts(segment.taps.len(), tiles.taps) {
                            let first = segment.taps.start + group.start;
                            let column = (columns.from_step * segment.first) as isize;
                            let column = (column + columns.offset(first)) * channels as isize;
                            let apart = match group.len() {
                                1 => 0,
                                _ => columns.offset(first + 1) - columns.offset(first),
                            };
                            let at = (row_tap * columns.len() + first) * channels;
                            let outer = Outer {
                                x: x.as_ptr().wrapping_offset(column),
                                dy: dy.as_ptr().wrapping_add(segment.first * channels),
                                lines: &pairs,
                                places: segment.count,
                                x_step: columns.from_step * channels,
                                tap_step: apart.unsigned_abs() * channels,
                                channels,
                                sums: &mut sums[at..][..group.len() * channels],
                            };
                            // SAFETY: these taps are inside x for each place of the segment and each
                            // of the lines; dy has a value for each channel of these places.
                            unsafe { tiles.outer(outer, group.len()) };
                        }
                    }
                }
            }
        });
}

/// Adds up the chunks of `sums` (chunks, taps, C), in order, and writes them as `dw` (C, 1, k, k).
pub(super) fn finish(sums: &mut [f32], taps: usize, dw: &mut [f32]) {
    let channels = dw.len() / taps;
    let (sum, others) = sums.split_at_mut(dw.len());
    for other in others.chunks_exact(dw.len()) {
        rows::add_on_thread(sum, other);
    }
    for (channel, dw) in dw.chunks_exact_mut(taps).enumerate() {
        for (dw, sum) in dw.iter_mut().zip(sum.chunks_exact(channels)) {
            *dw = sum[channel];
        }
    }
}

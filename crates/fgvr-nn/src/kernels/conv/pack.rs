//! Weights and gradients in the order in which the tiles read them.
//!
//! A panel is the output channels that one row of a register tile holds. Its packed weights are
//! (depth, width): for each term of a place's sum, in the order in which it is read, the weights of
//! the panel's channels, zeros up to whole registers.

use rayon::prelude::*;

use super::ConvShape;
use super::gather::Gather;
use crate::Buffer;

/// Channels of the target that are worked on at once; all of one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panel {
    pub(super) group: usize,
    /// The first channel, and how many.
    pub(super) first: usize,
    pub(super) columns: usize,
    /// Registers that hold them: 1 or 2.
    pub(super) vectors: usize,
}

impl Panel {
    /// Floats of a packed row.
    pub(super) fn width(&self, lanes: usize) -> usize {
        self.vectors * lanes
    }
}

/// The panels of `channels` in `groups`: two registers each, the last of a group perhaps one.
pub(super) fn panels(lanes: usize, groups: usize, channels: usize) -> Vec<Panel> {
    let size = channels / groups;
    let panel = |group: usize, start: usize| {
        let columns = (size - start).min(2 * lanes);
        Panel {
            group,
            first: group * size + start,
            columns,
            vectors: columns.div_ceil(lanes),
        }
    };
    (0..groups)
        .flat_map(|group| {
            (0..size)
                .step_by(2 * lanes)
                .map(move |start| panel(group, start))
        })
        .collect()
}

/// Packs the weights of a forward convolution, `2 * lanes * depth` floats apart for each panel.
pub(super) fn forward(
    shape: &ConvShape,
    gather: &Gather,
    panels: &[Panel],
    lanes: usize,
    weight: &[f32],
) -> Buffer {
    let rows: Vec<_> = forward_rows(shape, gather).into_iter().map(Some).collect();
    let depth = gather.depth();
    pack(panels, lanes, depth, |panel, packed| {
        let weight = &weight[panel.first * depth..][..panel.columns * depth];
        transpose(
            weight,
            depth,
            panel.columns,
            &rows,
            packed,
            panel.width(lanes),
        );
    })
}

/// The `bias` of each panel's channels, (panels, width), zeros up to whole registers.
pub(super) fn bias(panels: &[Panel], width: usize, bias: &[f32]) -> Buffer {
    let mut packed = Buffer::zeros(panels.len() * width);
    for (panel, packed) in panels.iter().zip(packed.chunks_exact_mut(width)) {
        packed[..panel.columns].copy_from_slice(&bias[panel.first..][..panel.columns]);
    }
    packed
}

/// Packs the weights of one class of a gradient by the input, as [`forward`] does.
pub(super) fn grad_input(
    shape: &ConvShape,
    gather: &Gather,
    panels: &[Panel],
    lanes: usize,
    weight: &[f32],
) -> Buffer {
    let taps = shape.kernel * shape.kernel;
    let channels = gather.channels();
    let mut rows = vec![None; taps];
    for (slot, tap) in gather.taps(shape.kernel).enumerate() {
        rows[tap] = Some(slot * channels);
    }
    let inputs = shape.c_in / shape.groups;
    pack(panels, lanes, gather.depth(), |panel, packed| {
        let width = panel.width(lanes);
        let first = panel.first - panel.group * inputs;
        for output in 0..channels {
            // Weights (O, I, taps): those of one output, for the panel's inputs.
            let weight = &weight[((panel.group * channels + output) * inputs + first) * taps..];
            let weight = &weight[..panel.columns * taps];
            transpose(
                weight,
                taps,
                panel.columns,
                &rows,
                &mut packed[output * width..],
                width,
            );
        }
    })
}

fn pack(
    panels: &[Panel],
    lanes: usize,
    depth: usize,
    one: impl Fn(&Panel, &mut [f32]) + Sync,
) -> Buffer {
    let size = 2 * lanes * depth;
    let mut packed = Buffer::scratch(panels.len() * size);
    packed
        .par_chunks_mut(size)
        .zip(panels)
        .for_each(|(packed, panel)| {
            let packed = &mut packed[..panel.width(lanes) * depth];
            if panel.columns < panel.width(lanes) {
                packed.fill(0.);
            }
            one(panel, packed);
        });
    packed
}

/// For each weight of one output channel, (I/groups, taps): its packed row, (taps, I/groups).
fn forward_rows(shape: &ConvShape, gather: &Gather) -> Vec<usize> {
    let taps = shape.kernel * shape.kernel;
    let channels = gather.channels();
    (0..channels * taps)
        .map(|index| index % taps * channels + index / taps)
        .collect()
}

/// The rows of `weight` (O, ..) that belong to each panel. Panels are in the order of channels.
pub(super) fn weight_rows<'a>(
    shape: &ConvShape,
    panels: &[Panel],
    weight: &'a mut [f32],
) -> Vec<&'a mut [f32]> {
    let mut rest = weight;
    panels
        .iter()
        .map(|panel| {
            let (rows, others) =
                std::mem::take(&mut rest).split_at_mut(panel.columns * shape.fan_in());
            rest = others;
            rows
        })
        .collect()
}

/// The inverse of [`forward`] for one panel: `sums` (depth, width) to the panel's rows of the
/// weights.
pub(super) fn unpack_weight(
    shape: &ConvShape,
    gather: &Gather,
    panel: &Panel,
    lanes: usize,
    sums: &[f32],
    weight: &mut [f32],
) {
    let rows = forward_rows(shape, gather);
    let (width, depth) = (panel.width(lanes), gather.depth());
    squares(panel.columns, depth, |column, index, side| {
        let rows = &rows[index..index + side];
        if side == 1 {
            weight[column * depth + index] = sums[rows[0] * width + column];
        } else {
            let square = transposed(|i| &sums[rows[i] * width + column..]);
            for (i, values) in square.iter().enumerate() {
                weight[(column + i) * depth + index..][..SIDE].copy_from_slice(values);
            }
        }
    });
}

/// The panel's channels of the first `places` places of `values` (places, channels), as (places,
/// width) in `packed`.
pub(super) fn columns<'a>(
    values: &[f32],
    channels: usize,
    panel: &Panel,
    width: usize,
    places: usize,
    packed: &'a mut [f32],
) -> &'a [f32] {
    let packed = &mut packed[..places * width];
    let values = &values[..places * channels];
    match panel.columns {
        // Sizes known to the compiler: registers instead of calls of memcpy.
        32 => copy_rows::<32>(values, channels, panel.first, packed),
        16 if width == 16 => copy_rows::<16>(values, channels, panel.first, packed),
        _ => {
            let values = values.chunks_exact(channels);
            for (packed, values) in packed.chunks_exact_mut(width).zip(values) {
                let (used, unused) = packed.split_at_mut(panel.columns);
                used.copy_from_slice(&values[panel.first..][..panel.columns]);
                unused.fill(0.);
            }
        }
    }
    packed
}

/// N values from `first` of each row of `values` (rows, channels), to `packed` (rows, N).
fn copy_rows<const N: usize>(values: &[f32], channels: usize, first: usize, packed: &mut [f32]) {
    let values = values.chunks_exact(channels);
    for (packed, values) in packed.as_chunks_mut::<N>().0.iter_mut().zip(values) {
        packed.copy_from_slice(&values[first..][..N]);
    }
}

/// Side of the squares that are transposed in registers.
const SIDE: usize = 4;
/// Indices that are transposed together: whole cache lines of each column, so that each is read once
/// even if the columns are a multiple of 4 KiB apart and push each other out of the cache.
const LINE: usize = 256;

/// `to[rows[i] * width + column] = from[column * stride + i]` for every index i that has a row.
fn transpose(
    from: &[f32],
    stride: usize,
    columns: usize,
    rows: &[Option<usize>],
    to: &mut [f32],
    width: usize,
) {
    if stride == 1 {
        if let [Some(row)] = rows {
            to[row * width..][..columns].copy_from_slice(&from[..columns]);
        }
        return;
    }
    squares(columns, rows.len(), |column, index, side| {
        let rows = &rows[index..index + side];
        if side == 1 {
            if let [Some(row)] = rows {
                to[row * width + column] = from[column * stride + index];
            }
        } else if rows.iter().any(Option::is_some) {
            let square = transposed(|i| &from[(column + i) * stride + index..]);
            for (row, values) in rows.iter().zip(&square) {
                if let Some(row) = row {
                    to[row * width + column..][..SIDE].copy_from_slice(values);
                }
            }
        }
    });
}

/// Visits (column, index, side) of squares that cover `columns` x `indices`: of SIDE, the last ones
/// overlapping those before, or of 1 where there are fewer than SIDE columns or indices.
fn squares(columns: usize, indices: usize, mut visit: impl FnMut(usize, usize, usize)) {
    if columns < SIDE || indices < SIDE {
        for index in 0..indices {
            for column in 0..columns {
                visit(column, index, 1);
            }
        }
        return;
    }
    for line in (0..indices).step_by(LINE) {
        for column in (0..columns).step_by(SIDE) {
            for index in (line..indices.min(line + LINE)).step_by(SIDE) {
                visit(column.min(columns - SIDE), index.min(indices - SIDE), SIDE);
            }
        }
    }
}

/// The transpose of the square whose row i is the start of `row(i)`.
#[inline(always)]
fn transposed<'a>(row: impl Fn(usize) -> &'a [f32]) -> [[f32; SIDE]; SIDE] {
    let start = |row: &[f32]| [row[0], row[1], row[2], row[3]];
    transpose_square([start(row(0)), start(row(1)), start(row(2)), start(row(3))])
}

// The compiler does not find the shuffles by itself.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn transpose_square(square: [[f32; SIDE]; SIDE]) -> [[f32; SIDE]; SIDE] {
    use std::arch::x86_64::{
        __m128, _mm_movehl_ps, _mm_movelh_ps, _mm_unpackhi_ps, _mm_unpacklo_ps,
    };
    // SAFETY: four floats either way; every x86-64 processor has SSE.
    unsafe {
        let [a, b, c, d] = std::mem::transmute::<[[f32; SIDE]; SIDE], [__m128; SIDE]>(square);
        let (ab_low, cd_low) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d));
        let (ab_high, cd_high) = (_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d));
        std::mem::transmute::<[__m128; SIDE], [[f32; SIDE]; SIDE]>([
            _mm_movelh_ps(ab_low, cd_low),
            _mm_movehl_ps(cd_low, ab_low),
            _mm_movelh_ps(ab_high, cd_high),
            _mm_movehl_ps(cd_high, ab_high),
        ])
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn transpose_square(square: [[f32; SIDE]; SIDE]) -> [[f32; SIDE]; SIDE] {
    std::array::from_fn(|i| std::array::from_fn(|j| square[j][i]))
}
